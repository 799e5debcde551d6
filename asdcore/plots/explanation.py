"""The plot of an explanation: where a recording differs from what is normal for its machine."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Transform

from asdcore.explanation.explanation import MOST_SENTENCES, Comparison, Explanation
from asdcore.explanation.profile import Trait
from asdcore.normality.machine import ANOMALOUS, NORMAL, SUSPECT
from asdcore.normality.odds import odds
from asdcore.plots.colours import ANOMALY, SOURCE, SUSPECT_TEXT
from asdcore.plots.evaluation import drawable
from asdcore.plots.frequencies import QUIETEST, band_of, frequency_ticks

WORDS = {ANOMALOUS: ("ANOMALOUS", ANOMALY), SUSPECT: ("suspect", SUSPECT_TEXT), NORMAL: ("normal", "black")}
_PANELS: Mapping[Trait, tuple[str, str]] = {
    "level": ("its average, beside what is usual", "level (dB)"),
    "change": ("from frame to frame", "mean change (dB)"),
}
"""title and unit"""
_WIDTHS = [3.0, 2.0, 1.2]
"""of the spectrogram and of the panels beside it"""
_BADGE = 6.0
"""height of a number, in bands"""


def explanation_plot(explanation: Explanation, verdict: Mapping[str, Any]) -> Figure:
    """Spectrogram and average spectrum on one frequency axis, with the findings numbered in both and listed below.

    If a band changes more or less from frame to frame than usual, that is drawn beside them.

    Args:
        explanation: by `asdcore.explanation.explanation.explain`.
        verdict: on this recording, a row of `Detector.score`: path, machine, p_value, verdict.
    """
    text = _text(explanation)
    text_height = 0.3 + 0.17 * (text.count("\n") + 1)
    figure = Figure(figsize=(11, 6.0 + text_height), layout="constrained")
    word, colour = WORDS[verdict["verdict"]]
    title = drawable(f"{verdict['machine']}: {word}")
    figure.suptitle(title, fontsize=15, fontweight="bold", color=colour, parse_math=False)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[5.6, text_height])[:, 0]
    compared = _compared(explanation)
    left, *others = upper.subplots(1, 1 + len(compared), sharey=True, width_ratios=_WIDTHS[: 1 + len(compared)])
    panels = dict(zip(compared, others, strict=True))
    about = f"{Path(verdict['path']).name}\n{odds(verdict['p_value'], verdict['verdict'])}"
    upper.suptitle(drawable(about), fontsize=9, color="dimgrey", parse_math=False)
    _draw_spectrogram(left, explanation)
    for trait, axes in panels.items():
        _draw_comparison(axes, compared[trait], *_PANELS[trait])
    panels["level"].legend(loc="upper center", bbox_to_anchor=(0.5, -0.11), fontsize=8, frameon=False)
    _mark(left, panels, explanation)
    lower.text(0.02, 1.0, text, va="top", fontsize=9.5, parse_math=False)
    return figure


def _text(explanation: Explanation) -> str:
    """What triggered, and the findings with the numbers that they have in the plot."""
    findings = len(explanation.findings[:MOST_SENTENCES])
    numbered = [f"{i}  {text}" if i <= findings else text for i, text in enumerate(explanation.listed, start=1)]
    paragraphs = [explanation.trigger, *numbered] if explanation.trigger else numbered
    return "\n".join(textwrap.fill(paragraph, 140, subsequent_indent="    ") for paragraph in paragraphs)


def _compared(explanation: Explanation) -> dict[Trait, Comparison]:
    """What is drawn beside what is usual: the level, and the change from frame to frame if there is a finding of it."""
    compared: dict[Trait, Comparison] = {"level": explanation.level}
    if any(finding.trait == "change" for finding in explanation.findings[:MOST_SENTENCES]):
        compared["change"] = explanation.change
    return compared


def _draw_spectrogram(axes: Axes, explanation: Explanation) -> None:
    n_mels, n_frames = explanation.spectrogram.shape
    loudest = float(np.quantile(explanation.spectrogram, 0.999))
    hop = explanation.frame_seconds
    axes.imshow(
        explanation.spectrogram,
        origin="lower",
        aspect="auto",
        extent=(-hop / 2, (n_frames - 0.5) * hop, 0, n_mels),
        cmap="Greys",
        vmin=max(loudest - QUIETEST, float(explanation.spectrogram.min())),
        vmax=loudest,
        interpolation="nearest",
    )
    axes.set_title("this recording over time (darker is louder)", fontsize=10)
    axes.set(xlabel="time (s)", ylabel="frequency")
    axes.set_yticks(*zip(*frequency_ticks(explanation.edges), strict=True))


def _draw_comparison(axes: Axes, compared: Comparison, title: str, unit: str) -> None:
    bands = np.arange(len(compared.values)) + 0.5
    low, high = compared.expected - compared.usual, compared.expected + compared.usual
    axes.fill_betweenx(bands, low, high, color=SOURCE, alpha=0.2, linewidth=0, label="usual range of normal recordings")
    axes.plot(compared.expected, bands, color=SOURCE, linewidth=1, label="expected of a normal recording")
    axes.plot(compared.values, bands, color="black", linewidth=1.4, label="this recording")
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit)
    axes.grid(axis="x", color="lightgrey", linewidth=0.5)


def _mark(left: Axes, panels: Mapping[Trait, Axes], explanation: Explanation) -> None:
    """Number the findings in place: all of them in the spectrogram, and those that a panel shows in it, too."""
    seconds = (explanation.spectrogram.shape[1] - 1) * explanation.frame_seconds
    placed: list[float] = []
    for number, finding in enumerate(explanation.findings[:MOST_SENTENCES], start=1):
        start, end = (band_of(explanation.edges, hz) for hz in finding.hz)
        colour = ANOMALY if finding.decibels > 0 and finding.kind != "gaps" else SOURCE
        for first, last in finding.times or ((0.0, seconds),):
            size = (last - first, end - start)
            # An outline with a white rim: what is inside stays as visible as the rest.
            outline = Rectangle((first, start), *size, fill=False, edgecolor=colour, linewidth=1.4)
            outline.set_path_effects([withStroke(linewidth=3, foreground="white")])
            left.add_patch(outline)
        middle = (start + end) / 2
        near = sum(abs(middle - other) < _BADGE for other in placed)
        placed.append(middle)
        # Beside the spectrogram, at its frequency: within, it would cover what it points to.
        _number(left, 1.02 + 0.035 * near, middle, number, colour, left.get_yaxis_transform())
        if panel := panels.get(finding.trait):
            panel.axhspan(start, end, facecolor=colour, alpha=0.15, zorder=0)
            _number(panel, 0.96 - 0.06 * near, middle, number, colour, panel.get_yaxis_transform())


def _number(axes: Axes, x: float, y: float, number: int, colour: str, transform: Transform) -> None:
    badge = {"boxstyle": "circle,pad=0.2", "facecolor": colour, "edgecolor": "white"}
    text = axes.text(x, y, str(number), color="white", fontsize=8, fontweight="bold", ha="center", va="center")
    text.set_transform(transform)
    text.set_bbox(badge)
