"""Reliability reports: what they count, and when they warn."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta

from asdcore.monitoring.reliability import Achieved, Reliability, reliability_report, suspicion, theory
from asdcore.normality.base import model_class
from asdcore.normality.machine import MachineModel

SCORERS = ("spectrum", "embedding")
Vectors = dict[str, NDArray[np.float64]]


def gaussian(n: int, p: int = 32, seed: int = 0) -> Vectors:
    rng = np.random.default_rng(seed)
    return {scorer: rng.normal(size=(n, p)) for scorer in SCORERS}


def report(
    vectors: Vectors,
    estimator: str = "ml",
    domains: list[str] | None = None,
    test: Vectors | None = None,
    rate: float = 0.01,
    groups: list[str] | None = None,
) -> Reliability:
    n = len(vectors["embedding"])
    named = domains or ["source"] * n
    fitted = {scorer: model_class(estimator)().fit(X, domains=named, groups=groups) for scorer, X in vectors.items()}
    m = len(test["embedding"]) if test else 0
    return reliability_report(
        MachineModel(fitted, groups=groups), vectors, named, rate, test, ["source"] * m, groups=groups
    )


def test_a_well_behaved_machine_with_many_recordings_is_trusted() -> None:
    found = report(gaussian(1000))
    assert (found.rating, found.collect, found.sentences) == ("reliable", 0, ["Reliable."])
    assert found.left_out["all"].recordings == 1000
    assert found.left_out["all"].low <= 0.01 <= found.left_out["all"].high


@pytest.mark.parametrize(("n", "rate", "more"), [(16, 0.01, 83), (98, 0.01, 1), (99, 0.01, 0), (16, 0.1, 0)])
def test_as_many_recordings_are_asked_for_as_the_rate_needs(n: int, rate: float, more: int) -> None:
    found = report(gaussian(n, 4), "ledoit_wolf", rate=rate)
    assert found.collect == more
    assert (found.rating == "collect more") == (more > 0)
    assert (f"Collect {more} more" in found.sentences[0]) == (more > 0)


def test_a_report_at_another_rate_is_the_one_that_would_have_been_made_at_it() -> None:
    louder = {scorer: 1.4 * X for scorer, X in gaussian(200, 4, seed=1).items()}
    domains, groups = ["source"] * 50 + ["target"] * 10, [str(i // 5) for i in range(60)]
    at_one, at_twenty = (report(gaussian(60, 4), "ledoit_wolf", domains, louder, rate, groups) for rate in (0.01, 0.2))
    assert at_one.rating == "collect more" != at_twenty.rating
    moved = Reliability.from_json(at_one.to_json()).at(0.2)
    assert (moved.next_sessions, moved.next_asked) == (at_one.next_sessions, 0.01)
    assert replace(moved, next_sessions=at_twenty.next_sessions, next_asked=0.2) == at_twenty


def test_normal_test_recordings_that_alarm_are_a_reason_for_care() -> None:
    louder = {scorer: 1.4 * X for scorer, X in gaussian(200, seed=1).items()}
    found = report(gaussian(500), test=louder)
    assert found.rating == "use with care"
    assert any("Too many false alarms" in sentence and "of the test" in sentence for sentence in found.sentences)
    assert found.test["all"].low > 0.01


def test_a_domain_that_alarms_is_named() -> None:
    # One mean for both domains: the ten of the second are far from it, and far from each other in no direction.
    own = gaussian(300, 4)
    for X in own.values():
        X[280:] += 25
    found = report(own, "ml", ["source"] * 280 + ["target"] * 20, rate=0.05)
    assert found.domains == {"source": 280, "target": 20}
    assert set(found.left_out) == {"all", "source", "target"}
    assert any("of the domain target" in sentence for sentence in found.sentences)


def test_a_domain_with_few_recordings_is_named() -> None:
    found = report(gaussian(200, 4), "tied", ["source"] * 196 + ["target"] * 4)
    assert any("Only 4 recordings of the domain target" in sentence for sentence in found.sentences)


def test_another_estimator_than_asked_for_and_a_collapse_are_reasons_for_care() -> None:
    own = gaussian(120, 128)
    own["spectrum"] = np.outer(own["spectrum"][:, 0], np.ones(128)) + 1e-3 * own["spectrum"]
    found = report(own)
    assert found.rating == "use with care"
    assert any("embedding is not judged as the settings ask: 120 recordings" in s for s in found.sentences)
    assert any("spectrum varies in hardly more than one way" in s for s in found.sentences)


@pytest.mark.parametrize(
    ("scorers", "said"), [(("embedding",), True), (("spectrum", "embedding"), True), (("spectrum",), False)]
)
def test_what_is_wrong_with_the_training_is_a_reason_for_care_where_the_embedding_judges(
    scorers: tuple[str, ...], said: bool
) -> None:
    own = {scorer: X for scorer, X in gaussian(200, 4).items() if scorer in scorers}
    machine = MachineModel({scorer: model_class("ml")().fit(X) for scorer, X in own.items()})
    found = reliability_report(machine, own, ["source"] * 200, 0.05, of_training=["z has collapsed."])
    assert ("z has collapsed." in found.sentences) is said
    assert not said or found.rating == "use with care"


def test_a_single_session_is_a_reason_for_care() -> None:
    found = report(gaussian(200, 4), rate=0.05, groups=["monday"] * 200)
    assert found.rating == "collect more"
    assert any(sentence.startswith("All 200 recordings are of one session") for sentence in found.sentences)


def test_recordings_of_few_sessions_are_worth_less_than_they_are_many() -> None:
    own = gaussian(60, 4)
    sessions = np.repeat(np.arange(6), 10)
    for X in own.values():
        X += 20 * np.random.default_rng(1).normal(size=(6, 4))[sessions]
    found = report(own, rate=0.05, groups=list(map(str, sessions)))
    assert found.rating == "collect more" and 10 <= found.collect <= 14
    assert found.sentences[0].startswith("Record more sessions: 60 recordings of 6 sessions are worth ")


def test_no_session_is_on_both_sides_of_the_cross_fitting() -> None:
    # Sessions far from each other: a model that knew part of one would know the rest of it.
    own = gaussian(60, 4)
    sessions = np.repeat(np.arange(6), 10)
    for X in own.values():
        X += 20 * np.random.default_rng(1).normal(size=(6, 4))[sessions]
    by_recording = report(own, "knn", rate=0.1).left_out["all"]
    by_session = report(own, "knn", rate=0.1, groups=[str(session) for session in sessions])
    assert by_recording.alarms < 15
    assert any("Too" in sentence for sentence in by_session.sentences) or by_session.left_out["all"].alarms < 30


@pytest.mark.parametrize("estimator", ["ml", "ledoit_wolf", "tied", "knn", "standardised_knn", "elliptic"])
def test_every_estimator_has_a_report_that_is_plain_json(estimator: str) -> None:
    found = report(gaussian(40, 3), estimator)
    assert Reliability.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    assert {scorer: own.estimator for scorer, own in found.scorers.items()} == dict.fromkeys(SCORERS, estimator)


def test_infinite_condition_is_plain_json_too() -> None:
    line = {scorer: np.outer(np.arange(30.0), np.ones(3)) + np.eye(30, 3) for scorer in SCORERS}
    json.dumps(report(line, "ledoit_wolf").to_json(), allow_nan=False)


def test_the_interval_is_that_of_clopper_and_pearson() -> None:
    achieved = Achieved.of(3, 200)
    assert achieved.low == pytest.approx(beta.ppf(0.025, 3, 198))
    assert achieved.high == pytest.approx(beta.ppf(0.975, 4, 197))
    assert (Achieved.of(0, 0).low, Achieved.of(0, 0).high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("estimator", "named"), [("ml", "F(8, 491), exact"), ("ledoit_wolf", "chi-squared(8)"), ("tied", "chi-squared(8)")]
)
def test_gaussian_vectors_follow_the_theory(estimator: str, named: str) -> None:
    found = theory(model_class(estimator)().fit(gaussian(500, 8)["embedding"]))
    assert found is not None
    expected, observed, distribution = found
    assert named in distribution
    middle = slice(50, 450)
    np.testing.assert_allclose(observed[middle], expected[middle], rtol=0.15)


def test_heavy_tails_leave_the_theory_and_neighbours_have_none() -> None:
    rng = np.random.default_rng(3)
    expected, observed, _ = theory(model_class("ml")().fit(rng.standard_t(2, size=(500, 8)))) or ((), (), "")
    assert observed[-1] > 3 * expected[-1]
    assert theory(model_class("knn")().fit(rng.normal(size=(50, 8)))) is None


def test_cross_fitting_judges_no_recording_by_itself() -> None:
    # A recording far from all others alarms, though a model that has seen it would span it.
    own = gaussian(60, 4)
    for X in own.values():
        X[7] = 100.0
    assert report(own, "ml", rate=0.05).left_out["all"].alarms >= 1


def test_a_suspicion_says_how_rare_it_is_and_what_to_collect() -> None:
    own = gaussian(16, 4)
    fitted = {scorer: model_class("ledoit_wolf")().fit(X) for scorer, X in own.items()}
    machine = MachineModel(fitted)
    said = suspicion(machine, [1e6, 1e9], report(own, "ledoit_wolf"))
    assert said.startswith(
        "About 1 in 17 normal recordings is this strange. Collect 83 more normal recordings: with 16,"
    )
    assert suspicion(machine, [1e6], None) == "About 1 in 17 normal recordings is this strange."
    # Four sessions of four recordings that are all alike are worth little more than four recordings.
    days = [str(i // 4) for i in range(16)]
    alike = {scorer: X + 50 * np.repeat(gaussian(4, 4, seed=1)[scorer], 4, axis=0) for scorer, X in own.items()}
    fitted = {scorer: model_class("ledoit_wolf")().fit(X, groups=days) for scorer, X in alike.items()}
    said = suspicion(MachineModel(fitted, groups=days), [1e9], None)
    assert said.startswith("About 1 in 17 normal recordings is this strange, about 1 in 5 of those of another session")
