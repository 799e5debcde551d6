"""The first picture of an evaluation: how many faults are caught, and how many alarms are false."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from asdcore.monitoring.outcomes import FAULTY
from asdcore.monitoring.reliability import Achieved, Reliability
from asdcore.plots.colours import ANOMALY, MISSED, SOURCE, SUSPECT
from asdcore.plots.evaluation import drawable, titled_figure

_ROW = 0.34
"""inches"""
_BAR = 0.62
"""height of a bar, in rows"""


def outcomes_plot(
    counted: pd.DataFrame, title: str, false_alarm_rate: float, own_rates: Mapping[str, float] | None = None
) -> Figure:
    """A bar for each machine's faulty test recordings and for its normal ones: which part is anomalous, and suspect.

    Args:
        counted: see `asdcore.monitoring.outcomes.outcomes`.
        title: above the panel.
        false_alarm_rate: that was asked for; marked at the normal recordings.
        own_rates: the same of machines that have a rate of their own.
    """
    figure = titled_figure(8.5, 1.6 + _ROW * (len(counted) + 0.6 * counted["machine"].nunique()), title)
    axes = figure.subplots()
    ticks: list[tuple[float, str]] = []
    y = 0.0
    for machine, rows in counted.groupby("machine"):
        axes.text(0, y, drawable(str(machine)), fontweight="bold", va="center", parse_math=False)
        for row in rows.to_dict("records"):
            y += 1
            faulty = row["recordings_of"] == FAULTY
            called = int(row["anomalous"] + row["suspect"])
            _bar(axes, y, row["n"], row["anomalous"], row["suspect"])
            axes.plot([100 * row["low"], 100 * row["high"]], [y, y], color="black", linewidth=1.2, marker="|")
            said = f"{'caught' if faulty else 'false alarms'} {called} of {row['n']}"
            axes.text(102, y, said, va="center", fontsize=9)
            if not faulty:
                asked = 100 * (own_rates or {}).get(str(machine), false_alarm_rate)
                axes.plot([asked, asked], [y - 0.5, y + 0.5], color="black", linestyle=":", linewidth=1.6)
            ticks.append((y, "faulty" if faulty else f"normal, {row['recordings_of']}"))
        y += 1.2
    axes.set_yticks(*zip(*ticks, strict=True), fontsize=9)
    axes.set_ylim(y - 0.4, -0.7)
    _finish(axes, "recordings, %")
    handles = [
        Patch(facecolor=ANOMALY, edgecolor="black", linewidth=0.5, label="anomalous"),
        Patch(facecolor=SUSPECT, edgecolor="black", linewidth=0.5, hatch="///", label="suspect"),
        Patch(facecolor=MISSED, edgecolor="black", linewidth=0.5, label="called normal"),
        *axes.plot([], [], color="black", marker="|", linewidth=1.2, label="95 % interval"),
        *axes.plot([], [], color="black", linestyle=":", linewidth=1.6, label="asked for at most"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize="small")
    return figure


def reliability_plot(report: Reliability, name: str) -> Figure:
    """False alarms of one machine's detector on normal recordings that it had not seen, beside the rate asked for.

    Args:
        report: of the machine.
        name: of the machine, for the title.
    """
    parts: list[tuple[str, Achieved]] = [
        (f"{kind}{'' if domain == 'all' else f', {domain}'}", achieved)
        for kind, by_domain in (("training, left out in turn", report.left_out), ("test", report.test))
        for domain, achieved in by_domain.items()
        if achieved.recordings and (domain == "all" or len(by_domain) > 2)
    ]
    figure = titled_figure(8.5, 1.9 + _ROW * max(len(parts), 1), f"{name}: false alarms on normal recordings")
    axes = figure.subplots()
    for y, (_, part) in enumerate(parts):
        rate = 100 * part.alarms / part.recordings
        axes.plot([100 * part.low, 100 * part.high], [y, y], color=SOURCE, marker="|", linewidth=1.5)
        axes.plot(rate, y, "o", color=SOURCE, clip_on=False)
        said = f"{part.alarms} of {part.recordings}"
        axes.text(1.02, y, said, va="center", fontsize=9, transform=axes.get_yaxis_transform())
    axes.axvline(100 * report.asked, color="black", linestyle=":", linewidth=1.6)
    axes.set_yticks(range(len(parts)), [drawable(label) for label, _ in parts], fontsize=9, parse_math=False)
    axes.set_ylim(len(parts) - 0.4, -0.6)
    _finish(axes, "called anomalous, % of the recordings (line: 95 % interval)")
    largest = max((100 * max(part.high, report.asked) for _, part in parts), default=100.0)
    axes.set_xlim(0, min(1.05 * largest, 100))
    figure.legend(
        handles=axes.plot([], [], color="black", linestyle=":", label=f"asked for: {100 * report.asked:g} %"),
        loc="outside lower center",
        frameon=False,
        fontsize="small",
    )
    return figure


def _bar(axes: Axes, y: float, n: int, anomalous: int, suspect: int) -> None:
    """The parts of n recordings as one bar of 100 %."""
    start = 0.0
    for count, colour, hatch in ((anomalous, ANOMALY, ""), (suspect, SUSPECT, "///"), (None, MISSED, "")):
        width = 100 - start if count is None else 100 * count / n
        if width > 0:
            axes.barh(y, width, _BAR, start, color=colour, hatch=hatch, edgecolor="black", linewidth=0.5)
        start += width


def _finish(axes: Axes, label: str) -> None:
    axes.set_xlim(0, 100)
    axes.set_xlabel(label)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
