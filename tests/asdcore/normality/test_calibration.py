import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.exceptions import NotFittedError

from asdcore.errors import AsdError
from asdcore.normality.base import model_class
from asdcore.normality.calibration import Calibration

RATES = (0.01, 0.05, 0.1)


def distances(n: int, p: int = 32, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).chisquare(p, n)


@pytest.fixture(autouse=True)
def no_warning() -> None:
    warnings.simplefilter("error")


def test_up_to_the_largest_distance_seen_a_p_value_is_the_conformal_rank() -> None:
    own = distances(200)
    new = np.concatenate([own, distances(300, seed=1), [0.0]])
    new = new[new <= own.max()]
    expected = [(1 + np.count_nonzero(own >= value)) / 201 for value in new]
    calibration = Calibration().fit(own)
    assert calibration.p_value(new).tolist() == expected
    assert not calibration.extrapolated(new).any()


@pytest.mark.parametrize("n", [1, 2, 3, 10, 100, 10_000])
@pytest.mark.parametrize("shape", ["chi-square", "heavy", "equal", "zeros", "duplicates", "infinite"])
def test_p_values_fall_without_a_jump_beyond_the_largest_and_are_never_0(n: int, shape: str) -> None:
    rng = np.random.default_rng(n)
    own = {
        "chi-square": distances(n),
        "heavy": np.exp(2 * rng.normal(size=n)),
        "equal": np.full(n, 7.0),
        "zeros": np.zeros(n),
        "duplicates": np.where(np.arange(n) % 2, 0.0, 3.0),
        "infinite": np.where(np.arange(n) % 10 == 1, np.inf, distances(n)),
    }[shape]
    calibration = Calibration().fit(own)
    largest = own[np.isfinite(own)].max()
    start = (1 + np.isinf(own).sum()) / (n + 1)
    if largest > 0:
        assert calibration.p_value(largest * (1 + 1e-12)) == pytest.approx(start, rel=1e-6)
    beyond = np.concatenate([largest + np.linspace(0, 1, 50)[1:], largest + np.logspace(0, 300, 301), [np.inf]])
    p = calibration.p_value(np.concatenate([np.sort(own[np.isfinite(own)]), beyond]))
    assert (np.diff(p) <= 0).all()
    assert p.min() > 0 and p.max() <= 1
    assert calibration.extrapolated(beyond).all()


def test_the_tail_does_not_end_where_a_fault_is_only_twice_as_far() -> None:
    calibration = Calibration().fit(distances(1000, 128))
    p = calibration.p_value(calibration.largest_ * np.array([1.1, 1.5, 2, 4]))
    assert (np.diff(np.log(p)) < -0.5).all()
    assert 1e-12 < p[2] < 1e-5


@pytest.mark.parametrize("n", [2, 10, 16, 60, 99, 100, 999, 1000])
@pytest.mark.parametrize("rate", [1e-6, 0.001, 0.01, 0.05, 0.1, 1 / 3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("infinite", [0, 1])
def test_the_threshold_is_the_smallest_distance_with_such_a_p_value(n: int, rate: float, infinite: int) -> None:
    own = distances(n)
    own[:infinite] = np.inf
    calibration = Calibration().fit(own)
    threshold = calibration.threshold(rate)
    assert calibration.p_value(threshold) <= rate
    assert calibration.p_value(threshold * (1 - 1e-9)) > rate
    new = np.concatenate([own, distances(500, seed=1), [threshold]])
    assert calibration.decision(new, rate).tolist() == (calibration.p_value(new) <= rate).tolist()
    assert calibration.decision(new, rate).tolist() == (new >= threshold).tolist()


def test_equal_distances_get_equal_p_values() -> None:
    calibration = Calibration().fit([1.0, 2, 2, 2, 3])
    assert calibration.p_value([2.0, 2.0]).tolist() == [5 / 6, 5 / 6]
    assert calibration.p_value(2.0).shape == ()


def false_alarms(n: int, p: int, estimator: str, sets: int, fresh: int) -> tuple[NDArray[np.int_], ...]:
    """Alarms among sets x fresh normals at each rate: by leave-one-out distances, and by those of the training rows."""
    left_out, in_sample = np.zeros((2, len(RATES)), dtype=int)
    for seed in range(sets):
        rng = np.random.default_rng([seed, p])
        X = rng.normal(size=(n, p))
        model = model_class(estimator)().fit(X)
        new = model.distance(rng.normal(size=(fresh, p)))
        honest, naive = Calibration().fit(model.left_out_), Calibration().fit(model.distance(X))
        left_out += [np.count_nonzero(honest.decision(new, rate)) for rate in RATES]
        in_sample += [np.count_nonzero(naive.decision(new, rate)) for rate in RATES]
    return left_out, in_sample


@pytest.mark.parametrize(("p", "in_sample_at_10_percent"), [(32, 0.14), (64, 0.22), (128, 0.49), (256, 0.98)])
def test_a_thousand_recordings_keep_the_rate_where_in_sample_thresholds_do_not(
    p: int, in_sample_at_10_percent: float
) -> None:
    # Many training sets with few fresh recordings each: their draws are then all but independent.
    sets, fresh = 20, 100
    left_out, in_sample = false_alarms(1000, p, "ml", sets, fresh)
    for alarms, rate in zip(left_out, RATES, strict=True):
        low, high = stats.binom.interval(0.99, sets * fresh, rate)
        assert low <= alarms <= high, f"{rate:.0%} asked for, {alarms / sets / fresh:.1%} got"
    assert in_sample[-1] / sets / fresh == pytest.approx(in_sample_at_10_percent, abs=0.03)


@pytest.mark.parametrize("estimator", ["ledoit_wolf", "tied", "knn"])
@pytest.mark.parametrize(("n", "allowed"), [(16, (0.02, 0.075, 0.08)), (60, (0.016, 0.068, 0.12))])
def test_few_recordings_keep_the_rate_on_average_over_training_sets(
    estimator: str, n: int, allowed: tuple[float, ...]
) -> None:
    # 16 recordings: ranks are multiples of 1 / 17 = 6 %, so that 10 % becomes 6 % or less.
    left_out, _ = false_alarms(n, 64, estimator, 100, 50)
    for alarms, rate, most in zip(left_out, RATES, allowed, strict=True):
        assert 0.3 * rate <= alarms / 5000 <= most


@pytest.mark.parametrize(("tail", "most"), [("chi-square", 1.5), ("lognormal", 1.6), ("heavy", 2.5)])
def test_the_extrapolated_tail_promises_no_more_than_it_keeps(tail: str, most: float) -> None:
    def draw(n: int, seed: int) -> NDArray[np.float64]:
        rng = np.random.default_rng(seed)
        wide = rng.chisquare(5, n) / 5 if tail == "heavy" else 1.0
        return np.exp(0.7 * rng.normal(size=n)) if tail == "lognormal" else rng.chisquare(64, n) / wide

    for n, rate in ((30, 0.01), (100, 0.001)):
        achieved = [Calibration().fit(draw(n, seed)).threshold(rate) for seed in range(200)]
        new = np.sort(draw(200_000, 10**6))
        share = np.mean(1 - np.searchsorted(new, achieved) / len(new))
        assert share <= most * rate, (n, rate, share)


@pytest.mark.parametrize("rate", [1e-6, 0.01, 0.1, 0.5])
def test_of_logarithms_it_says_the_same_as_of_what_they_are_logarithms_of(rate: float) -> None:
    own, new = distances(40), 3 * distances(100, seed=1)
    plain, logarithmic = Calibration().fit(own), Calibration(logarithmic=True).fit(np.log(own) - 10)
    np.testing.assert_allclose(logarithmic.p_value(np.log(new) - 10), plain.p_value(new), rtol=1e-9)
    assert logarithmic.threshold(rate) == pytest.approx(np.log(plain.threshold(rate)) - 10)


def test_what_can_not_be_calibrated_is_said() -> None:
    for nothing in ([], [np.inf, np.inf]):
        with pytest.raises(AsdError, match="none of them finite"):
            Calibration().fit(nothing)
    with pytest.raises(AsdError, match=r"distance of -1\.0"):
        Calibration().fit([-1.0, 2.0])
    with pytest.raises(AsdError, match="1 of 2 distances are NaN"):
        Calibration().fit([1.0, 2.0]).p_value([np.nan, 1.0])
    for rate in (0, 1, -0.1, np.nan):
        with pytest.raises(AsdError, match="false_alarm_rate is"):
            Calibration().fit([1.0, 2.0]).threshold(rate)
    with pytest.raises(NotFittedError):
        Calibration().p_value([1.0])
