import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.exceptions import NotFittedError

from asdcore.errors import AsdError
from asdcore.normality.base import model_class
from asdcore.normality.calibration import Calibration, n_effective

RATES = (0.01, 0.05, 0.1)


def distances(n: int, p: int = 32, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).chisquare(p, n)


@pytest.fixture(autouse=True)
def no_warning() -> None:
    warnings.simplefilter("error")


def test_where_each_recording_is_a_session_a_p_value_is_the_conformal_rank() -> None:
    known = distances(200)
    new = np.concatenate([known, distances(300, seed=1), [0.0, 1e9, np.inf]])
    expected = [(1 + np.count_nonzero(known >= value)) / 201 for value in new]
    calibration = Calibration().fit(known)
    np.testing.assert_allclose(calibration.p_value(new), expected, rtol=1e-12)
    np.testing.assert_allclose(calibration.rank_p_value(new), expected, rtol=1e-12)
    assert calibration.supported_rate == pytest.approx(1 / 201)
    assert calibration.beyond(new).tolist() == (new > known.max()).tolist()


@pytest.mark.parametrize("n", [1, 2, 3, 10, 100, 10_000])
@pytest.mark.parametrize("shape", ["chi-square", "equal", "zeros", "negative", "duplicates", "infinite"])
def test_p_values_never_rise_and_never_fall_below_what_the_recordings_support(n: int, shape: str) -> None:
    known = {
        "chi-square": distances(n),
        "equal": np.full(n, 7.0),
        "zeros": np.zeros(n),
        "negative": np.log(distances(n)) - 9,
        "duplicates": np.where(np.arange(n) % 2, 0.0, 3.0),
        "infinite": np.where(np.arange(n) % 10 == 1, np.inf, distances(n)),
    }[shape]
    calibration = Calibration().fit(known, groups=np.arange(n) // 3)
    largest = known[np.isfinite(known)].max()
    beyond = np.concatenate([largest + np.logspace(-9, 300, 301), [np.inf]])
    p = calibration.p_value(np.concatenate([np.sort(known[np.isfinite(known)]), beyond]))
    assert (np.diff(p) <= 0).all()
    assert p.min() >= calibration.supported_rate and p.max() <= 1
    assert calibration.beyond(beyond).all()


@pytest.mark.parametrize("n", [2, 10, 16, 60, 99, 100, 999])
@pytest.mark.parametrize("rate", [1e-6, 0.001, 0.01, 0.05, 0.1, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize("infinite", [0, 1])
@pytest.mark.parametrize("size", [1, 4])
def test_the_threshold_is_the_smallest_distance_with_such_a_p_value_if_there_is_one(
    n: int, rate: float, infinite: int, size: int
) -> None:
    known = distances(n)
    known[:infinite] = np.inf
    calibration = Calibration().fit(known, groups=np.arange(n) // size)
    threshold = calibration.threshold(rate)
    if np.isfinite(threshold):
        assert calibration.p_value(threshold) <= rate < calibration.p_value(np.nextafter(threshold, -np.inf))
    else:
        assert (calibration.p_value(distances(500, seed=1) * 100) > rate).all()
    new = np.concatenate([known, distances(500, seed=1)])
    assert calibration.decision(new, rate).tolist() == (calibration.p_value(new) <= rate).tolist()
    assert calibration.decision(new, rate).tolist() == (new >= threshold).tolist() or not np.isfinite(threshold)


def test_sessions_that_are_alike_inside_are_worth_little_more_than_one_recording_each() -> None:
    rng = np.random.default_rng(0)
    sessions = np.repeat(np.arange(10), 20)
    alike = rng.normal(size=10)[sessions] + 0.01 * rng.normal(size=200)
    assert n_effective(alike, sessions) == pytest.approx(10, rel=0.05)
    independent = rng.normal(size=200)
    assert 60 < n_effective(independent, sessions) <= 200
    assert n_effective(independent, np.zeros(200, dtype=int)) == 1
    assert n_effective(independent, np.arange(200)) == 200


@pytest.mark.parametrize("rate", [1e-6, 0.01, 0.1, 0.5])
def test_logarithms_of_distances_have_the_same_p_values_and_verdicts_as_the_distances(rate: float) -> None:
    known, new, sessions = distances(60), distances(200, seed=1), np.arange(60) // 4
    plain, logarithmic = (Calibration().fit(values, groups=sessions) for values in (known, np.log(known) - 9))
    assert (logarithmic.distances_ < 0).all() and logarithmic.n_effective_ == plain.n_effective_
    for method in ("decision", "suspect"):
        expected, again = getattr(plain, method)(new, rate), getattr(logarithmic, method)(np.log(new) - 9, rate)
        assert again.tolist() == expected.tolist()
    assert logarithmic.p_value(np.log(new) - 9).tolist() == plain.p_value(new).tolist()
    assert np.isfinite(logarithmic.threshold(rate)) == (rate >= plain.supported_rate)


def test_each_session_counts_the_same_however_many_recordings_it_has() -> None:
    known = np.concatenate([np.zeros(98), [5.0, 6.0]])
    calibration = Calibration().fit(known, groups=["long"] * 98 + ["short"] * 2)
    share = (calibration.p_value(4.0) * (1 + calibration.n_effective_) - 1) / calibration.n_effective_
    assert share == pytest.approx(1 / 2)


def test_with_one_session_nothing_can_be_promised_and_what_is_beyond_is_suspect() -> None:
    calibration = Calibration().fit(distances(50), groups=["monday"] * 50)
    assert calibration.supported_rate == 1 / 2 and calibration.interval(0.1) == (0.0, 0.0)
    far = [calibration.largest_ * 2]
    assert not calibration.decision(far, 0.1).any() and calibration.suspect(far, 0.001).all()
    assert not calibration.suspect([np.median(calibration.distances_)], 0.1).any()


def test_sixteen_recordings_make_suspicious_at_one_percent_and_anomalous_at_ten() -> None:
    calibration = Calibration().fit(distances(16))
    far = [calibration.largest_ * 1.01]
    assert (calibration.decision(far, 0.01)[0], calibration.suspect(far, 0.01)[0]) == (False, True)
    assert calibration.decision(far, 0.1)[0]


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("k", [5, 10, 20])
def test_in_a_session_not_heard_before_the_rate_is_at_most_the_one_asked_for(correlation: float, k: int) -> None:
    rng = np.random.default_rng([k, int(10 * correlation)])

    def draw(sessions: int, size: int) -> NDArray[np.float64]:
        level = np.sqrt(correlation) * rng.normal(size=(sessions, 1))
        return level + np.sqrt(1 - correlation) * rng.normal(size=(sessions, size))

    alarms, by_rank = [], []
    for _ in range(150):
        calibration = Calibration().fit(draw(k, 10).ravel(), groups=np.repeat(np.arange(k), 10))
        new = draw(20, 10).ravel()
        alarms.append(calibration.decision(new, 0.1).mean())
        by_rank.append((calibration.rank_p_value(new) <= 0.1).mean())
    assert np.mean(alarms) <= 0.1
    if k > 5:
        assert np.mean(alarms) > 0.06  # an alarm that never rings keeps every rate
    if correlation == 0.9:
        assert np.mean(by_rank) > 0.11  # as if recordings of one session were independent


def test_the_interval_of_the_realised_rate_narrows_with_more_recordings() -> None:
    low, high = Calibration().fit(distances(20)).interval(0.1)
    assert (low, high) == (pytest.approx(0.02, abs=0.01), pytest.approx(0.22, abs=0.02))
    narrow = Calibration().fit(distances(2000)).interval(0.1)
    assert low < narrow[0] < 0.1 < narrow[1] < high


def test_arrays_restore_the_same_calibration() -> None:
    calibration = Calibration().fit(distances(30), groups=[f"day {i // 5}" for i in range(30)])
    again = Calibration.from_arrays(calibration.to_arrays())
    new = distances(100, seed=1)
    assert again.p_value(new).tolist() == calibration.p_value(new).tolist()


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
@pytest.mark.parametrize("n", [16, 60])
def test_few_recordings_keep_the_rate_on_average_over_training_sets(estimator: str, n: int) -> None:
    left_out, _ = false_alarms(n, 64, estimator, 100, 50)
    for alarms, rate in zip(left_out, RATES, strict=True):
        supported = int(rate * (n + 1)) / (n + 1)  # 16 recordings: ranks are multiples of 1 / 17 = 6 %
        assert 0.5 * supported <= alarms / 5000 <= supported + 0.03


def test_what_cannot_be_calibrated_is_an_error() -> None:
    for distances_of_none in ([], [np.inf, np.inf]):
        with pytest.raises(AsdError, match="none of them finite"):
            Calibration().fit(distances_of_none)
    with pytest.raises(AsdError, match="groups must be one name for each of 2"):
        Calibration().fit([1.0, 2.0], groups=["monday"])
    with pytest.raises(AsdError, match="1 of 2 distances are NaN"):
        Calibration().fit([1.0, 2.0]).p_value([np.nan, 1.0])
    for rate in (0, 1, -0.1, np.nan):
        with pytest.raises(AsdError, match="false_alarm_rate is"):
            Calibration().fit([1.0, 2.0]).threshold(rate)
    with pytest.raises(NotFittedError):
        Calibration().p_value([1.0])
