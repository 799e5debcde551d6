import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.covariance import EllipticEnvelope, EmpiricalCovariance, LedoitWolf
from sklearn.decomposition import PCA

from asdcore.errors import AsdError
from asdcore.normality.base import NormalityModel, build_model, model_class, model_from_arrays
from asdcore.normality.gaussian import LedoitWolfCovariance, MaximumLikelihood, TiedCovariance
from asdcore.normality.robust import RobustCovariance
from asdcore.settings import NormalitySettings


def correlated(n: int, p: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) + 10 * rng.normal(size=p)


NAMES = ["ml", "elliptic", "ledoit_wolf", "tied", "knn", "standardised_knn"]
X, NEW = correlated(120, 6), correlated(30, 6, seed=1)
DOMAINS = np.where(np.arange(120) < 110, "source", "target")


@pytest.mark.parametrize(("estimator", "reference"), [("ml", EmpiricalCovariance()), ("ledoit_wolf", LedoitWolf())])
def test_distances_are_those_of_scikit_learn(estimator: str, reference) -> None:
    model = model_class(estimator)().fit(X)
    np.testing.assert_allclose(model.distance(NEW), reference.fit(X).mahalanobis(NEW), rtol=1e-9)
    assert (model.report_.asked, model.report_.used, model.report_.note) == (estimator, estimator, "")


def test_elliptic_distances_are_those_of_scikit_learn_with_the_same_random_state() -> None:
    model = RobustCovariance(seed=3).fit(X)
    np.testing.assert_allclose(model.distance(NEW), EllipticEnvelope(random_state=3).fit(X).mahalanobis(NEW), rtol=1e-9)
    assert model.report_.used == "elliptic"
    np.testing.assert_array_equal(RobustCovariance(seed=3).fit(X).distance(NEW), model.distance(NEW))


def test_elliptic_with_components_is_scikit_learn_behind_a_pca() -> None:
    model = RobustCovariance(components=3).fit(X)
    pca = PCA(3, random_state=0).fit(X)
    reference = EllipticEnvelope(random_state=0).fit(pca.transform(X)).mahalanobis(pca.transform(NEW))
    np.testing.assert_allclose(model.distance(NEW), reference, rtol=1e-6)


def test_elliptic_with_components_needs_recordings_for_the_components_only() -> None:
    many_values = correlated(40, 60)
    assert RobustCovariance().fit(many_values).report_.used == "ledoit_wolf"
    assert RobustCovariance(components=4).fit(many_values).report_.used == "elliptic"


@pytest.mark.parametrize(("estimator", "enough"), [("ml", 8), ("elliptic", 13)])
def test_with_too_few_recordings_it_falls_back_and_says_so(estimator: str, enough: int) -> None:
    assert model_class(estimator)().fit(X[:enough]).report_.used == estimator

    few = model_class(estimator)().fit(X[: enough - 1])
    assert (few.report_.asked, few.report_.used) == (estimator, "ledoit_wolf")
    why = {
        "ml": "ml would miss what lies outside the training span",
        # 12 recordings do span 6 directions.
        "elliptic": "a robust covariance of the half of the recordings that agree most needs more than 12",
    }
    assert few.report_.note == f"{enough - 1} recordings of 6 values: {why[estimator]}; ledoit_wolf used"
    reference = LedoitWolf().fit(X[: enough - 1]).mahalanobis(NEW)
    np.testing.assert_allclose(few.distance(NEW), reference, rtol=1e-9)


def test_who_insists_gets_the_pseudo_inverse_that_sees_nothing_outside_the_training_span() -> None:
    span = np.pad(correlated(4, 3), ((0, 0), (0, 3)))  # The last three values are always 0.
    outside = np.array([[*span.mean(axis=0)[:3], 1e3, 1e3, 1e3]])
    model = MaximumLikelihood(force_estimator=True).fit(span)
    assert (model.report_.used, model.report_.note) == ("ml", "")
    np.testing.assert_allclose(model.distance(outside), 0, atol=1e-6)
    assert MaximumLikelihood().fit(span).distance(outside)[0] > 1e3


def test_enough_recordings_that_span_too_few_directions_fall_back_too() -> None:
    flat = np.hstack([X, X[:, :2] + X[:, 2:4]])
    report = MaximumLikelihood().fit(flat).report_
    assert (report.used, report.n, report.p, report.rank) == ("ledoit_wolf", 120, 8, 6)
    assert "the embeddings span 6 of 8 directions: ml would miss" in report.note


def test_the_report_has_n_p_rank_and_condition() -> None:
    cross = np.array([[3.0, 0, 0], [-3, 0, 0], [0, 1, 0], [0, -1, 0]])
    report = LedoitWolfCovariance().fit(cross + 7).report_
    assert (report.n, report.p, report.rank) == (4, 3, 2)
    assert report.condition == pytest.approx(9)
    assert report.n_over_p == pytest.approx(4 / 3)


@pytest.mark.parametrize("estimator", NAMES)
@pytest.mark.parametrize("value", [0.0, 0.1, -31.7])
def test_embeddings_that_are_all_the_same_are_a_collapsed_representation(estimator: str, value: float) -> None:
    # The mean of thirty times 0.1 is not 0.1: what is left is rounding, and must not pass for a spread.
    same = np.full((30, 8), value) + value * np.arange(8)
    with pytest.raises(AsdError, match="all 30 embeddings are the same"):
        model_class(estimator)().fit(same)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_counted(value: float) -> None:
    spoilt = X.copy()
    spoilt[[3, 7], [0, 2]] = value
    with pytest.raises(AsdError, match="2 of 120 embeddings hold NaN or infinity"):
        MaximumLikelihood().fit(spoilt)
    with pytest.raises(AsdError, match="1 of 1 embeddings hold NaN or infinity"):
        fitted("ml").distance(spoilt[3:4])


def test_one_recording_a_single_vector_or_another_size_is_refused() -> None:
    with pytest.raises(AsdError, match="1 recording: a normality model needs at least 2"):
        MaximumLikelihood().fit(X[:1])
    with pytest.raises(AsdError, match=r"must be \(n, p\), got the shape \(6,\)"):
        fitted("ml").distance(X[0])
    with pytest.raises(AsdError, match="embeddings of 1 values; this model was fitted on 6"):
        fitted("ml").distance(X[:, :1])


@pytest.mark.parametrize("estimator", NAMES)
@pytest.mark.parametrize("p", [2, 5, 64, 129])
def test_the_distance_of_a_row_is_the_same_alone_and_among_many_bit_for_bit(estimator: str, p: int) -> None:
    domains = np.arange(300) % 3
    small = {"components": min(4, p), "folds": 0} if estimator == "elliptic" else {}
    model = model_class(estimator)(**small).fit(correlated(300, p), domains=domains)
    new = correlated(40, p, seed=1).astype(np.float32)
    together = model.distance(new)
    alone = [model.distance(row[None])[0] for row in new]
    assert together.tolist() == alone
    assert model.distance(np.asfortranarray(new)[::-1])[::-1].tolist() == alone


@pytest.mark.parametrize("estimator", ["ml", "elliptic"])
def test_a_deviation_in_any_direction_is_farther_than_the_normal_ones(estimator: str) -> None:
    model = fitted(estimator)
    axes = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    deviations = X.mean(axis=0) + 6 * (axes.S / np.sqrt(len(X)))[:, None] * axes.Vh
    assert model.distance(deviations).min() > np.quantile(model.distance(X), 0.95)


PARAMETERS: dict[str, dict[str, Any]] = {
    "ml": {"force_estimator": True},
    "elliptic": {"components": 3, "force_estimator": True, "seed": 5, "folds": 3},
    "knn": {"neighbours": 2},
}


@pytest.mark.parametrize("estimator", NAMES)
def test_arrays_in_an_npz_file_hold_the_whole_model_without_objects(tmp_path: Path, estimator: str) -> None:
    model = model_class(estimator)(**PARAMETERS.get(estimator, {})).fit(X, domains=DOMAINS)
    np.savez(tmp_path / "model.npz", **model.to_arrays())
    with np.load(tmp_path / "model.npz", allow_pickle=False) as arrays:
        loaded = model_from_arrays(dict(arrays))
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(loaded.distance(NEW), model.distance(NEW))
    np.testing.assert_array_equal(loaded.left_out_, model.left_out_)
    assert vars(loaded).keys() == vars(model).keys()
    assert loaded.report_ == model.report_
    assert loaded.get_params() == model.get_params()


def test_the_note_of_a_fall_back_survives_the_npz_file() -> None:
    model = MaximumLikelihood().fit(X[:5])
    file = io.BytesIO()
    np.savez(file, **model.to_arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        report = model_from_arrays(dict(arrays)).report_
    assert report == model.report_
    json.dumps(report.__dict__, allow_nan=False)  # Plain numbers and text, as MLflow and Prefect take them.


@pytest.mark.parametrize("estimator", PARAMETERS)
def test_parameters_are_stored_untouched_and_a_clone_is_unfitted(estimator: str) -> None:
    parameters = PARAMETERS[estimator]
    model = model_class(estimator)(**parameters)
    assert model.get_params() == vars(model) == parameters
    copy = clone(model.fit(X))
    assert copy.get_params() == vars(copy) == parameters


def test_settings_become_parameters() -> None:
    settings = NormalitySettings(estimator="elliptic", force_estimator=True, elliptic_components=3, seed=4)
    expected = {"components": 3, "force_estimator": True, "seed": 4, "folds": 5}
    assert build_model(settings).get_params() == expected
    wide = build_model(NormalitySettings(estimator="elliptic", layer="h")).get_params()
    assert wide["components"] == 128  # As many as z has.
    for estimator in NAMES:
        assert build_model(NormalitySettings(estimator=estimator)).name == estimator


def test_elliptic_does_not_warn_of_its_many_small_fits() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RobustCovariance(force_estimator=True).fit(X[:8])


@pytest.mark.parametrize("arrays", [{}, {"distances": np.ones(3)}, {"about": np.array("{}")}])
def test_arrays_of_something_else_are_no_normality_model(arrays: dict[str, Any]) -> None:
    with pytest.raises(AsdError, match="no normality model"):
        model_from_arrays(arrays)


def test_arrays_of_a_model_that_is_not_installed_name_it() -> None:
    arrays = fitted("ml").to_arrays()
    arrays["about"] = np.array(str(arrays["about"]).replace('"model": "ml"', '"model": "median"'))
    with pytest.raises(AsdError, match="normality model 'median' is none of ml"):
        model_from_arrays(arrays)


def test_a_second_fit_leaves_nothing_of_the_first() -> None:
    model = MaximumLikelihood().fit(X[:5], groups=["monday"] * 5).fit(X)
    assert vars(model).keys() == vars(fitted("ml")).keys()
    assert model.report_ == fitted("ml").report_
    assert model.distance(NEW).tolist() == fitted("ml").distance(NEW).tolist()


def test_elliptic_without_folds_has_no_left_out_distances() -> None:
    model = RobustCovariance(folds=0).fit(X)
    assert model.left_out_ is None
    assert model_from_arrays(model.to_arrays()).left_out_ is None


def test_domains_and_groups_of_another_number_are_refused() -> None:
    for names in ({"domains": ["a", "b", "c"]}, {"groups": ["a", "b", "c"]}):
        with pytest.raises(AsdError, match=r"one name for each of 120 recordings, got the shape \(3,\)"):
            TiedCovariance().fit(X, **names)


def fitted(estimator: str) -> NormalityModel:
    return model_class(estimator)().fit(X)
