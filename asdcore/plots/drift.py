"""Drift over time: fraction of alarms and shift of the mean in each scoring run."""

import pandas as pd
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from asdcore.plots.colours import line_style
from asdcore.plots.evaluation import drawable

MOST_MACHINES = 12


def drift_plot(history: pd.DataFrame) -> Figure:
    """Two panels over time, one line per machine; of many machines those that drifted last.

    Args:
        history: one row per machine and run: ``machine, at, alarms, scored, asked, drifted`` and ``shift_<scorer>`` of
            each scorer, of which the largest is drawn; ``at`` is a time.
    """
    latest = history.sort_values("at").groupby("machine").tail(1)
    names = list(latest.sort_values("drifted", ascending=False, kind="stable")["machine"][:MOST_MACHINES])
    figure = Figure(figsize=(8, 6), layout="constrained")
    fractions, shifts = figure.subplots(2, sharex=True)
    shifts_of = [column for column in history if str(column).startswith("shift_")]
    for index, name in enumerate(names):
        colour, dashes, marker = line_style(index)
        style = {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 4}
        machine_history = history[history["machine"] == name].sort_values("at")
        fractions.plot(
            machine_history["at"],
            100 * machine_history["alarms"] / machine_history["scored"].clip(lower=1),
            label=drawable(name),
            **style,
        )
        shifts.plot(machine_history["at"], machine_history[shifts_of].max(axis=1), **style)
    fractions.axhline(100 * float(history["asked"].iloc[-1]), color="black", linestyle=":", label="expected")
    fractions.set(ylabel="called anomalous, %", title="Drift of the machines by scoring run")
    legend = figure.legend(fontsize="small", ncols=4, loc="outside lower center", frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    shifts.set(ylabel="largest shift of the mean,\nin distances of a normal recording", xlabel="time (UTC)")
    for axes in (fractions, shifts):
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    first, last = history["at"].min(), history["at"].max()
    margin = max(0.03 * (last - first), pd.Timedelta(minutes=5))
    shifts.set_xlim(first - margin, last + margin)
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    shifts.xaxis.set_major_locator(locator)
    shifts.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    return figure
