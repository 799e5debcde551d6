"""Systems on a line of average ranks, as SVG for a page: a critical-difference diagram (Demsar 2006, figure 1)."""

import math

from asdcore.evaluation.ranking import Ranking
from asdcore.plots.svg import add, drawing, text_of

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 900.0, 250.0, 250.0, 62.0, 24.0


def ranking_drawing(ranking: Ranking) -> str:
    """Average ranks, the best on the left; a bar joins systems that differ by less than the critical difference."""
    average = ranking.average
    names, count = [str(name) for name in average.index], len(average)
    half = math.ceil(count / 2)
    groups = ranking.alike()
    axis = _TOP + 10.0 * len(groups)
    height = axis + _ROW * (half + 1)
    said = ", ".join(f"{name} {rank:.2f}" for name, rank in average.items())
    figure = drawing(_WIDTH, height, f"Average ranks, 1 is the best: {said}")

    def x(rank: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (rank - 1) / max(count - 1, 1)

    for tick in range(1, count + 1):
        add(figure, "line", x1=x(tick), x2=x(tick), y1=34, y2=40, class_="tick")
        add(figure, "text", str(tick), x=x(tick), y=28, text_anchor="middle", class_="axis")
    add(figure, "line", x1=x(1), x2=x(count), y1=40, y2=40, class_="tick")
    if math.isfinite(ranking.critical_difference):
        end = min(x(1 + ranking.critical_difference), _WIDTH - 8)
        add(figure, "line", x1=x(1), x2=end, y1=8, y2=8, class_="limit suspect")
        add(figure, "text", f"critical difference {ranking.critical_difference:.2f}", x=x(1) - 8, y=12,
            text_anchor="end", class_="axis")  # fmt: skip
    for row, (first, last) in enumerate(groups):
        level = 50.0 + 10.0 * row
        add(figure, "line", x1=x(average[first]) - 4, x2=x(average[last]) + 4, y1=level, y2=level, class_="alike")
    for index, name in enumerate(names):
        left = index < half
        level = axis + _ROW * ((index if left else count - 1 - index) + 1) - 6
        edge = _LEFT - 12 if left else _WIDTH - _RIGHT + 12
        at = x(average[name])
        add(figure, "polyline", points=f"{at:.1f},40 {at:.1f},{level:.1f} {edge:.1f},{level:.1f}", class_="frame")
        add(figure, "circle", cx=at, cy=40, r=3.2, class_="point normal")
        add(figure, "text", f"{name} {average[name]:.2f}", x=edge + (-5 if left else 5), y=level + 4,
            text_anchor="end" if left else "start", class_="axis")  # fmt: skip
    return text_of(figure)
