"""False alarms of the next session, by sessions known."""

import json

import numpy as np
from numpy.typing import NDArray

from asdcore.monitoring.next_session import NextSession, next_session, sessions_needed
from asdcore.monitoring.reliability import Reliability, reliability_report
from asdcore.normality.base import NormalityModel
from asdcore.normality.gaussian import LedoitWolfCovariance
from asdcore.normality.machine import MachineModel
from asdcore.normality.neighbours import StandardisedNeighbours
from asdcore.normality.robust import RobustCovariance
from asdcore.plots.sessions import sessions_plot


def recorded(sessions: int, each: int = 6, apart: float = 3.0) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """Vectors of sessions that lie so far apart, in units of what varies within them."""
    rng = np.random.default_rng(0)
    own = np.repeat(apart * rng.normal(size=(sessions, 4)), each, axis=0)
    return {"spectrum": own + rng.normal(size=own.shape)}, [f"day {i // each}" for i in range(sessions * each)]


def fitted(vectors: dict[str, NDArray[np.float64]], days: list[str] | None) -> MachineModel:
    models: dict[str, NormalityModel] = {
        name: LedoitWolfCovariance().fit(X, groups=days) for name, X in vectors.items()
    }
    return MachineModel(models, groups=days)


def test_one_session_says_nothing_of_the_next_and_more_of_them_do() -> None:
    vectors, days = recorded(8)
    points = next_session(fitted(vectors, days), vectors, ["source"] * 48, days, 0.1)
    assert [point.sessions for point in points] == [1, 2, 3, 4, 5, 6, 7]
    assert points[0].strange > 0.8 and points[0].anomalous == 0
    assert points[-1].strange < 0.4
    assert all(point.anomalous <= point.strange <= point.largest <= 1 for point in points)
    assert points[0].worth == 1 and points[-1].worth > points[1].worth


def test_with_many_sessions_only_some_numbers_of_them_are_tried() -> None:
    vectors, days = recorded(40, each=3)
    points = next_session(fitted(vectors, days), vectors, ["source"] * 120, days, 0.1)
    counts = [point.sessions for point in points]
    assert counts[0] == 1 and counts[-1] == 39 and len(counts) <= 8
    assert sum(point.draws for point in points) <= 40


def test_there_is_no_curve_of_two_sessions_or_of_models_that_take_minutes() -> None:
    vectors, days = recorded(2)
    assert next_session(fitted(vectors, days), vectors, ["source"] * 12, days, 0.1) == []
    vectors, days = recorded(4)
    slow = MachineModel({"spectrum": RobustCovariance(components=2).fit(vectors["spectrum"], groups=days)}, groups=days)
    assert next_session(slow, vectors, ["source"] * 24, days, 0.1) == []


def test_long_vectors_are_left_out_only_where_they_have_a_covariance() -> None:
    vectors, days = recorded(4)
    vectors["embedding"] = np.random.default_rng(1).normal(size=(24, 1100)) + np.tile(vectors["spectrum"], 275)
    of_spectrum = fitted({"spectrum": vectors["spectrum"]}, days)
    neighbours = StandardisedNeighbours().fit(vectors["embedding"], groups=days)
    covariance = LedoitWolfCovariance().fit(vectors["embedding"], groups=days)

    def curve(embedding: NormalityModel | None) -> list[NextSession]:
        models = of_spectrum.models | ({"embedding": embedding} if embedding else {})
        return next_session(MachineModel(models, groups=days), vectors, ["source"] * 24, days, 0.1)

    assert curve(covariance) == curve(None)
    assert curve(neighbours) != curve(None)


def test_a_session_of_a_single_recording_does_not_stop_it() -> None:
    vectors, days = recorded(4)
    days[-1] = "alone"
    assert len(next_session(fitted(vectors, days), vectors, ["source"] * 24, days, 0.1)) == 4


def test_as_many_sessions_are_needed_as_are_worth_the_rate() -> None:
    assert sessions_needed(4, 5.0, 0.1) == 8
    assert sessions_needed(12, 12.0, 0.01) == 99
    assert sessions_needed(1, 1.0, 0.1) is None


def test_the_report_holds_the_curve_and_names_the_number_of_sessions() -> None:
    vectors, days = recorded(5)
    machine = fitted(vectors, days)
    report = reliability_report(machine, vectors, ["source"] * 30, 0.05, groups=days)
    needed = sessions_needed(5, machine.calibration.n_effective_, 0.05)
    assert f"(about {needed} such sessions would do)" in report.sentences[0]
    assert [point.sessions for point in report.next_sessions] == [1, 2, 3, 4]
    assert Reliability.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False))) == report
    older = {name: value for name, value in report.to_json().items() if name != "next_sessions"}
    assert Reliability.from_json(older).next_sessions == []
    unknown = reliability_report(fitted(vectors, None), vectors, ["source"] * 30, 0.05)
    assert unknown.next_sessions == []


def test_the_plot_shows_both_shares_and_the_rate() -> None:
    vectors, days = recorded(5)
    points = next_session(fitted(vectors, days), vectors, ["source"] * 30, days, 0.05)
    (axes,) = sessions_plot(points, "pump $7$", 0.05, 12).axes
    strange, anomalous, asked = (list(np.asarray(line.get_ydata())) for line in axes.get_lines())
    assert strange == [100 * point.strange for point in points]
    assert anomalous == [100 * point.anomalous for point in points]
    assert set(asked) == {5.0}
    assert "about 12 such sessions support 5 %" in axes.get_title()
