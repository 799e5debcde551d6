"""The scores of recordings one after the other, session by session, as SVG for a page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.etree.ElementTree import Element

import numpy as np

from asdcore.normality.machine import ANOMALOUS, SUSPECT
from asdcore.plots.svg import add, drawing, text_of

_LETTER = 6.6
"""width"""
_SHORTEST = 6
"""letters of a name that is cut"""
_LINE = 14.0
"""height of text"""
_ROOM = 22.0
"""between the numbers of an axis"""


@dataclass(frozen=True)
class Point:
    """A recording in a timeline."""

    value: float
    """its score, or its p-value"""
    verdict: str
    text: str
    """what is shown of it when the pointer is on it"""
    session: str = ""
    faulty: bool = False
    """known to be anomalous, by its label"""
    link: str = ""
    """where in the page there is more about it"""


@dataclass(frozen=True)
class Frame:
    """Where in a drawing the points stand."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float

    @property
    def across(self) -> float:
        return self.width - self.left - self.right

    @property
    def down(self) -> float:
        return self.height - self.top - self.bottom

    def x(self, index: float, count: int) -> float:
        """The middle of one of ``count`` places."""
        return self.left + self.across * (index + 0.5) / max(count, 1)


FRAME = Frame(width=900.0, height=250.0, left=46.0, right=70.0, top=12.0, bottom=30.0)


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
        return FRAME.top + FRAME.down * (1 - (bent - self.low) / (self.high - self.low))

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
    figure = drawing(FRAME.width, FRAME.height, description)
    right = FRAME.left + FRAME.across
    scale = _Scale.of([point.value for point in points], list(lines.values()))
    draw_sessions(figure, points, FRAME)
    add(figure, "rect", x=FRAME.left, y=FRAME.top, width=FRAME.across, height=FRAME.down, class_="frame")
    for score in scale.ticks():
        draw_tick(figure, f"{score:g}", scale.y(score), FRAME)
    lowest = FRAME.height
    for name, score in sorted(lines.items(), key=lambda line: line[1]):
        y = scale.y(score)
        add(figure, "line", x1=FRAME.left, x2=right, y1=y, y2=y, class_=f"limit {name}")
        lowest = min(y, lowest - _LINE)  # Names of neighbours do not overlap.
        add(figure, "text", name, x=right + 5, y=lowest + 4, class_=f"axis {name}")
    for index, point in enumerate(points):
        draw_point(figure, point, FRAME.x(index, len(points)), scale.y(point.value))
    return text_of(figure)


def draw_tick(figure: Element, name: str, y: float, frame: Frame) -> None:
    """A tick of the axis on the left, and its number."""
    add(figure, "line", x1=frame.left - 4, x2=frame.left, y1=y, y2=y, class_="tick")
    add(figure, "text", name.replace("-", "−"), x=frame.left - 7, y=y + 4, text_anchor="end", class_="axis")


def draw_sessions(figure: Element, points: Sequence[Point], frame: Frame) -> None:
    """Every second one shaded; named below the frame where its name has room."""
    start = 0
    for number, (session, members) in enumerate(groupby(points, key=lambda point: point.session)):
        count = sum(1 for _ in members)
        left, right = (frame.x(index - 0.5, len(points)) for index in (start, start + count))
        start += count
        shaded = "session shaded" if number % 2 else "session"
        band = add(figure, "rect", x=left, y=frame.top, width=right - left, height=frame.down, class_=shaded)
        add(band, "title", f"session {session}" if session else "session unknown")
        room = int((right - left) / _LETTER)
        if session and frame.bottom >= _LINE and (len(session) <= room or room >= _SHORTEST):
            name = session if len(session) <= room else f"{session[: room - 1]}…"
            middle = (left + right) / 2
            add(figure, "text", name, x=middle, y=frame.height - 12, text_anchor="middle", class_="axis")


def draw_point(figure: Element, point: Point, x: float, y: float, size: float = 1.0) -> None:
    """A circle if it is normal, a triangle if it is suspect, a diamond if it is anomalous; ringed if it is faulty."""
    parent = add(figure, "a", href=point.link) if point.link else figure
    group = add(parent, "g", class_=f"point {point.verdict}")
    if point.text:
        add(group, "title", point.text)
    if point.faulty:
        add(group, "circle", cx=x, cy=y, r=9 * size, class_="ring")
    if point.verdict == ANOMALOUS:
        corners = [(0.0, -6.0), (6.0, 0.0), (0.0, 6.0), (-6.0, 0.0)]
    elif point.verdict == SUSPECT:
        corners = [(0.0, -6.0), (5.5, 4.0), (-5.5, 4.0)]
    else:
        add(group, "circle", cx=x, cy=y, r=3.5 * size)
        return
    add(group, "polygon", points=" ".join(f"{x + size * a:.1f},{y + size * b:.1f}" for a, b in corners))
