"""The timeline of a report: a point for each recording at its score, session by session."""

import math
from xml.etree import ElementTree as ET

import pytest

from asdcore.plots.timeline import Point, timeline


def drawn(points: list[Point], lines: dict[str, float] | None = None) -> ET.Element:
    return ET.fromstring(timeline(points, lines or {}, "scores"))


def circles(figure: ET.Element) -> list[float]:
    return [float(group.find("circle").get("cy")) for group in figure.iter("g")]  # type: ignore[union-attr, arg-type]


def test_a_higher_score_stands_higher_and_an_enormous_one_does_not_hide_how_the_others_differ() -> None:
    scores = [0.0, 0.4, -0.5, 1.0, 0.2, 5000.0]
    heights = circles(drawn([Point(score, "normal", str(score)) for score in scores], {"anomalous": 1.5}))
    assert [*sorted(zip(heights, scores, strict=True), reverse=True)] == [
        *sorted(zip(heights, scores, strict=True), key=lambda pair: pair[1])
    ]
    assert abs(heights[0] - heights[3]) > 10


@pytest.mark.parametrize("scores", [[1.0], [2.0, 2.0], [math.inf, 1.0], [math.inf], [1e-12, 2e-12], [0.0, 0.0]])
def test_any_scores_can_be_drawn(scores: list[float]) -> None:
    heights = circles(drawn([Point(score, "normal", "") for score in scores]))
    assert all(0 <= height <= 250 for height in heights)


def test_verdicts_have_shapes_of_their_own_faults_are_ringed_and_what_is_shown_below_is_linked() -> None:
    figure = drawn(
        [
            Point(1, "normal", "a"),
            Point(2, "suspect", "b"),
            Point(3, "anomalous", "c", faulty=True, link="#recording-1"),
        ]
    )
    groups = {group.get("class"): group for group in figure.iter("g")}
    corners = {name: len(shape.get("points", "").split()) for name, g in groups.items() for shape in g.iter("polygon")}
    assert corners == {"point suspect": 3, "point anomalous": 4}
    assert [circle.get("class") for circle in groups["point anomalous"].iter("circle")] == ["ring"]
    (link,) = figure.iter("a")
    assert link.get("href") == "#recording-1" and link.find("g") is groups["point anomalous"]


def test_sessions_are_bands_with_their_names_and_a_line_says_what_it_is() -> None:
    points = [Point(1, "normal", "", session) for session in ("monday", "monday", "monday", "<tue>")]
    figure = drawn(points, {"suspect": 4.0})
    titles = [title.text for band in figure.iter("rect") for title in band.iter("title")]
    assert titles == ["session monday", "session <tue>"]
    texts = [text.text for text in figure.iter("text")]
    assert {"monday", "<tue>", "suspect"} <= {*texts}
    (line,) = [line for line in figure.iter("line") if line.get("class") == "limit suspect"]
    assert line.get("y1") == line.get("y2")
