"""Drift over time: fraction of alarms and shift of the mean in each scoring run."""

import pandas as pd
from matplotlib.figure import Figure

MOST_MACHINES = 12


def drift_plot(history: pd.DataFrame) -> Figure:
    """Two panels over time, one line per machine; of many machines those that drifted last.

    Args:
        history: one row per machine and run: ``machine, at, alarms, scored, asked, shift_embedding, shift_spectrum,
            drifted``; ``at`` is a time.
    """
    latest = history.sort_values("at").groupby("machine").tail(1)
    names = list(latest.sort_values("drifted", ascending=False, kind="stable")["machine"][:MOST_MACHINES])
    figure = Figure(figsize=(8, 6), layout="constrained")
    fractions, shifts = figure.subplots(2, sharex=True)
    for name in names:
        machine_history = history[history["machine"] == name].sort_values("at")
        fractions.plot(
            machine_history["at"],
            100 * machine_history["alarms"] / machine_history["scored"].clip(lower=1),
            marker="o",
            ms=3,
            label=name,
        )
        shifts.plot(
            machine_history["at"], machine_history[["shift_embedding", "shift_spectrum"]].max(axis=1), marker="o", ms=3
        )
    fractions.axhline(100 * float(history["asked"].iloc[-1]), color="grey", ls=":", label="expected")
    fractions.set(ylabel="called anomalous, %", title="Drift of the machines by scoring run")
    fractions.legend(fontsize="small", ncols=3, loc="upper left")
    shifts.set(ylabel="shift of the mean,\nin distances of a normal recording", xlabel="time (UTC)")
    figure.autofmt_xdate()
    return figure
