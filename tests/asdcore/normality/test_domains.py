"""``tied``: one covariance, a mean for each domain, and no need to know the domain of a new recording."""

import numpy as np
import pytest
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.normality.base import NormalityModel
from asdcore.normality.calibration import Calibration
from asdcore.normality.gaussian import MaximumLikelihood, TiedCovariance

P = 128
SHIFT = np.r_[10.0, np.zeros(P - 1)]
"""ten standard deviations, in one direction"""
DOMAINS = np.repeat(["source", "target"], [990, 10])


def machine(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """990 + 10 training recordings; 1000 fresh normal ones of each domain."""
    rng = np.random.default_rng(seed)
    training = rng.normal(size=(1000, P))
    training[990:] += SHIFT
    return training, rng.normal(size=(1000, P)), rng.normal(size=(1000, P)) + SHIFT


def false_alarms(model: NormalityModel, new: NDArray[np.float64]) -> float:
    calibration = Calibration().fit(model.left_out_)
    return float(calibration.decision(model.distance(new), 0.01).mean())


def test_ten_target_recordings_are_enough_for_target_normals_not_to_alarm() -> None:
    pooled, tied = [], []
    for seed in range(4):
        training, source, target = machine(seed)
        models = MaximumLikelihood().fit(training), TiedCovariance().fit(training, domains=DOMAINS)
        for figures, model in zip((pooled, tied), models, strict=True):
            means = model.distance(source).mean(), model.distance(target).mean()
            figures.append((*means, false_alarms(model, source), false_alarms(model, target)))
    source_pooled, target_pooled, _, alarms_pooled = np.mean(pooled, axis=0)
    source_tied, target_tied, alarms_source, alarms_target = np.mean(tied, axis=0)
    assert source_pooled == pytest.approx(147, abs=2) and target_pooled == pytest.approx(203, abs=6)
    assert source_tied == pytest.approx(147, abs=2) and target_tied == pytest.approx(149, abs=5)
    assert alarms_pooled > 0.35
    assert alarms_source < 0.02 and alarms_target < 0.03


def test_without_the_weight_of_its_ten_recordings_the_target_domain_would_be_farther() -> None:
    training, source, target = machine(0)
    model = TiedCovariance().fit(training, domains=DOMAINS)
    model.counts_ = np.array([10**6, 10**6])
    assert model.distance(target).mean() - model.distance(source).mean() == pytest.approx(15, abs=5)


def test_an_anomaly_between_the_domains_is_far_from_both() -> None:
    training, source, target = machine(1)
    model = TiedCovariance().fit(training, domains=DOMAINS)
    between = source + SHIFT / 2
    assert model.distance(between).mean() > max(model.distance(source).mean(), model.distance(target).mean()) + 20


def test_with_one_domain_it_is_ml() -> None:
    X, new = np.random.default_rng(0).normal(size=(2, 200, 20))
    ml = MaximumLikelihood().fit(X)
    for domains in (None, ["only"] * 200):
        tied = TiedCovariance().fit(X, domains=domains)
        np.testing.assert_allclose(tied.distance(new), ml.distance(new), rtol=1e-9)
        np.testing.assert_allclose(tied.left_out_, ml.left_out_, rtol=1e-9)
        assert (tied.report_.domains, tied.report_.used, tied.report_.note) == (1, "tied", "")


def test_more_than_two_domains_each_have_their_mean() -> None:
    rng = np.random.default_rng(0)
    centres = 30 * np.eye(4, 6)
    domain = np.arange(200) % 4
    model = TiedCovariance().fit(rng.normal(size=(200, 6)) + centres[domain], domains=domain)
    assert model.counts_.tolist() == [50] * 4
    assert model.report_.domains == 4
    assert model.distance(centres).max() < 2 < 100 < model.distance(centres.mean(axis=0)[None])[0]


@pytest.mark.parametrize("few", [1, 2])
def test_a_domain_of_one_or_two_recordings_counts(few: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100 + few, 8))
    X[100:, 0] += 20
    model = TiedCovariance().fit(X, domains=np.arange(100 + few) >= 100)
    new = rng.normal(size=(500, 8)) + np.r_[20, np.zeros(7)]
    assert np.median(model.distance(new)) < np.quantile(model.left_out_[:100], 0.95)
    # One recording has nobody to confirm it: without it, its domain is unknown.
    assert (model.left_out_[100:].max() > 100) == (few == 1)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_where_every_domain_is_a_single_recording_they_are_taken_together(n: int) -> None:
    X = np.random.default_rng(0).normal(size=(n, 4))
    apart, together = TiedCovariance().fit(X, domains=np.arange(n)), TiedCovariance().fit(X)
    assert apart.report_.domains == 1
    assert apart.distance(X).tolist() == together.distance(X).tolist()


def test_fewer_recordings_than_twice_the_values_are_shrunk() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=(40, 32)), rng.normal(size=(100, 32))
    assert TiedCovariance().fit(few, domains=np.arange(40) % 2).report_.shrinkage > 0.1
    assert TiedCovariance().fit(many, domains=np.arange(100) % 2).report_.shrinkage == 0
    flat = np.hstack([many, many[:, :1]])
    model = TiedCovariance().fit(flat, domains=np.arange(100) % 2)
    assert model.report_.shrinkage > 0
    outside = flat[:1] + np.r_[np.zeros(32), 30]
    assert model.distance(outside)[0] > model.left_out_.max()


def test_identical_recordings_are_refused_whatever_their_domains() -> None:
    with pytest.raises(AsdError, match="all 20 embeddings are the same"):
        TiedCovariance().fit(np.full((20, 4), 0.1), domains=np.arange(20) % 2)
