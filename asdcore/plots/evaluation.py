"""Plots of a training and of an evaluation. Each function returns a matplotlib Figure; no display is needed."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from asdcore.evaluation.table import systems_of
from asdcore.normality.machine import ANOMALOUS, SUSPECT
from asdcore.plots.colours import ANOMALY, SOURCE, TARGET, line_style

VERDICTS = {
    "suspect": ((SUSPECT, ANOMALOUS), "dashed", "o", "suspect or anomalous"),
    "anomalous": ((ANOMALOUS,), "solid", "D", "anomalous"),
}
"""operating point: the verdicts from there on, and how it is drawn and named"""
LONGEST = 400.0
"""inches, of a side of a figure: below matplotlib's 65,535 pixels at up to 160 dots per inch"""


def training_plot(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and learning rate, effective rank, alignment and uniformity by epoch, as far as they were recorded."""
    table = pd.DataFrame(list(history))
    possible = {
        "loss": ["loss"],
        "effective rank": ["effective_rank_h", "effective_rank_z"],
        "alignment and uniformity": ["alignment", "uniformity"],
    }
    known = {title: [column for column in columns if column in table] for title, columns in possible.items()}
    panels = {title: columns for title, columns in known.items() if columns}
    figure = Figure(figsize=(11 / 3 * len(panels), 3.2), layout="constrained")
    for axes, (title, columns) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for index, column in enumerate(columns):
            colour, dashes, marker = line_style(index)
            label = column.replace("effective_rank_", "")
            axes.plot(table["epoch"], table[column], marker=marker, ms=3, color=colour, linestyle=dashes, label=label)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(columns) > 1:
            axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
        if columns == ["loss"]:
            rate = axes.twinx()
            rate.plot(table["epoch"], table["learning_rate"], color="grey", linewidth=0.8, linestyle=":")
            rate.set_ylabel("learning rate at the epoch's end (dotted)", fontsize=8)
            rate.set_yscale("log")
    return figure


def score_plot(scores: pd.DataFrame, title: str) -> Figure:
    """A histogram of the scores of each machine's test recordings, by label and domain, with the operating point.

    Args:
        scores: columns machine, domain, label, score; and verdict, if the system gives any.
        title: above the panels, for example the system's name.
    """
    finite = scores[np.isfinite(scores["score"]) & scores["label"].isin(["normal", "anomaly"])]
    figure, panels = _grid(sorted(set(finite["machine"])), title)
    kinds = (("normal", "source", SOURCE), ("normal", "target", TARGET), ("anomaly", None, "none"))
    for machine, axes in panels.items():
        rows = finite[finite["machine"] == machine]
        positive = bool((rows["score"] > 0).all())
        bins = _bins(rows["score"], positive)
        counts, below = [], np.zeros(len(bins) - 1)
        for label, domain, colour in kinds:
            chosen = rows[(rows["label"] == label) & ((rows["domain"] == domain) | (domain is None))]
            if not len(chosen):
                continue
            heights = np.histogram(chosen["score"], bins)[0]
            # Normal recordings of both domains stand on each other; the faulty ones are drawn over them as outlines.
            bottom = np.zeros_like(below) if domain is None else below
            name = f"normal, {domain}" if domain else "faulty"
            bars = axes.bar(bins[:-1], heights, np.diff(bins), bottom, align="edge", label=name, facecolor=colour)
            for bar in bars if domain is None else ():
                bar.set(edgecolor=ANOMALY, hatch="////", linewidth=1.0)
            below = below + heights if domain else below
            counts.append(f"{len(chosen)} {name.replace(',', '')}")
        if positive:
            axes.set_xscale("log")
            _label_decades(axes.xaxis, rows["score"])
        else:
            axes.set_xscale("asinh", linear_width=1.0)
            _label_powers(axes.xaxis, float(rows["score"].abs().max()))
        for score, dashes, name in _operating_points(rows):
            axes.axvline(score, color="black", linestyle=dashes, linewidth=1.2, label=f"{name} from here on")
        axes.set_title(drawable(machine), parse_math=False)
        axes.set_xlabel("anomaly score\n" + ", ".join(counts), fontsize=8)
    _legend_below(figure, panels.values())
    return figure


def _bins(scores: "pd.Series[float]", positive: bool) -> NDArray[np.float64]:
    if positive:
        return np.geomspace(scores.min(), scores.max() * 1.001, 30)
    # Fused scores are logarithms, of any sign; the largest are far beyond the others.
    ends = np.arcsinh([scores.min(), scores.max()])
    return np.sinh(np.linspace(ends[0] - 1e-6, ends[1] + 1e-6, 30))


def _operating_points(rows: pd.DataFrame) -> Iterator[tuple[float, str, str]]:
    """Score, dashes and name of the thresholds that divide these recordings: halfway between the nearest two."""
    if "verdict" not in rows or not rows["verdict"].notna().any():
        return
    for name, (verdicts, dashes, _, _) in VERDICTS.items():
        called = rows["verdict"].isin(verdicts)
        if called.any() and not called.all():
            nearest = np.array([rows.loc[~called, "score"].max(), rows.loc[called, "score"].min()])
            yield float(np.sinh(np.arcsinh(nearest).mean())), dashes, name


def roc_plot(scores: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """The ROC curve of each machine, all domains together, one line per system, with the first one's operating point.

    Args:
        scores: system: table as in `score_plot`, on the same test recordings. A machine without faulty or without
            normal ones has no panel.
        title: above the panels.
    """
    first = next(iter(scores.values()))
    known = first[first["label"].isin(["normal", "anomaly"])]
    both = known.groupby("machine")["label"].nunique() == 2
    figure, panels = _grid(sorted(str(machine) for machine in both[both].index), title, width=3.2)
    for machine, axes in panels.items():
        axes.plot([0, 1], [0, 1], color="lightgrey", linewidth=1)
        for index, (system, table) in enumerate(scores.items()):
            rows = table[(table["machine"] == machine) & table["label"].isin(["normal", "anomaly"])]
            if rows["label"].nunique() == 2:
                false_alarms, detected, _ = roc_curve(rows["label"] == "anomaly", rows["score"])
                colour, dashes, _ = line_style(index)
                axes.plot(false_alarms, detected, label=drawable(system), color=colour, linestyle=dashes)
        _mark_operating_points(axes, first[first["machine"] == machine])
        axes.set_title(drawable(machine), parse_math=False)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    _legend_below(figure, panels.values())
    return figure


def _mark_operating_points(axes: Axes, rows: pd.DataFrame) -> None:
    """Where the verdicts are on the curve, as points: they are of those recordings, whatever the threshold is."""
    if "verdict" not in rows or not rows["verdict"].notna().any():
        return
    faulty = rows["label"] == "anomaly"
    for verdicts, _, marker, name in VERDICTS.values():
        called = rows["verdict"].isin(verdicts)
        rates = called[rows["label"] == "normal"].mean(), called[faulty].mean()
        axes.scatter(*rates, s=45, marker=marker, color="white", edgecolors="black", zorder=3, label=name)


def harmonic_mean_plot(table: pd.DataFrame, title: str) -> Figure:
    """The mean of each system over all machines, with its 95 % interval, if it has one.

    Args:
        table: a `results_table`.
        title: above the panel.
    """
    systems = systems_of(table)[::-1]
    last = table.iloc[-1]
    figure = titled_figure(7, 1.3 + 0.4 * len(systems), title)
    axes = figure.subplots()
    axes.axvline(50, color="lightgrey", linewidth=1)
    for position, system in enumerate(systems):
        value, low, high = (float(last[name]) for name in (system, f"{system} low", f"{system} high"))
        measured = np.isfinite([low, high]).all()
        if measured:
            axes.plot([low, high], [position, position], color=SOURCE)
        if np.isfinite(value):
            axes.plot(value, position, "o", color=SOURCE if measured else "grey")
            axes.annotate(
                f"{value:.1f}", (value, position), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8
            )
    axes.set_yticks(range(len(systems)), [drawable(system) for system in systems], parse_math=False)
    axes.set_ylim(-0.6, len(systems) - 0.2)
    metrics = ", ".join(sorted(table["metric"].iloc[:-1].unique()))
    axes.set_xlabel(f"{last['metric']} of {metrics} (%); 50 is chance", fontsize=9)
    return figure


def distribution_plot(scores: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """The scores of each machine by domain and label, one row of panels per system.

    Args:
        scores: system: columns machine, domain, label, score.
        title: above the panels.
    """
    machines = sorted({str(machine) for table in scores.values() for machine in table["machine"]})
    median = {"color": "black", "linewidth": 1.5, "path_effects": [withStroke(linewidth=3, foreground="white")]}
    groups = [(domain, label) for domain in ("source", "target") for label in ("normal", "anomaly")]
    figure = titled_figure(max(6.5, 1.0 + 2.1 * len(machines)), 1.2 + 1.8 * len(scores), title)
    panels = figure.subplots(len(scores), len(machines), squeeze=False, sharex="col")
    for (system, table), row in zip(scores.items(), panels, strict=True):
        row[0].set_ylabel(drawable(system), fontsize=8, parse_math=False)
        for machine, axes in zip(machines, row, strict=True):
            rows = table[(table["machine"] == machine) & np.isfinite(table["score"])]
            by_group = {name: group["score"].to_numpy() for name, group in rows.groupby(["domain", "label"])}
            chosen = [by_group.get(group, []) for group in groups]
            if not len(rows):
                axes.axis("off")
                continue
            boxes = axes.boxplot(
                chosen, widths=0.6, flierprops={"markersize": 3}, patch_artist=True, medianprops=median
            )
            for box, (domain, label) in zip(boxes["boxes"], groups, strict=True):
                box.set_facecolor(ANOMALY if label == "anomaly" else SOURCE if domain == "source" else TARGET)
                box.set_hatch("////" if label == "anomaly" else "")
            if len(rows) and (rows["score"] > 0).all():
                axes.set_yscale("log")
                _label_decades(axes.yaxis, rows["score"])
            axes.set_xticks(range(1, 5), [f"{domain}\n{label}" for domain, label in groups], rotation=45)
            axes.tick_params(labelsize=7)
    for machine, axes in zip(machines, panels[0], strict=True):
        axes.set_title(drawable(machine), fontsize=9, parse_math=False)
    figure.supylabel("anomaly score", fontsize=9)
    return figure


def drawable(name: str) -> str:
    r"""The name in drawable characters: those that the font lacks are escaped, so that names stay distinct.

    >>> drawable("pump [old]"), drawable("\u6cf5 2")
    ('pump [old]', '\\u6cf5 2')
    """
    font = get_font(findfont(FontProperties()))
    drawable_characters = {sign for sign in name if sign == "\n" or font.get_char_index(ord(sign))}
    return "".join(sign if sign in drawable_characters else sign.encode("unicode_escape").decode() for sign in name)


def _label_decades(axis: Axis, values: "pd.Series[float]") -> None:
    """Label a logarithmic axis of few decades: powers of ten alone would be too few labels, all lines too many."""
    if len(values) and values.max() < 100 * values.min():
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def _label_powers(axis: Axis, largest: float) -> None:
    """Label an axis through 0: 0 and a few powers of ten of both signs, the first of them 1."""
    exponents = np.arange(0, math.ceil(math.log10(max(largest, 10.0))) + 1)
    powers = 10.0 ** exponents[:: max(len(exponents) // 4, 1)]
    axis.set_major_locator(FixedLocator([*-powers[::-1], 0.0, *powers]))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def _legend_below(figure: Figure, panels: Iterable[Axes]) -> None:
    """One legend for all panels, below them: in a panel it would hide what is drawn there."""
    handles: dict[str, Any] = {}  # artists, and groups of them, which Matplotlib takes as well
    for axes in panels:
        # What is drawn as an area comes first, and what marks something in it comes after.
        drawn = list(zip(*axes.get_legend_handles_labels(), strict=True))
        for handle, label in sorted(drawn, key=lambda pair: not isinstance(pair[0], BarContainer)):
            handles.setdefault(label, handle)
    if handles:
        legend = figure.legend(
            handles.values(), handles, loc="outside lower center", ncols=6, frameon=False, fontsize="small"
        )
        for text in legend.get_texts():
            text.set_parse_math(False)


def titled_figure(width: float, height: float, title: str) -> Figure:
    """A titled figure of this size in inches, limited to `LONGEST`."""
    figure = Figure(figsize=(min(LONGEST, width), min(LONGEST, height)), layout="constrained")
    figure.suptitle(drawable(title), parse_math=False)
    return figure


def _grid(machines: Sequence[str], title: str, width: float = 4.2) -> tuple[Figure, dict[str, Axes]]:
    columns = min(max(len(machines), 1), 4)
    rows = max(-(-len(machines) // columns), 1)
    figure = titled_figure(max(width * columns, 5.5), 3.4 * rows, title)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[len(machines) :]:
        unused.axis("off")
    if not machines:
        said = "no labelled recordings to draw this from"
        axes[0].text(0.5, 0.5, said, transform=axes[0].transAxes, ha="center", va="center", color="dimgrey")
    return figure, dict(zip(machines, axes, strict=False))
