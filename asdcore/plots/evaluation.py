"""Plots of a training and of an evaluation. Each function returns a matplotlib Figure; no display is needed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator
from sklearn.metrics import roc_curve

from asdcore.evaluation.table import systems_of

SOURCE, TARGET, ANOMALY = "tab:blue", "tab:cyan", "tab:red"
LONGEST = 400.0
"""inches, of a side of a figure: below matplotlib's 65,535 pixels at up to 160 dots per inch"""


def training_plot(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and learning rate, effective rank, alignment and uniformity by epoch."""
    table = pd.DataFrame(list(history))
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels: list[tuple[str, list[str]]] = [
        ("loss", ["loss"]),
        ("effective rank", ["effective_rank_h", "effective_rank_z"]),
        ("alignment and uniformity", ["alignment", "uniformity"]),
    ]
    for axes, (title, columns) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for column in columns:
            axes.plot(table["epoch"], table[column], marker=".", label=column.replace("effective_rank_", ""))
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(columns) > 1:
            axes.legend(frameon=False, loc="center right")
        if columns == ["loss"]:
            rate = axes.twinx()
            rate.plot(table["epoch"], table["learning_rate"], color="grey", linewidth=0.8, linestyle=":")
            rate.set_ylabel("learning rate at the epoch's end")
            rate.set_yscale("log")
    return figure


def score_plot(scores: pd.DataFrame, title: str) -> Figure:
    """A histogram of the scores of each machine's test recordings, by label and domain.

    Args:
        scores: columns machine, domain, label, score.
        title: above the panels, for example the system's name.
    """
    figure, panels = _grid(sorted(set(scores["machine"])), title)
    for machine, axes in panels.items():
        rows = scores[(scores["machine"] == machine) & np.isfinite(scores["score"])]
        finite = rows["score"]
        if positive := bool(len(finite) and (finite > 0).all()):
            bins = np.geomspace(finite.min(), finite.max() * 1.001, 30).tolist()
        else:  # Fused scores are logarithms, of any sign; the largest are far beyond the others.
            ends = np.arcsinh([finite.min(), finite.max()]) if len(finite) else np.zeros(2)
            bins = np.sinh(np.linspace(ends[0] - 1e-6, ends[1] + 1e-6, 30)).tolist()
        for label, domain, colour in (
            ("normal", "source", SOURCE),
            ("normal", "target", TARGET),
            ("anomaly", None, ANOMALY),
        ):
            chosen = rows[(rows["label"] == label) & ((rows["domain"] == domain) | (domain is None))]
            if len(chosen):
                name = f"{label} {domain or 'both domains'} ({len(chosen)})"
                axes.hist(chosen["score"], bins=bins, alpha=0.55, color=colour, label=name)
        axes.margins(y=0.4)  # Room for the legend.
        if positive:
            axes.set_xscale("log")
            _label_decades(axes.xaxis, finite)
        else:
            axes.set_xscale("asinh", linear_width=1.0)
            _label_powers(axes.xaxis, float(finite.abs().max()) if len(finite) else 1.0)
        axes.set_title(drawable(machine), parse_math=False)
        axes.set_xlabel("anomaly score")
        _legend(axes)
    return figure


def roc_plot(scores: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """The ROC curve of each machine, all domains together, one line per system.

    Args:
        scores: system: table as in `score_plot`, on the same test recordings.
        title: above the panels.
    """
    machines = sorted(set(next(iter(scores.values()))["machine"]))
    figure, panels = _grid(machines, title)
    for machine, axes in panels.items():
        axes.plot([0, 1], [0, 1], color="lightgrey", linewidth=1)
        for index, (system, table) in enumerate(scores.items()):
            rows = table[(table["machine"] == machine) & table["label"].isin(["normal", "anomaly"])]
            if rows["label"].nunique() == 2:
                false_alarms, detected, _ = roc_curve(rows["label"] == "anomaly", rows["score"])
                axes.plot(false_alarms, detected, label=drawable(system), color=f"C{index}")
        axes.set_title(drawable(machine), parse_math=False)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        if len(axes.get_lines()) == 1:
            _nothing(axes)
    # One legend for all panels: with six systems it would hide the curves.
    lines = {str(line.get_label()): line for axes in panels.values() for line in axes.get_lines()[1:]}
    if lines:
        legend = figure.legend(
            lines.values(), lines, loc="outside lower center", ncols=6, frameon=False, fontsize="small"
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def harmonic_mean_plot(table: pd.DataFrame, title: str) -> Figure:
    """The harmonic mean of each system, with its 95 % interval, if it has one.

    Args:
        table: a `results_table`.
        title: above the panel.
    """
    systems = systems_of(table)[::-1]
    last = table.iloc[-1]
    figure = _figure(7, 1.3 + 0.4 * len(systems), title)
    axes = figure.subplots()
    axes.axvline(50, color="lightgrey", linewidth=1)
    for position, system in enumerate(systems):
        value, low, high = (float(last[name]) for name in (system, f"{system} low", f"{system} high"))
        measured = np.isfinite([low, high]).all()
        if measured:
            axes.plot([low, high], [position, position], color="tab:blue")
        if np.isfinite(value):
            axes.plot(value, position, "o", color="tab:blue" if measured else "grey")
            axes.annotate(
                f"{value:.1f}", (value, position), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8
            )
    axes.set_yticks(range(len(systems)), [drawable(system) for system in systems], parse_math=False)
    axes.set_ylim(-0.6, len(systems) - 0.2)
    axes.set_xlabel("harmonic mean of AUC source, AUC target, pAUC (%); 50 is chance", fontsize=9)
    return figure


def distribution_plot(scores: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """The scores of each machine by domain and label, one row of panels per system.

    Args:
        scores: system: columns machine, domain, label, score.
        title: above the panels.
    """
    machines = sorted({str(machine) for table in scores.values() for machine in table["machine"]})
    groups = [(domain, label) for domain in ("source", "target") for label in ("normal", "anomaly")]
    figure = _figure(max(6.5, 1.0 + 2.1 * len(machines)), 1.2 + 1.8 * len(scores), title)
    panels = figure.subplots(len(scores), len(machines), squeeze=False, sharex="col")
    for (system, table), row in zip(scores.items(), panels, strict=True):
        row[0].set_ylabel(drawable(system), fontsize=8, parse_math=False)
        for machine, axes in zip(machines, row, strict=True):
            rows = table[(table["machine"] == machine) & np.isfinite(table["score"])]
            by_group = {name: group["score"].to_numpy() for name, group in rows.groupby(["domain", "label"])}
            chosen = [by_group.get(group, []) for group in groups]
            boxes = axes.boxplot(chosen, widths=0.6, flierprops={"markersize": 3}, patch_artist=True)
            for box, (domain, label) in zip(boxes["boxes"], groups, strict=True):
                box.set_facecolor(ANOMALY if label == "anomaly" else SOURCE if domain == "source" else TARGET)
                box.set_alpha(0.6)
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


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[1]:
        for text in axes.legend(frameon=False, fontsize="small", loc="upper right").get_texts():
            text.set_parse_math(False)
    else:
        _nothing(axes)


def _nothing(axes: Axes) -> None:
    said = "no labelled recordings to draw this from"
    axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center", color="grey")


def _figure(width: float, height: float, title: str) -> Figure:
    """A titled figure of this size in inches, limited to `LONGEST`."""
    figure = Figure(figsize=(min(LONGEST, width), min(LONGEST, height)), layout="constrained")
    figure.suptitle(drawable(title), parse_math=False)
    return figure


def _grid(machines: Sequence[str], title: str) -> tuple[Figure, dict[str, Axes]]:
    columns = min(len(machines), 4)
    rows = -(-len(machines) // columns)
    figure = _figure(4.2 * columns, 3.4 * rows, title)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[len(machines) :]:
        unused.axis("off")
    return figure, dict(zip(machines, axes, strict=False))
