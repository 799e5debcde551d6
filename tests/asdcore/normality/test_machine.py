from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone

from asdcore.errors import AsdError
from asdcore.normality.machine import SCORERS, MachineModel, Scorer
from asdcore.normality.models import NormalityModel
from asdcore.settings import NormalitySettings

P = 6


def vectors(
    rng: np.random.Generator, n: int, embedding: float = 0.0, spectrum: float = 0.0
) -> dict[Scorer, NDArray[np.float64]]:
    """Normal vectors whose halves the scorers share, moved by so many standard deviations."""
    shared = rng.normal(size=(n, P // 2))
    moves: Mapping[Scorer, float] = {"embedding": embedding, "spectrum": spectrum}
    return {scorer: np.hstack([shared, rng.normal(size=(n, P // 2)) + moves[scorer]]) for scorer in SCORERS}


def fitted(own: Mapping[Scorer, NDArray[np.float64]]) -> MachineModel:
    return MachineModel({scorer: NormalityModel("ml").fit(X) for scorer, X in own.items()})


@pytest.fixture(scope="module")
def machine() -> MachineModel:
    return fitted(vectors(np.random.default_rng(0), 300))


@pytest.mark.parametrize("scorers", ["embedding", "spectrum", "both"])
def test_fresh_normal_recordings_alarm_at_the_rate_that_was_asked_for(scorers: str) -> None:
    rng = np.random.default_rng(1)
    rates = [
        fitted(vectors(rng, 150)).verdict(vectors(rng, 200), scorers, 0.05)["decision"].mean()  # type: ignore[arg-type]
        for _ in range(60)
    ]
    assert 0.035 <= np.mean(rates) <= 0.055


@pytest.mark.parametrize(
    ("moved", "triggered_by"),
    [({"embedding": 5.0}, "embedding"), ({"spectrum": 5.0}, "spectrum"), ({"embedding": 5.0, "spectrum": 5.0}, "both")],
)
def test_a_fault_is_found_whichever_eye_sees_it_and_that_eye_is_named(
    machine: MachineModel, moved: dict[str, float], triggered_by: str
) -> None:
    found = machine.verdict(vectors(np.random.default_rng(2), 50, **moved), "both", 0.01)
    assert found["decision"].mean() > 0.95
    assert found["triggered_by"].mode()[0] == triggered_by
    assert (found["score"] == -np.log10(found["p_value"])).all()


def test_one_eye_alone_does_not_see_what_only_the_other_can(machine: MachineModel) -> None:
    strange = vectors(np.random.default_rng(3), 50, spectrum=8.0)
    assert machine.verdict(strange, "embedding", 0.01)["decision"].mean() < 0.2
    seen = machine.verdict(strange, "spectrum", 0.01)
    assert seen["decision"].all() and set(seen["triggered_by"]) == {"spectrum"}
    np.testing.assert_array_equal(seen["score"], machine.models["spectrum"].distance(strange["spectrum"]))


def test_a_normal_recording_is_seen_by_none_and_only_what_is_beyond_all_training_is_extrapolated(
    machine: MachineModel,
) -> None:
    found = machine.verdict(vectors(np.random.default_rng(4), 200), "both", 0.01)
    assert set(found.loc[found["decision"] == 0, "triggered_by"]) == {""}
    far = machine.verdict(vectors(np.random.default_rng(5), 5, spectrum=50.0), "both", 0.01)
    assert far["extrapolated"].all() and not found["extrapolated"].all()


def test_a_recording_has_the_same_verdict_alone_and_among_others(machine: MachineModel) -> None:
    new = vectors(np.random.default_rng(6), 40)
    together = machine.verdict(new, "both", 0.01)
    alone = machine.verdict({scorer: X[7:8] for scorer, X in new.items()}, "both", 0.01)
    assert alone.iloc[0].to_dict() == together.iloc[7].to_dict()


def test_what_was_written_as_arrays_comes_back_with_the_same_verdicts(machine: MachineModel) -> None:
    arrays = machine.to_arrays()
    assert not any(values.dtype.hasobject for values in arrays.values())
    new = vectors(np.random.default_rng(7), 20, embedding=2.0)
    again = MachineModel.from_arrays(arrays)
    assert again.verdict(new, "both", 0.01).equals(machine.verdict(new, "both", 0.01))


def test_one_odd_training_recording_of_one_eye_does_not_blind_the_other() -> None:
    own = vectors(np.random.default_rng(9), 16)
    odd = {**own, "embedding": own["embedding"].copy()}
    odd["embedding"][3] += 500.0
    strange = vectors(np.random.default_rng(10), 50, spectrum=15.0)
    found = fitted(odd).verdict(strange, "both", 0.1)
    assert found["decision"].mean() > 0.9 and set(found["triggered_by"]) == {"spectrum"}


def test_eyes_that_were_not_fitted_on_the_same_recordings_are_refused() -> None:
    own = vectors(np.random.default_rng(8), 30)
    with pytest.raises(AsdError, match="on 30 recordings, that of the spectrum on 29"):
        fitted(own | {"spectrum": own["spectrum"][1:]})
    with pytest.raises(AsdError, match="the spectrum has no leave-one-out distances"):
        MachineModel({"embedding": NormalityModel("ml").fit(own["embedding"])})


@pytest.mark.parametrize("domains", [["source"] * 20, ["source"] * 18 + ["target"] * 2, [""] * 20])
def test_the_default_survives_twenty_recordings_whatever_their_domains(domains: list[str]) -> None:
    rng = np.random.default_rng(5)
    sizes: Mapping[Scorer, int] = {"embedding": 512, "spectrum": 256}
    mixing = {scorer: rng.normal(size=(8, sizes[scorer])) for scorer in SCORERS}

    def recordings(n: int, level: float = 0.0) -> dict[Scorer, NDArray[np.float64]]:
        hidden = rng.normal(size=(n, 8))
        noise = {scorer: 0.3 * rng.normal(size=(n, own.shape[1])) + level for scorer, own in mixing.items()}
        return {scorer: hidden @ mixing[scorer] + noise[scorer] for scorer in SCORERS}

    training = recordings(20)
    default = NormalityModel.of(NormalitySettings())
    machine = MachineModel({scorer: clone(default).fit(training[scorer], domains=domains) for scorer in SCORERS})
    normal, anomalous = (machine.verdict(recordings(50, level), "both", 0.05) for level in (0.0, 3.0))
    assert anomalous["decision"].mean() > 0.9 and normal["decision"].mean() < 0.2
    assert np.isfinite([*normal["score"], *anomalous["score"]]).all()
