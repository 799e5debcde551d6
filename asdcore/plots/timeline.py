"""The scores of recordings one after the other, session by session, as SVG for a page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.etree.ElementTree import Element

import numpy as np

from asdcore.normality.machine import ANOMALOUS, SUSPECT
from asdcore.plots.svg import add, drawing, text_of

_WIDTH, _HEIGHT = 900.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 70.0, 12.0, 30.0
_ACROSS, _DOWN = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_LETTER = 6.6
"""width"""
_LINE = 14.0
"""height of text"""
_ROOM = 22.0
"""between the numbers of an axis"""


@dataclass(frozen=True)
class Point:
    """A recording in a timeline."""

    score: float
    verdict: str
    text: str
    """what is shown of it when the pointer is on it"""
    session: str = ""
    faulty: bool = False
    """known to be anomalous, by its label"""
    link: str = ""
    """where in the page there is more about it"""


@dataclass(frozen=True)
class _Scale:
    """Linear among most of the scores, logarithmic far away: one enormous score must not hide how the others differ."""

    low: float
    high: float
    centre: float
    unit: float

    @classmethod
    def of(cls, scores: Sequence[float], lines: Sequence[float]) -> "_Scale":
        known = np.array([score for score in scores if math.isfinite(score)] or [0.0])
        low, centre, high = (float(value) for value in np.quantile(known, [0.25, 0.5, 0.75]))
        unit = max([2 * (high - low), *(line - centre for line in lines)]) or 1.0
        everything = [*known, *lines]
        own = cls(0.0, 1.0, centre, unit)
        ends = sorted(own._bent(end) for end in (min(everything), max(everything)))
        margin = 0.07 * (ends[1] - ends[0] or 1.0)
        return cls(ends[0] - margin, ends[1] + margin, centre, unit)

    def _bent(self, score: float) -> float:
        return math.asinh((score - self.centre) / self.unit)

    def y(self, score: float) -> float:
        """The position of a score; infinite ones stand at the edge."""
        bent = min(max(self._bent(score), self.low), self.high)
        return _TOP + _DOWN * (1 - (bent - self.low) / (self.high - self.low))

    def ticks(self) -> list[float]:
        """Round scores that have room, the roundest first."""
        ends = [self.centre + self.unit * math.sinh(bent) for bent in (self.low, self.high)]
        most = math.floor(math.log10(max(map(abs, ends))))
        sizes = [factor * 10.0**power for factor in (1, 5, 2, 3) for power in range(most, most - 4, -1)]
        chosen: list[float] = []
        for score in [0.0, *(sign * size for size in sizes for sign in (1, -1))]:
            y = self.y(score)
            if ends[0] < score < ends[1] and all(abs(y - self.y(other)) > _ROOM for other in chosen):
                chosen.append(score)
        return sorted(chosen)


def timeline(points: Sequence[Point], lines: Mapping[str, float], description: str) -> str:
    """A point for each recording, at its score, in their order.

    Args:
        points: recordings of one machine; those of a session stand together.
        lines: verdict: the score from which on it holds, drawn as a line.
        description: for those who cannot see it.
    """
    figure = drawing(_WIDTH, _HEIGHT, description)
    scale = _Scale.of([point.score for point in points], list(lines.values()))
    _draw_sessions(figure, points)
    add(figure, "rect", x=_LEFT, y=_TOP, width=_ACROSS, height=_DOWN, class_="frame")
    for score in scale.ticks():
        y = scale.y(score)
        add(figure, "line", x1=_LEFT - 4, x2=_LEFT, y1=y, y2=y, class_="tick")
        add(figure, "text", f"{score:g}".replace("-", "−"), x=_LEFT - 7, y=y + 4, text_anchor="end", class_="axis")
    lowest = _HEIGHT
    for name, score in sorted(lines.items(), key=lambda line: line[1]):
        y = scale.y(score)
        add(figure, "line", x1=_LEFT, x2=_LEFT + _ACROSS, y1=y, y2=y, class_=f"limit {name}")
        lowest = min(y, lowest - _LINE)  # Names of neighbours do not overlap.
        add(figure, "text", name, x=_LEFT + _ACROSS + 5, y=lowest + 4, class_=f"axis {name}")
    for index, point in enumerate(points):
        parent = add(figure, "a", href=point.link) if point.link else figure
        _draw_point(parent, point, _x(index, len(points)), scale.y(point.score))
    return text_of(figure)


def _x(index: float, count: int) -> float:
    return _LEFT + _ACROSS * (index + 0.5) / max(count, 1)


def _draw_sessions(figure: Element, points: Sequence[Point]) -> None:
    """Every second one shaded; named where its name has room."""
    start = 0
    for number, (session, members) in enumerate(groupby(points, key=lambda point: point.session)):
        count = sum(1 for _ in members)
        left, right = (_x(index - 0.5, len(points)) for index in (start, start + count))
        start += count
        shaded = "session shaded" if number % 2 else "session"
        band = add(figure, "rect", x=left, y=_TOP, width=right - left, height=_DOWN, class_=shaded)
        add(band, "title", f"session {session}" if session else "session unknown")
        room = int((right - left) / _LETTER)
        if session and room >= 3:
            name = session if len(session) <= room else f"{session[: room - 1]}…"
            add(figure, "text", name, x=(left + right) / 2, y=_HEIGHT - 12, text_anchor="middle", class_="axis")


def _draw_point(parent: Element, point: Point, x: float, y: float) -> None:
    """A circle if it is normal, a triangle if it is suspect, a diamond if it is anomalous; ringed if it is faulty."""
    group = add(parent, "g", class_=f"point {point.verdict}")
    add(group, "title", point.text)
    if point.faulty:
        add(group, "circle", cx=x, cy=y, r=9, class_="ring")
    if point.verdict == ANOMALOUS:
        corners = [(x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y)]
    elif point.verdict == SUSPECT:
        corners = [(x, y - 6), (x + 5.5, y + 4), (x - 5.5, y + 4)]
    else:
        add(group, "circle", cx=x, cy=y, r=3.5)
        return
    add(group, "polygon", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in corners))
