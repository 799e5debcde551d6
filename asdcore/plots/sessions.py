"""The plot of what more sessions would bring a machine."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asdcore.monitoring.next_session import NextSession
from asdcore.plots.colours import ANOMALY, SOURCE
from asdcore.plots.evaluation import drawable


def sessions_plot(points: Sequence[NextSession], name: str, asked: float, needed: int | None = None) -> Figure:
    """False alarms of sessions not heard, against the number of sessions known.

    Args:
        points: by number of sessions, one or more.
        name: of the machine, for the title.
        asked: false-alarm rate.
        needed: sessions that support this rate; None: not known.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    known = [point.sessions for point in points]
    strange = [100 * point.strange for point in points]
    axes.fill_between(known, strange, [100 * point.largest for point in points], color=SOURCE, alpha=0.12, linewidth=0)
    axes.plot(known, strange, "o--", color=SOURCE, label="suspect or anomalous (shaded: up to the worst draw)")
    axes.plot(known, [100 * point.anomalous for point in points], "o-", color=ANOMALY, label="anomalous")
    axes.axhline(100 * asked, color="0.35", linestyle=":", label=f"asked for: {100 * asked:g} %")
    title = f"{name}: false alarms of the next session"
    if needed:
        title += f"\nabout {needed} such sessions support {100 * asked:g} %"
    axes.set(title=drawable(title), xlabel="sessions known", ylabel="normal recordings, %", ylim=(-3, 103))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(frameon=False, loc="outside lower center", ncols=2, fontsize="small")
    return figure
