"""The p-values of a machine's recordings over time, as SVG for a page.

P-values, unlike scores, can be compared from one version of a detector to the next. The axis is logarithmic, and what
is stranger stands higher.
"""

import math
from collections.abc import Sequence

from asdcore.normality.machine import ANOMALOUS
from asdcore.plots.svg import add, drawing, text_of
from asdcore.plots.timeline import Frame, Point, draw_point, draw_sessions, draw_tick

_SMALL = Frame(width=320.0, height=56.0, left=2.0, right=2.0, top=3.0, bottom=3.0)
_LARGE = Frame(width=900.0, height=230.0, left=46.0, right=80.0, top=12.0, bottom=30.0)
_LEAST_TOP = 2.0
"""the axis reaches to p = 0.01 at least: small differences among normal recordings are not blown up"""


def small_trend(points: Sequence[Point], description: str) -> str:
    """A drawing for a card: points and sessions, without an axis, links, or text under the pointer.

    Args:
        points: recordings of one machine, the oldest first; their values are p-values, above 0 and at most 1.
        description: for those who cannot see it.
    """
    plain = [Point(one.value, one.verdict, "", one.session, one.faulty) for one in points]
    return _trend(plain, description, _SMALL, 0.62, None)


def trend(points: Sequence[Point], description: str, rate: float | None = None) -> str:
    """A drawing as wide as a page, with an axis and the names of the sessions.

    Args:
        points: see `small_trend`.
        description: see `small_trend`.
        rate: p-value up to which a recording is anomalous, drawn as a line; None: no line.
    """
    return _trend(points, description, _LARGE, 1.0, rate)


def _trend(points: Sequence[Point], description: str, frame: Frame, size: float, rate: float | None) -> str:
    figure = drawing(frame.width, frame.height, description)
    draw_sessions(figure, points, frame)
    top = max([_LEAST_TOP, *(-math.log10(point.value) for point in points)])
    margin = 7.0 * size

    def y(p_value: float) -> float:
        return frame.top + margin + (frame.down - 2 * margin) * (1 + math.log10(p_value) / top)

    add(figure, "rect", x=frame.left, y=frame.top, width=frame.across, height=frame.down, class_="frame")
    if frame is _LARGE:
        for power in range(math.floor(top) + 1):
            draw_tick(figure, f"{10.0**-power:g}", y(10.0**-power), frame)
    if rate is not None:
        right = frame.left + frame.across
        add(figure, "line", x1=frame.left, x2=right, y1=y(rate), y2=y(rate), class_=f"limit {ANOMALOUS}")
        add(figure, "text", ANOMALOUS, x=right + 5, y=y(rate) + 4, class_=f"axis {ANOMALOUS}")
    for index, point in enumerate(points):
        draw_point(figure, point, frame.x(index, len(points)), y(point.value), size)
    return text_of(figure)
