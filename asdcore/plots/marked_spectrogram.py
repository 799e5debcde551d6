"""Spectrograms beside each other in a page: one colour scale, one bar of dB, and the marked places."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from asdcore.arrays import Floats
from asdcore.explanation.findings import Finding, Span
from asdcore.features.spectrogram import Spectrogram
from asdcore.plots.frequencies import QUIETEST, band_of, frequency_ticks
from asdcore.plots.svg import add, drawing, grey_png, text_of

_WIDTH, _HEIGHT = 460.0, 280.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 6.0, 8.0, 38.0
_ACROSS, _DOWN = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
MOST_FRAMES = 800
"""columns of an image; of more frames, the loudest of several is shown"""
_LEVELS = 64
"""of grey: steps of 1 dB"""
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600)
"""seconds between the ticks of a time axis"""
_BADGE = 18.0
"""height of a number"""


def scale_of(*spectrograms: Spectrogram) -> Span:
    """Bottom and top of one colour scale, dB: the loudest of all, and `QUIETEST` below it or the quietest."""
    top = max(float(np.quantile(values, 0.999)) for values in spectrograms)
    return max(top - QUIETEST, min(float(values.min()) for values in spectrograms)), top


def marked_spectrogram(
    spectrogram: Spectrogram,
    edges: Floats,
    frame_seconds: float,
    scale: Span,
    findings: Sequence[Finding],
    description: str,
    *,
    numbered: bool = True,
) -> str:
    """A spectrogram as SVG: darker is louder.

    Args:
        spectrogram: (n_mels, n_frames), dB.
        edges: (n_mels + 1,), Hz.
        frame_seconds: from one frame to the next.
        scale: dB, of white and black; see `scale_of`.
        findings: the places to mark, in the order of their numbers.
        description: for those who cannot see it.
        numbered: mark them with their numbers where and when they are; else only their frequencies, dashed: places to
            compare with.
    """
    figure = drawing(_WIDTH, _HEIGHT, description)
    n_frames = spectrogram.shape[1]
    seconds = n_frames * frame_seconds
    box = {"x": _LEFT, "y": _TOP, "width": _ACROSS, "height": _DOWN}
    add(figure, "image", **box, href=_image(spectrogram, scale), preserveAspectRatio="none", class_="spectrogram")
    add(figure, "rect", **box, class_="frame")
    for band, name in frequency_ticks(edges):
        y = _y(edges, band)
        add(figure, "line", x1=_LEFT - 4, x2=_LEFT, y1=y, y2=y, class_="tick")
        add(figure, "text", name, x=_LEFT - 7, y=y + 4, text_anchor="end", class_="axis")
    for time, name in _time_ticks(seconds):
        x = _LEFT + _ACROSS * time / seconds
        add(figure, "line", x1=x, x2=x, y1=_TOP + _DOWN, y2=_TOP + _DOWN + 4, class_="tick")
        add(figure, "text", name, x=x, y=_TOP + _DOWN + 17, text_anchor="middle", class_="axis")
    add(figure, "text", "time (s)", x=_LEFT + _ACROSS / 2, y=_HEIGHT - 5, text_anchor="middle", class_="axis")
    for finding in findings:
        low, high = (_y(edges, band_of(edges, hz)) for hz in finding.hz)
        spans = finding.times if numbered and finding.times else ((0.0, seconds),)
        for start, end in spans:
            x, right = (_LEFT + _ACROSS * min(max(time / seconds, 0.0), 1.0) for time in (start, end))
            kind = f"mark {_kind(finding)}" + ("" if numbered else " compared")
            add(figure, "rect", x=x, y=high, width=right - x, height=low - high, class_=kind)
    if numbered:
        _number(figure, findings, edges, seconds)
    return text_of(figure)


def decibel_bar(scale: Span) -> str:
    """The colour scale of `marked_spectrogram` as SVG."""
    bottom, top = scale
    width, left, height = 460.0, 50.0, 38.0
    across = width - left - 6
    figure = drawing(width, height, f"Colour scale from {bottom:.0f} dB, light, to {top:.0f} dB, dark")
    bar = {"x": left, "y": 2.0, "width": across, "height": 10.0}
    shades = _grey(np.linspace(bottom, top, 256, dtype=np.float32)[None], scale)
    add(figure, "image", **bar, href=grey_png(shades), preserveAspectRatio="none", class_="spectrogram")
    add(figure, "rect", **bar, class_="frame")
    add(figure, "text", "dB", x=left - 20, y=28, text_anchor="end", class_="axis")
    for decibels in range(int(np.ceil(bottom / 10)) * 10, int(top) + 1, 10):
        x = left + across * (decibels - bottom) / max(top - bottom, 1e-6)
        add(figure, "line", x1=x, x2=x, y1=12, y2=16, class_="tick")
        add(figure, "text", f"{decibels}".replace("-", "−"), x=x, y=28, text_anchor="middle", class_="axis")
    return text_of(figure)


def _kind(finding: Finding) -> str:
    return "more" if finding.decibels > 0 and finding.kind != "gaps" else "less"


def _number(figure: Element, findings: Sequence[Finding], edges: Floats, seconds: float) -> None:
    placed: list[float] = []
    for number, finding in enumerate(findings, start=1):
        middle = sum(_y(edges, band_of(edges, hz)) for hz in finding.hz) / 2
        near = sum(abs(middle - other) < _BADGE for other in placed)
        placed.append(middle)
        x = _LEFT + (_ACROSS * finding.times[0][0] / seconds if finding.times else 12.0 + _BADGE * near)
        add(figure, "circle", cx=x, cy=middle, r=8, class_=f"badge {_kind(finding)}")
        add(figure, "text", str(number), x=x, y=middle + 4, text_anchor="middle", class_="number")


def _y(edges: Floats, band: float) -> float:
    return _TOP + _DOWN * (1 - band / (len(edges) - 1))


def _time_ticks(seconds: float) -> list[tuple[float, str]]:
    """
    >>> _time_ticks(10.0)
    [(0.0, '0'), (2.0, '2'), (4.0, '4'), (6.0, '6'), (8.0, '8'), (10.0, '10')]
    """
    step = next((step for step in _STEPS if seconds / step <= 6), _STEPS[-1])
    return [(float(time), f"{time:g}") for time in np.arange(0, seconds + 1e-9, step).round(1)]


def _image(spectrogram: Spectrogram, scale: Span) -> str:
    n_frames = spectrogram.shape[1]
    if n_frames > MOST_FRAMES:
        starts = np.linspace(0, n_frames, MOST_FRAMES, endpoint=False).astype(int)
        spectrogram = np.maximum.reduceat(spectrogram, starts, axis=1)
    return grey_png(_grey(spectrogram[::-1], scale))


def _grey(decibels: Spectrogram, scale: Span) -> NDArray[np.uint8]:
    """White at the bottom of the scale, black at its top."""
    bottom, top = scale
    loudness = np.clip((decibels - bottom) / max(top - bottom, 1e-6), 0, 1)
    grey: NDArray[np.uint8] = (255 - np.round(loudness * (_LEVELS - 1)) * (255 / (_LEVELS - 1))).astype(np.uint8)
    return grey
