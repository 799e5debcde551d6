"""Left-out distances of whole groups (sessions) against refitting without them."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import EmpiricalCovariance

from asdcore.normality.base import NormalityModel, model_class
from asdcore.normality.gaussian import LedoitWolfCovariance, MaximumLikelihood, TiedCovariance
from asdcore.normality.leave_out import domain_weights, leave_group_out, leave_one_out
from asdcore.normality.neighbours import NearestNeighbours, StandardisedNeighbours
from asdcore.normality.robust import RobustCovariance
from asdcore.registry import NORMALITY_MODELS

Matrix = NDArray[np.float64]
SIZES = ([30, 30, 30], [1, 2, 3, 4, 5, 25, 50], [45, 45], [10] * 9)


def vectors(sizes: list[int], p: int, seed: int = 0) -> tuple[Matrix, NDArray[np.intp]]:
    """Rows of sessions that each have a sound of their own, in any order; and the session of each."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    X = (rng.normal(size=(len(group), p)) + rng.normal(size=(len(sizes), p))[group]) @ rng.normal(size=(p, p))
    return X + 10 * rng.normal(size=p), group


def refits(X: Matrix, group: NDArray[np.intp], without: Callable[[NDArray[np.bool_]], Matrix]) -> Matrix:
    distances = np.empty(len(X))
    for index in np.unique(group):
        distances[group == index] = without(group == index)
    return distances


def shrunk(X: Matrix, out: NDArray[np.bool_], shrinkage: float, domain: NDArray[np.intp]) -> Matrix:
    """Distances of the rows ``out`` from a fit on the others, written out."""
    others, of, p = X[~out], domain[~out], X.shape[1]
    names, counts = np.unique(of, return_counts=True)
    means = np.stack([others[of == name].mean(axis=0) for name in names])
    within = others - means[np.searchsorted(names, of)]
    covariance = within.T @ within / (len(others) - len(names) + 1)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / p * np.eye(p)
    each = [
        weight * np.einsum("ij,ij->i", X[out] - mean, np.linalg.solve(covariance, (X[out] - mean).T).T)
        for mean, weight in zip(means, domain_weights(counts), strict=True)
    ]
    return np.min(each, axis=0)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("p", [1, 5, 30])
def test_ml_is_a_refit_without_the_group(sizes: list[int], p: int) -> None:
    X, group = vectors(sizes, p)
    model = MaximumLikelihood().fit(X, groups=group)
    assert (model.report_.used, model.report_.groups, model.report_.left_out_note) == ("ml", len(sizes), "")
    expected = refits(X, group, lambda out: EmpiricalCovariance().fit(X[~out]).mahalanobis(X[out]))
    np.testing.assert_allclose(model.left_out_, expected, rtol=1e-6)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("p", [5, 60, 200])
def test_ledoit_wolf_is_a_refit_without_the_group_with_the_shrinkage_of_all(sizes: list[int], p: int) -> None:
    X, group = vectors(sizes, p)
    model = LedoitWolfCovariance().fit(X, groups=group)
    one_domain = np.zeros(len(X), dtype=np.intp)
    expected = refits(X, group, lambda out: shrunk(X, out, model.report_.shrinkage, one_domain))
    np.testing.assert_allclose(model.left_out_, expected, rtol=1e-6)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("p", [3, 8, 64])
@pytest.mark.parametrize("domains", ["mixed", "a domain that is a session"])
def test_tied_is_a_refit_without_the_group(sizes: list[int], p: int, domains: str) -> None:
    X, group = vectors(sizes, p)
    domain = np.random.default_rng(1).integers(3, size=len(X)) if domains == "mixed" else (group == 1).astype(np.intp)
    X = X + 5 * np.random.default_rng(2).normal(size=(3, p))[domain]
    model = TiedCovariance().fit(X, domains=domain, groups=group)
    expected = refits(X, group, lambda out: shrunk(X, out, model.report_.shrinkage, domain))
    np.testing.assert_allclose(model.left_out_, expected, rtol=1e-6)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("neighbours", [1, 3])
@pytest.mark.parametrize("kind", [NearestNeighbours, StandardisedNeighbours])
def test_neighbours_are_of_other_groups(sizes: list[int], neighbours: int, kind: type[NearestNeighbours]) -> None:
    X, group = vectors(sizes, 6)
    X[:, 0] *= 1000
    X[:, 1] = 1e-9 * X[:, 1] + 1
    expected = refits(X, group, lambda out: kind(neighbours).fit(X[~out]).distance(X[out]))
    np.testing.assert_allclose(kind(neighbours).fit(X, groups=group).left_out_, expected, rtol=1e-6, atol=1e-12)


def test_elliptic_leaves_out_whole_groups() -> None:
    X, group = vectors([20, 20, 20], 3)
    model = RobustCovariance().fit(X, groups=group)
    expected = refits(X, group, lambda out: RobustCovariance(folds=0).fit(X[~out]).distance(X[out]))
    np.testing.assert_allclose(model.left_out_, expected, rtol=1e-9)


def test_the_pseudo_inverse_is_refitted_without_the_group() -> None:
    X, group = vectors([3, 3, 3], 20)
    model = MaximumLikelihood(force_estimator=True).fit(X, groups=group)
    expected = refits(X, group, lambda out: EmpiricalCovariance().fit(X[~out]).mahalanobis(X[out]))
    np.testing.assert_allclose(model.left_out_, expected, rtol=1e-5)


# The others leave out several groups at a time, and which ones depends on the order of their names.
ONE_AT_A_TIME = ["ml", "ledoit_wolf", "tied", "knn", "standardised_knn"]


@pytest.mark.parametrize("name", ONE_AT_A_TIME)
def test_groups_of_one_row_give_the_distances_of_no_groups(name: str) -> None:
    X, _ = vectors([30, 30], 6)
    alone = model_class(name)().fit(X, groups=np.arange(60))
    np.testing.assert_array_equal(alone.left_out_, model_class(name)().fit(X).left_out_)
    assert leave_group_out(X, np.arange(60)).tolist() == leave_one_out(X).tolist()


@pytest.mark.parametrize("name", NORMALITY_MODELS.names())
def test_a_single_group_is_left_out_row_by_row_and_the_report_says_so(name: str) -> None:
    X, _ = vectors([30, 30], 6)
    model = model_class(name)().fit(X, groups=["monday"] * 60)
    np.testing.assert_array_equal(model.left_out_, model_class(name)().fit(X).left_out_)
    assert model.report_.left_out_note.startswith("all 60 recordings are of one session")


def test_ml_falls_back_where_the_largest_group_leaves_too_few() -> None:
    X, group = vectors([10, 10], 12)
    report = MaximumLikelihood().fit(X, groups=group).report_
    assert report.used == "ledoit_wolf"
    assert report.note.startswith("20 recordings, 10 without the largest session, of 12 values")
    assert MaximumLikelihood().fit(X).report_.used == "ml"


def test_a_direction_that_only_one_group_has_is_infinitely_far() -> None:
    X, group = vectors([20, 20, 20], 3)
    X = np.pad(X, ((0, 0), (0, 1)))
    X[(group == 2) & (np.arange(60) % 2 == 0), 3] = 1.0
    distances = leave_group_out(X, group)
    odd = X[:, 3] == 1
    assert np.isinf(distances[odd]).all() and np.isfinite(distances[~odd]).all()


def test_sessions_that_differ_are_strangers_to_each_other_and_not_to_themselves() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), 25)
    X = rng.normal(size=(100, 8)) + 6 * rng.normal(size=(4, 8))[group]
    new = rng.normal(size=(200, 8)) + 6 * rng.normal(size=(200, 8))
    for name in ("ml", "ledoit_wolf", "tied", "knn", "standardised_knn"):
        by_session, by_row = model_class(name)().fit(X, groups=group), model_class(name)().fit(X)
        assert by_session.left_out_ is not None and by_row.left_out_ is not None
        # What a recording of a new session is like, only leaving sessions out tells.
        assert np.median(by_session.distance(new)) > 3 * np.quantile(by_row.left_out_, 0.95)
        assert np.median(by_session.distance(new)) < 3 * np.quantile(by_session.left_out_, 0.95)


class Spread(NormalityModel):
    """Largest deviation in standard deviations: no closed form of its own."""

    name = "spread"

    def _fit(self, X: Matrix, domain: NDArray[np.intp]) -> None:
        self.mean_, self.deviation_ = X.mean(axis=0), X.std(axis=0)

    def _distance(self, X: Matrix) -> Matrix:
        return np.abs((X - self.mean_) / self.deviation_).max(axis=1)


def test_a_model_without_a_closed_form_is_refitted_by_whole_groups() -> None:
    X, group = vectors([10, 20, 30], 4)
    expected = refits(X, group, lambda out: Spread().fit(X[~out]).distance(X[out]))
    np.testing.assert_allclose(Spread().fit(X, groups=group).left_out_, expected, rtol=1e-12)
    alone = Spread().fit(X).left_out_  # More rows than refits: several at a time.
    assert alone is not None and np.isfinite(alone).all() and len(alone) == 60
