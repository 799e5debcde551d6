import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from asdcore.errors import AsdError
from asdcore.normality.calibration import Calibration
from asdcore.normality.fusion import RULES, Rule, fuse
from asdcore.normality.models import NormalityModel

P = np.random.default_rng(0).uniform(size=(200, 2))


def scorers(n: int, dependence: float, fault: tuple[float, float] = (0, 0), seed: int = 0) -> NDArray[np.float64]:
    """(n, 2) distances of two scorers."""
    covariance = [[1, dependence], [dependence, 1]]
    drawn = np.random.default_rng(seed).multivariate_normal([0, 0], covariance, size=n)
    return np.exp((drawn + fault) * [0.1, 0.5])


def p_values(calibrations: list[Calibration], distances: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([own.p_value(values) for own, values in zip(calibrations, distances.T, strict=True)])


def called(
    rule: Rule, n: int, dependence: float, fault: tuple[float, float], rate: float, sets: int = 40, weight: float = 0.5
) -> float:
    """Share of recordings called anomalous, over training sets."""
    shares = []
    for seed in range(sets):
        own = [Calibration().fit(values) for values in scorers(n, dependence, seed=seed).T]
        new = p_values(own, scorers(200, dependence, fault, seed=10**6 + seed))
        shares.append((fuse(new, rule, weight) <= rate).mean())
    return float(np.mean(shares))


@pytest.mark.parametrize("rule", RULES)
def test_fused_p_values_of_independent_eyes_are_uniform(rule: Rule) -> None:
    fused = fuse(np.random.default_rng(1).uniform(size=(200_000, 2)), rule)
    for rate in (0.001, 0.01, 0.1, 0.5, 0.9):
        assert (fused <= rate).mean() == pytest.approx(rate, abs=4 * np.sqrt(rate / 200_000))


@pytest.mark.parametrize("weight", [0.1, 0.25, 0.8])
def test_weighted_they_are_uniform_too(weight: float) -> None:
    fused = fuse(np.random.default_rng(2).uniform(size=(200_000, 2)), weight=weight)
    for rate in (0.001, 0.01, 0.1, 0.5, 0.9):
        assert (fused <= rate).mean() == pytest.approx(rate, abs=4 * np.sqrt(rate / 200_000))


def test_a_useless_eye_costs_the_less_the_lower_its_weight() -> None:
    found = [called("harmonic", 1000, 0.0, (0, 2.5), 0.01, weight=weight) for weight in (0.1, 0.25, 0.5, 0.75)]
    assert found == sorted(found, reverse=True) and found[0] > found[-1] + 0.1


def test_fisher_and_the_minimum_are_those_of_the_textbook() -> None:
    np.testing.assert_allclose(fuse(P, "fisher"), [stats.combine_pvalues(row, "fisher").pvalue for row in P])
    np.testing.assert_allclose(fuse(P, "minimum"), [stats.combine_pvalues(row, "tippett").pvalue for row in P])


@pytest.mark.parametrize("weight", [0.25, 0.5])
@pytest.mark.parametrize("dependence", [0.0, 0.5, 0.95])
@pytest.mark.parametrize(("n", "rate"), [(30, 0.1), (100, 0.05), (1000, 0.01), (1000, 0.1)])
def test_the_false_alarm_rate_is_kept_however_the_eyes_depend_on_each_other(
    weight: float, dependence: float, n: int, rate: float
) -> None:
    assert 0.6 * rate < called("harmonic", n, dependence, (0, 0), rate, weight=weight) < 1.25 * rate


def test_fishers_rule_would_not_keep_it() -> None:
    assert called("fisher", 1000, 0.9, (0, 0), 0.01) > 0.025


@pytest.mark.parametrize("dependence", [0.0, 0.5, 0.9])
def test_a_useless_eye_costs_little_of_what_the_other_finds(dependence: float) -> None:
    alone = np.mean([stats.norm.isf(0.01) < 3.5 + np.random.default_rng(0).normal(size=10_000)])
    assert called("harmonic", 1000, dependence, (3.5, 0), 0.01) > 0.85 * alone


def test_two_eyes_find_more_than_either_of_what_both_see() -> None:
    assert called("harmonic", 1000, 0.0, (2, 2), 0.01) > 0.44  # Either alone finds 37 %.


def test_the_p_values_of_embedding_and_spectrum_models_of_the_same_recordings() -> None:
    shares = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        mixing, loudness = rng.normal(size=(6, 70)), np.exp(0.3 * rng.normal(size=(700, 1)))
        both = (rng.normal(size=(700, 6)) @ mixing + rng.normal(size=(700, 70))) * loudness
        fitted = [NormalityModel("ledoit_wolf").fit(part[:300]) for part in (both[:, :40], both[:, 40:])]
        own = [Calibration().fit(model.leave_one_out_) for model in fitted]
        new = p_values(own, np.column_stack([fitted[0].distance(both[300:, :40]), fitted[1].distance(both[300:, 40:])]))
        assert stats.spearmanr(new).statistic > 0.4
        shares.append((fuse(new) <= 0.1).mean())
    assert np.mean(shares) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("rule", RULES)
def test_a_fused_p_value_is_one_and_falls_with_either(rule: Rule) -> None:
    extremes = fuse([[1.0, 1.0], [1e-300, 1.0], [1e-300, 1e-300], [5e-324, 5e-324]], rule)
    assert extremes[0] == 1 and ((extremes > 0) & (extremes <= 1)).all()
    steps = np.linspace(0.001, 1, 400)
    for other in (1e-6, 0.01, 0.5, 1.0):
        own = fuse(np.column_stack([steps, np.full(400, other)]), rule)
        assert (np.diff(own) >= -1e-15).all()
        np.testing.assert_allclose(own, fuse(np.column_stack([np.full(400, other), steps]), rule), rtol=1e-12)


def test_what_can_not_be_fused_is_said() -> None:
    with pytest.raises(AsdError, match="rule 'mean' is none of minimum, fisher, harmonic"):
        fuse(P, "mean")  # type: ignore[arg-type]
    for wrong in (0.0, 1.1, np.nan):
        with pytest.raises(AsdError, match="1 of 2 p-values are not above 0 and at most 1"):
            fuse([[0.5, wrong]])
    with pytest.raises(AsdError, match=r"must be \(recordings, 2\), got the shape \(1, 3\)"):
        fuse([[0.1, 0.1, 0.1]])
    assert fuse(np.zeros((0, 2))).shape == (0,)
