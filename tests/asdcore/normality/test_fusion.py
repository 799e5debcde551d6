from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.exceptions import NotFittedError

from asdcore.errors import AsdError
from asdcore.normality.calibration import Calibration
from asdcore.normality.fusion import RULES, Fusion, fisher, harmonic, minimum
from asdcore.normality.models import NormalityModel

P = np.random.default_rng(0).uniform(size=(200, 2))


def eyes(n: int, dependence: float, fault: tuple[float, float] = (0, 0), seed: int = 0) -> NDArray[np.float64]:
    """(n, 2) distances of two eyes."""
    covariance = [[1, dependence], [dependence, 1]]
    drawn = np.random.default_rng(seed).multivariate_normal([0, 0], covariance, size=n)
    return np.exp((drawn + fault) * [0.1, 0.5])


def p_values(calibrations: list[Calibration], distances: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([own.p_value(values) for own, values in zip(calibrations, distances.T, strict=True)])


def called(rule: str, n: int, dependence: float, fault: tuple[float, float], rate: float, sets: int = 40) -> float:
    """Share of recordings called anomalous, over training sets."""
    shares = []
    for seed in range(sets):
        own = [Calibration().fit(values) for values in eyes(n, dependence, seed=seed).T]
        fusion = Fusion(rule).fit(np.column_stack([eye.p_values_ for eye in own]))  # type: ignore[arg-type]
        new = p_values(own, eyes(200, dependence, fault, seed=10**6 + seed))
        shares.append((fusion.p_value(new) <= rate).mean())
    return float(np.mean(shares))


def test_the_rules_are_those_of_the_textbook() -> None:
    np.testing.assert_allclose(np.exp(minimum(P)), np.minimum(2 * P.min(axis=1), 1))
    np.testing.assert_allclose(np.exp(harmonic(P)), 2 / (1 / P).sum(axis=1))
    for eyes_count in (1, 2, 3):
        p = np.random.default_rng(1).uniform(size=(50, eyes_count))
        expected = [stats.combine_pvalues(row, "fisher").pvalue for row in p]
        np.testing.assert_allclose(np.exp(fisher(p)), expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dependence", [0.0, 0.5, 0.95])
@pytest.mark.parametrize(("n", "rate"), [(30, 0.1), (100, 0.05), (1000, 0.01), (1000, 0.1)])
def test_the_false_alarm_rate_is_kept_however_the_eyes_depend_on_each_other(
    rule: str, dependence: float, n: int, rate: float
) -> None:
    alarms = called(rule, n, dependence, (0, 0), rate)
    assert 0.4 * rate < alarms < 1.25 * rate


def test_fishers_own_p_value_would_not_keep_it() -> None:
    own = [Calibration().fit(values) for values in eyes(1000, 0.9).T]
    assert (np.exp(fisher(p_values(own, eyes(10_000, 0.9, seed=1)))) <= 0.01).mean() > 0.025


@pytest.mark.parametrize("dependence", [0.0, 0.5, 0.9])
def test_a_useless_eye_costs_little_of_what_the_other_finds(dependence: float) -> None:
    alone = np.mean([stats.norm.isf(0.01) < 3.5 + np.random.default_rng(0).normal(size=10_000)])
    fused = called(Fusion().rule, 1000, dependence, (3.5, 0), 0.01)
    assert fused > 0.85 * alone


def test_two_eyes_find_more_than_either_of_what_both_see() -> None:
    assert called(Fusion().rule, 1000, 0.0, (2, 2), 0.01) > 0.44  # Either alone finds 37 %.


def test_an_eye_that_sees_a_fault_beyond_all_it_knows_is_enough() -> None:
    own = [Calibration().fit(values) for values in eyes(100, 0.5).T]
    fusion = Fusion().fit(np.column_stack([eye.p_values_ for eye in own]))
    p = fusion.p_value(p_values(own, np.array([[2.0, 1.0], [3.0, 1.0], [1.0, 1e6], [1e300, 1e300]])))
    assert (p < 0.005).all() and (p > 0).all()
    assert p[1] < p[0]


def test_the_p_values_of_embedding_and_spectrum_models_of_the_same_recordings() -> None:
    shares = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        mixing, loudness = rng.normal(size=(6, 70)), np.exp(0.3 * rng.normal(size=(700, 1)))
        both = (rng.normal(size=(700, 6)) @ mixing + rng.normal(size=(700, 70))) * loudness
        fitted = [NormalityModel("ledoit_wolf").fit(part[:300]) for part in (both[:, :40], both[:, 40:])]
        own = [Calibration().fit(model.leave_one_out_) for model in fitted]
        dependence = stats.spearmanr(own[0].p_values_, own[1].p_values_).statistic
        assert dependence > 0.4
        fusion = Fusion().fit(np.column_stack([eye.p_values_ for eye in own]))
        new = np.column_stack([fitted[0].distance(both[300:, :40]), fitted[1].distance(both[300:, 40:])])
        shares.append((fusion.p_value(p_values(own, new)) <= 0.1).mean())
    assert np.mean(shares) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("rule", RULES)
def test_arrays_hold_the_whole_fusion(tmp_path: Path, rule: str) -> None:
    fusion = Fusion(rule).fit(P)  # type: ignore[arg-type]
    np.savez(tmp_path / "fusion.npz", **fusion.to_arrays())
    with np.load(tmp_path / "fusion.npz", allow_pickle=False) as arrays:
        read = Fusion.from_arrays(dict(arrays))
    new = np.random.default_rng(1).uniform(size=(50, 2)) ** 4
    assert read.p_value(new).tolist() == fusion.p_value(new).tolist()
    assert read.extrapolated(new).tolist() == fusion.extrapolated(new).tolist()
    assert read.get_params() == fusion.get_params()


def test_extrapolated_are_the_fused_p_values_below_those_of_all_training_recordings() -> None:
    fusion = Fusion().fit(P)
    new = np.array([[1e-6, 0.5], [0.5, 0.5], [1e-9, 1e-9]])
    assert fusion.extrapolated(new).tolist() == [True, False, True]
    assert (fusion.p_value(new) < 1 / 201).tolist() == [True, False, True]


def test_what_can_not_be_fused_is_said() -> None:
    with pytest.raises(AsdError, match="rule 'mean' is none of minimum, fisher, harmonic"):
        Fusion("mean").fit(P)  # type: ignore[arg-type]
    for wrong in (0.0, 1.1, np.nan):
        with pytest.raises(AsdError, match="1 of 2 p-values are not above 0 and at most 1"):
            Fusion().fit([[0.5, wrong]])
    with pytest.raises(AsdError, match=r"must be \(recordings, 2\), got the shape \(1, 3\)"):
        Fusion().fit(P).p_value([[0.1, 0.1, 0.1]])
    with pytest.raises(AsdError, match="no recording to fuse"):
        Fusion().fit(np.zeros((0, 2)))
    with pytest.raises(NotFittedError):
        Fusion().p_value(P)
