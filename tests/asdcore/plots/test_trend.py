"""The trend of p-values: what is stranger stands higher, whatever the p-values are."""

from xml.etree import ElementTree as ET

import pytest

from asdcore.plots.timeline import Point
from asdcore.plots.trend import small_trend, trend


def heights(figure: ET.Element) -> list[float]:
    shapes = [group.find("circle") for group in figure.iter("g")]
    return [float(shape.get("cy", "")) for shape in shapes if shape is not None]


def test_a_lower_p_value_stands_higher_by_its_logarithm() -> None:
    points = [Point(p, "normal", "") for p in (1.0, 0.1, 0.01)]
    for drawn in (small_trend(points, ""), trend(points, "")):
        bottom, middle, top = heights(ET.fromstring(drawn))
        assert bottom - middle == pytest.approx(middle - top, abs=0.02) and middle - top > 5


@pytest.mark.parametrize("values", [[], [1.0], [1e-300], [0.5, 1e-9]])
def test_any_p_values_stay_within_the_drawing(values: list[float]) -> None:
    points = [Point(p, "normal", "") for p in values]
    for drawn in (small_trend(points, ""), trend(points, "", 0.1)):
        figure = ET.fromstring(drawn)
        height = float(figure.get("viewBox", "").split()[3])
        assert all(0 < y < height for y in heights(figure))


def test_the_rate_is_a_line_where_anomalous_begins_and_none_without_one() -> None:
    points = [Point(p, "normal", "") for p in (0.2, 0.05)]
    figure = ET.fromstring(trend(points, "", 0.1))
    (line,) = [line for line in figure.iter("line") if line.get("class") == "limit anomalous"]
    above, below = heights(figure)[1], heights(figure)[0]
    assert above < float(line.get("y1", "")) < below
    assert "limit" not in trend(points, "")


def test_a_small_one_has_shapes_and_sessions_but_neither_links_nor_text() -> None:
    points = [Point(0.5, "normal", "a", "monday", link="#a"), Point(0.01, "anomalous", "b", "tuesday", True, "#b")]
    figure = ET.fromstring(small_trend(points, "said"))
    assert figure.get("aria-label") == "said"
    assert not [*figure.iter("a"), *figure.iter("text")]
    assert [group.get("class") for group in figure.iter("g")] == ["point normal", "point anomalous"]
    assert len([band for band in figure.iter("rect") if (band.get("class") or "").startswith("session")]) == 2
