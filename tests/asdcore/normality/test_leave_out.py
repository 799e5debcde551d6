from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import EmpiricalCovariance, LedoitWolf

from asdcore.normality.base import model_class
from asdcore.normality.gaussian import LedoitWolfCovariance, MaximumLikelihood, TiedCovariance
from asdcore.normality.leave_out import domain_weights, leave_one_out, leave_one_out_pseudo_inverse

Matrix = NDArray[np.float64]


def embeddings(n: int, p: int, seed: int = 0) -> Matrix:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) + 10 * rng.normal(size=p)


def refits(X: Matrix, distance_without: Callable[[Matrix, Matrix], Matrix]) -> Matrix:
    return np.array([distance_without(np.delete(X, i, 0), X[i : i + 1])[0] for i in range(len(X))])


def shrunk(X: Matrix, row: Matrix, shrinkage: float) -> Matrix:
    """Squared distance of ``row`` from mean and shrunk covariance of X, written out."""
    p = X.shape[1]
    covariance = np.cov(X.T, bias=True).reshape(p, p)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / p * np.eye(p)
    away = (row - X.mean(axis=0))[0]
    return np.array([away @ np.linalg.solve(covariance, away)])


@pytest.mark.parametrize(("n", "p"), [(4, 1), (9, 7), (40, 6), (150, 64), (200, 128)])
def test_ml_is_a_refit_without_the_row(n: int, p: int) -> None:
    X = embeddings(n, p)
    expected = refits(X, lambda others, row: EmpiricalCovariance().fit(others).mahalanobis(row))
    model = MaximumLikelihood().fit(X)
    assert model.report_.used == "ml"
    np.testing.assert_allclose(model.left_out_, expected, rtol=1e-6)


@pytest.mark.parametrize(("n", "p"), [(3, 2), (12, 30), (20, 20), (40, 6), (60, 128), (200, 128)])
def test_ledoit_wolf_is_a_refit_without_the_row_with_the_shrinkage_of_all(n: int, p: int) -> None:
    X = embeddings(n, p)
    model = LedoitWolfCovariance().fit(X)
    shrinkage = LedoitWolf().fit(X).shrinkage_
    assert model.report_.shrinkage == shrinkage > 0
    expected = refits(X, lambda others, row: shrunk(others, row, shrinkage))
    np.testing.assert_allclose(model.left_out_, expected, rtol=1e-6)


def test_ledoit_wolf_with_the_shrinkage_of_all_is_close_to_a_whole_refit() -> None:
    X = embeddings(60, 32)
    expected = refits(X, lambda others, row: LedoitWolf().fit(others).mahalanobis(row))
    np.testing.assert_allclose(LedoitWolfCovariance().fit(X).left_out_, expected, rtol=0.25)


@pytest.mark.parametrize(("n", "p"), [(5, 20), (8, 8), (8, 7), (12, 11)])
def test_who_insists_on_too_few_recordings_gets_the_refits_of_the_pseudo_inverse(n: int, p: int) -> None:
    X = embeddings(n, p)
    expected = refits(X, lambda others, row: EmpiricalCovariance().fit(others).mahalanobis(row))
    np.testing.assert_allclose(leave_one_out_pseudo_inverse(X), expected, rtol=1e-5)
    if n <= p:
        np.testing.assert_allclose(MaximumLikelihood(force_estimator=True).fit(X).left_out_, expected, rtol=1e-5)


def test_a_recording_that_alone_spans_a_direction_is_infinitely_far_from_the_others() -> None:
    X = np.pad(embeddings(30, 3), ((0, 0), (0, 1)))
    X[7, 3] = 1.0
    distances = MaximumLikelihood().fit(X).left_out_
    assert np.flatnonzero(np.isinf(distances)).tolist() == [7]
    assert np.isfinite(LedoitWolfCovariance().fit(X).left_out_).all()


def test_two_recordings_know_nothing_of_each_other() -> None:
    assert np.isinf(LedoitWolfCovariance().fit(embeddings(2, 5)).left_out_).all()


def test_distances_stay_right_where_variances_span_twelve_orders_of_magnitude() -> None:
    scale = np.logspace(0, -6, 8)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 8))
    np.testing.assert_allclose(leave_one_out(X * scale), leave_one_out(X), rtol=1e-5)


@pytest.mark.parametrize("estimator", ["ml", "ledoit_wolf", "tied", "knn", "elliptic"])
def test_fresh_recordings_are_as_far_as_the_ones_left_out_and_farther_than_those_kept_in(estimator: str) -> None:
    X, new = np.split(embeddings(2200, 30), [200])
    model = model_class(estimator)().fit(X)
    assert np.median(model.left_out_) == pytest.approx(np.median(model.distance(new)), rel=0.12)
    assert np.median(model.distance(X)) < 0.92 * np.median(model.distance(new))


def tied_without(X: Matrix, domain: NDArray[np.intp], i: int, shrinkage: float) -> float:
    """Fit on all but row i and its distance, written out."""
    row, X, domain = X[i], np.delete(X, i, 0), np.delete(domain, i)
    (n, p), there = X.shape, np.unique(domain)
    within = np.concatenate([X[domain == own] - X[domain == own].mean(axis=0) for own in there])
    covariance = within.T @ within / (n - len(there) + 1)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / p * np.eye(p)
    distances = []
    for own in there:
        away = row - X[domain == own].mean(axis=0)
        weight = (1 + 1 / n) / (1 + 1 / np.count_nonzero(domain == own))
        distances.append(weight * away @ np.linalg.solve(covariance, away))
    return min(distances)


@pytest.mark.parametrize("counts", [[40], [38, 2], [39, 1], [20, 15, 5], [20, 1, 1, 18], [10] * 4])
@pytest.mark.parametrize("p", [3, 8, 64])
def test_tied_is_a_refit_without_the_row(counts: list[int], p: int) -> None:
    domain = np.repeat(np.arange(len(counts)), counts)
    X = embeddings(40, p) + 5 * np.random.default_rng(1).normal(size=(len(counts), p))[domain]
    model = TiedCovariance().fit(X, domains=domain)
    assert (model.report_.shrinkage > 0) == (p == 64)
    expected = [tied_without(X, domain, i, model.report_.shrinkage) for i in range(40)]
    np.testing.assert_allclose(model.left_out_, expected, rtol=1e-6)


def test_domains_of_equal_size_or_a_single_one_weigh_the_same() -> None:
    assert domain_weights(np.array([50])).tolist() == [1.0]
    assert len(set(domain_weights(np.array([20, 20, 20])))) == 1
    # Not the mean of a recording, but the recording itself: a new one of that domain lies twice as far.
    assert domain_weights(np.array([10**9, 1]))[1] == pytest.approx(0.5)
