"""DriftReport over time: share of alarms and shift of the mean, run by run."""

import pandas as pd
from matplotlib.figure import Figure

MOST_MACHINES = 12


def drift_plot(history: pd.DataFrame) -> Figure:
    """Two panels over time, a line a machine; of many machines those that drifted last.

    Args:
        history: one row per machine and run: ``machine, at, alarms, scored, asked, shift_embedding, shift_spectrum,
            drifted``; ``at`` is a time.
    """
    latest = history.sort_values("at").groupby("machine").tail(1)
    names = list(latest.sort_values("drifted", ascending=False, kind="stable")["machine"][:MOST_MACHINES])
    figure = Figure(figsize=(8, 6), layout="constrained")
    shares, shifts = figure.subplots(2, sharex=True)
    for name in names:
        own = history[history["machine"] == name].sort_values("at")
        shares.plot(own["at"], 100 * own["alarms"] / own["scored"].clip(lower=1), marker="o", ms=3, label=name)
        shifts.plot(own["at"], own[["shift_embedding", "shift_spectrum"]].max(axis=1), marker="o", ms=3)
    shares.axhline(100 * float(history["asked"].iloc[-1]), color="grey", ls=":", label="expected")
    shares.set(ylabel="called anomalous, %", title="DriftReport of the machines, scoring run by scoring run")
    shares.legend(fontsize="small", ncols=3, loc="upper left")
    shifts.set(ylabel="shift of the mean,\nin distances of a normal recording", xlabel="time (UTC)")
    figure.autofmt_xdate()
    return figure
