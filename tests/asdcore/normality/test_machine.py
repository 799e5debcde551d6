from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.normality.gaussian import MaximumLikelihood
from asdcore.normality.machine import MachineModel
from asdcore.normality.neighbours import NearestNeighbours, StandardisedNeighbours
from asdcore.normality.robust import RobustCovariance
from asdcore.normality.scorers import build_scorers
from asdcore.settings import NormalitySettings

P = 6
SCORERS = ("spectrum", "embedding")


def vectors(
    rng: np.random.Generator, n: int, embedding: float = 0.0, spectrum: float = 0.0
) -> dict[str, NDArray[np.float64]]:
    """Normal vectors whose halves the scorers share, moved by so many standard deviations."""
    shared = rng.normal(size=(n, P // 2))
    moves: Mapping[str, float] = {"embedding": embedding, "spectrum": spectrum}
    return {scorer: np.hstack([shared, rng.normal(size=(n, P // 2)) + moves[scorer]]) for scorer in SCORERS}


def fitted(own: Mapping[str, NDArray[np.float64]]) -> MachineModel:
    return MachineModel({scorer: MaximumLikelihood().fit(X) for scorer, X in own.items()})


@pytest.fixture(scope="module")
def machine() -> MachineModel:
    return fitted(vectors(np.random.default_rng(0), 300))


@pytest.mark.parametrize("scorers", [("embedding",), ("spectrum", "embedding")])
def test_fresh_normal_recordings_alarm_at_the_rate_that_was_asked_for(scorers: tuple[str, ...]) -> None:
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(60):
        own = vectors(rng, 150)
        chosen = fitted({scorer: own[scorer] for scorer in scorers})
        rates.append(chosen.verdict(vectors(rng, 200), 0.05)["decision"].mean())
    assert 0.035 <= np.mean(rates) <= 0.055


@pytest.mark.parametrize(
    ("moved", "triggered_by"),
    [
        ({"embedding": 5.0}, "embedding"),
        ({"spectrum": 5.0}, "spectrum"),
        ({"embedding": 5.0, "spectrum": 5.0}, "spectrum+embedding"),
    ],
)
def test_a_fault_is_found_whichever_eye_sees_it_and_that_eye_is_named(
    machine: MachineModel, moved: dict[str, float], triggered_by: str
) -> None:
    found = machine.verdict(vectors(np.random.default_rng(2), 50, **moved), 0.01)
    assert found["decision"].mean() > 0.95
    assert found["triggered_by"].mode()[0] == triggered_by


def test_a_single_scorer_does_not_see_what_only_another_can_and_its_score_is_its_distance() -> None:
    own, strange = vectors(np.random.default_rng(0), 300), vectors(np.random.default_rng(3), 50, spectrum=8.0)
    embedding, spectrum = (fitted({scorer: own[scorer]}) for scorer in ("embedding", "spectrum"))
    assert embedding.verdict(strange, 0.01)["decision"].mean() < 0.2
    seen = spectrum.verdict(strange, 0.01)
    assert seen["decision"].all() and set(seen["triggered_by"]) == {"spectrum"}
    np.testing.assert_array_equal(seen["score"], spectrum.models["spectrum"].distance(strange["spectrum"]))


def test_the_fused_score_is_continuous_where_p_values_are_ranks(machine: MachineModel) -> None:
    found = machine.verdict(vectors(np.random.default_rng(11), 200), 0.01)
    assert found["score"].nunique() == 200
    ordered = found.sort_values("score")
    assert (ordered["p_value"].diff().dropna() <= 0).all()


def test_a_scorer_that_is_noise_hardly_costs_a_fault(machine: MachineModel) -> None:
    rng = np.random.default_rng(12)
    own, strange, normal = vectors(rng, 300), vectors(rng, 300, spectrum=2.0), vectors(rng, 300)

    def auc(scorers: tuple[str, ...]) -> float:
        chosen = fitted({scorer: own[scorer] for scorer in scorers})
        faulty, sound = (chosen.verdict(part, 0.01)["score"].to_numpy() for part in (strange, normal))
        return float((faulty[:, None] > sound).mean())

    for part in (own, strange, normal):
        part["noise"] = rng.normal(size=(300, P))
    alone = auc(("spectrum",))
    assert alone > 0.9 and alone - 0.04 < auc(("spectrum", "noise")) <= alone


def test_only_what_is_strange_is_triggered_by_something_and_only_what_is_anomalous_is_a_decision(
    machine: MachineModel,
) -> None:
    found = machine.verdict(vectors(np.random.default_rng(4), 200), 0.01)
    assert ((found["triggered_by"] == "") == (found["verdict"] == "normal")).all()
    assert ((found["decision"] == 1) == (found["verdict"] == "anomalous")).all()
    far = machine.verdict(vectors(np.random.default_rng(5), 5, spectrum=50.0), 0.01)
    assert set(far["verdict"]) == {"anomalous"}


@pytest.mark.parametrize(
    ("n", "rate", "expected"), [(16, 0.01, "suspect"), (16, 0.1, "anomalous"), (150, 0.01, "anomalous")]
)
def test_what_is_stranger_than_all_is_suspect_where_the_recordings_support_no_such_rate(
    n: int, rate: float, expected: str
) -> None:
    chosen = fitted(vectors(np.random.default_rng(0), n))
    assert set(chosen.verdict(vectors(np.random.default_rng(5), 20, spectrum=50.0), rate)["verdict"]) == {expected}


def test_with_few_sessions_a_strange_recording_is_suspect_and_after_saving_still_is() -> None:
    known, groups = vectors(np.random.default_rng(0), 60), np.repeat(["mon", "tue", "wed"], 20)
    models = {scorer: MaximumLikelihood().fit(X, groups=groups) for scorer, X in known.items()}
    chosen = MachineModel(models, groups=groups)
    far = vectors(np.random.default_rng(5), 20, spectrum=50.0)
    for machine in (chosen, MachineModel.from_arrays(chosen.to_arrays())):
        assert set(machine.verdict(far, 0.02)["verdict"]) == {"suspect"}
    assert set(MachineModel(models).verdict(far, 0.02)["verdict"]) == {"anomalous"}


def test_a_recording_has_the_same_verdict_alone_and_among_others(machine: MachineModel) -> None:
    new = vectors(np.random.default_rng(6), 40)
    together = machine.verdict(new, 0.01)
    alone = machine.verdict({scorer: X[7:8] for scorer, X in new.items()}, 0.01)
    assert alone.iloc[0].to_dict() == together.iloc[7].to_dict()


def test_what_was_written_as_arrays_comes_back_with_the_same_verdicts(machine: MachineModel) -> None:
    arrays = machine.to_arrays()
    assert not any(values.dtype.hasobject for values in arrays.values())
    new = vectors(np.random.default_rng(7), 20, embedding=2.0)
    again = MachineModel.from_arrays(arrays)
    assert again.verdict(new, 0.01).equals(machine.verdict(new, 0.01))


def test_one_odd_training_recording_of_one_eye_does_not_blind_the_other() -> None:
    own = vectors(np.random.default_rng(9), 16)
    odd = {**own, "embedding": own["embedding"].copy()}
    odd["embedding"][3] += 500.0
    strange = vectors(np.random.default_rng(10), 50, spectrum=15.0)
    found = fitted(odd).verdict(strange, 0.1)
    assert found["decision"].mean() > 0.9 and set(found["triggered_by"]) == {"spectrum"}


def test_scorers_that_do_not_fit_together_are_refused() -> None:
    own = vectors(np.random.default_rng(8), 30)
    with pytest.raises(AsdError, match="different recordings: spectrum on 29, embedding on 30"):
        fitted(own | {"spectrum": own["spectrum"][1:]})
    with pytest.raises(AsdError, match="the embedding has no left-out distances"):
        MachineModel({"embedding": RobustCovariance(folds=0).fit(own["embedding"])})
    with pytest.raises(AsdError, match="no vectors for the scorers spectrum"):
        fitted(own).verdict({"embedding": own["embedding"]}, 0.01)
    with pytest.raises(AsdError, match="a machine needs a scorer"):
        MachineModel({})


def test_leaving_sessions_out_keeps_the_rate_for_a_session_that_was_not_heard() -> None:
    rng = np.random.default_rng(13)
    alarms = {"session": 0, "recording": 0}
    for _ in range(40):
        sessions = np.repeat(np.arange(8), 10)
        effect = {scorer: 1.5 * rng.normal(size=(9, P)) for scorer in SCORERS}
        own = {scorer: X + effect[scorer][sessions] for scorer, X in vectors(rng, 80).items()}
        new = {scorer: X + effect[scorer][8] for scorer, X in vectors(rng, 20).items()}
        for how, groups in (("session", sessions), ("recording", None)):
            models = {scorer: MaximumLikelihood().fit(X, groups=groups) for scorer, X in own.items()}
            alarms[how] += int(MachineModel(models).verdict(new, 0.1)["decision"].sum())
    assert alarms["session"] / 800 < 0.2 < 0.35 < alarms["recording"] / 800


@pytest.mark.parametrize("domains", [["source"] * 20, ["source"] * 18 + ["target"] * 2, [""] * 20])
def test_the_default_survives_twenty_recordings_whatever_their_domains(domains: list[str]) -> None:
    rng = np.random.default_rng(5)
    sizes: Mapping[str, int] = {"embedding": 512, "spectrum": 256}
    mixing = {scorer: rng.normal(size=(8, sizes[scorer])) for scorer in SCORERS}

    def recordings(n: int, level: float = 0.0) -> dict[str, NDArray[np.float64]]:
        hidden = rng.normal(size=(n, 8))
        noise = {scorer: 0.3 * rng.normal(size=(n, own.shape[1])) + level for scorer, own in mixing.items()}
        return {scorer: hidden @ mixing[scorer] + noise[scorer] for scorer in SCORERS}

    training = recordings(20)
    scorers = build_scorers(NormalitySettings(scorers=("spectrum", "embedding")))
    models = {name: scorer.model().fit(training[name], domains=domains) for name, scorer in scorers.items()}
    machine = MachineModel(models)
    normal, anomalous = (machine.verdict(recordings(50, level), 0.05) for level in (0.0, 3.0))
    assert anomalous["decision"].mean() > 0.9 and normal["decision"].mean() < 0.2
    assert np.isfinite([*normal["score"], *anomalous["score"]]).all()


def test_the_most_similar_training_clips_come_first_by_the_scorers_that_keep_them() -> None:
    rng = np.random.default_rng(5)
    own = {
        "spectrum": rng.normal(size=(30, 4)),
        "change": rng.normal(size=(30, 4)),
        "embedding": rng.normal(size=(30, 4)),
    }
    models = {
        "spectrum": MaximumLikelihood().fit(own["spectrum"]),
        "change": StandardisedNeighbours().fit(own["change"]),
        "embedding": NearestNeighbours().fit(own["embedding"]),
    }
    machine = MachineModel(models, clips=[f"clip {row}" for row in range(30)])
    # Near to clip 7 for the two that keep clips, to clip 20 for the one that does not.
    near = {"spectrum": own["spectrum"][[20]], **{name: own[name][[7]] + 0.01 for name in ("change", "embedding")}}
    names = machine.most_similar(near)
    assert names[0] == "clip 7" and sorted(names) == sorted(machine.clips)
    assert MachineModel.from_arrays(machine.to_arrays()).most_similar(near) == names
    alone = MachineModel({"change": models["change"]}, clips=machine.clips)
    assert alone.most_similar({"change": own["change"][[3]]})[0] == "clip 3"


def test_covariances_and_machines_without_names_know_no_similar_clip(machine: MachineModel) -> None:
    own = vectors(np.random.default_rng(6), 40)
    assert MachineModel(machine.models, clips=[str(row) for row in range(300)]).most_similar(own) == []
    assert MachineModel({"spectrum": NearestNeighbours().fit(own["spectrum"])}).most_similar(own) == []
