import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.covariance import EllipticEnvelope, EmpiricalCovariance, LedoitWolf
from sklearn.decomposition import PCA

from asdcore.errors import AsdError
from asdcore.normality.models import ESTIMATORS, NormalityModel, model_from_arrays
from asdcore.normality.neighbours import NeighbourModel
from asdcore.settings import NormalitySettings


def correlated(n: int, p: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) + 10 * rng.normal(size=p)


X, NEW = correlated(120, 6), correlated(30, 6, seed=1)
DOMAINS = np.where(np.arange(120) < 110, "source", "target")


@pytest.mark.parametrize(("estimator", "reference"), [("ml", EmpiricalCovariance()), ("ledoit_wolf", LedoitWolf())])
def test_distances_are_those_of_scikit_learn(estimator: str, reference) -> None:
    model = NormalityModel(estimator).fit(X)
    np.testing.assert_allclose(model.distance(NEW), reference.fit(X).mahalanobis(NEW), rtol=1e-9)
    assert (model.report_.asked, model.report_.used, model.report_.note) == (estimator, estimator, "")


def test_elliptic_distances_are_those_of_scikit_learn_with_the_same_random_state() -> None:
    model = NormalityModel("elliptic", seed=3).fit(X)
    np.testing.assert_allclose(model.distance(NEW), EllipticEnvelope(random_state=3).fit(X).mahalanobis(NEW), rtol=1e-9)
    assert model.report_.used == "elliptic"
    np.testing.assert_array_equal(NormalityModel("elliptic", seed=3).fit(X).distance(NEW), model.distance(NEW))


def test_elliptic_with_components_is_scikit_learn_behind_a_pca() -> None:
    model = NormalityModel("elliptic", components=3).fit(X)
    pca = PCA(3, random_state=0).fit(X)
    reference = EllipticEnvelope(random_state=0).fit(pca.transform(X)).mahalanobis(pca.transform(NEW))
    np.testing.assert_allclose(model.distance(NEW), reference, rtol=1e-6)


def test_components_belong_to_elliptic_alone() -> None:
    np.testing.assert_array_equal(NormalityModel("ml", components=3).fit(X).distance(NEW), fitted("ml").distance(NEW))


def test_elliptic_with_components_needs_recordings_for_the_components_only() -> None:
    many_values = correlated(40, 60)
    assert NormalityModel("elliptic").fit(many_values).report_.used == "ledoit_wolf"
    assert NormalityModel("elliptic", components=4).fit(many_values).report_.used == "elliptic"


@pytest.mark.parametrize(("estimator", "enough"), [("ml", 8), ("elliptic", 13)])
def test_with_too_few_recordings_it_falls_back_and_says_so(estimator: str, enough: int) -> None:
    assert NormalityModel(estimator).fit(X[:enough]).report_.used == estimator

    few = NormalityModel(estimator).fit(X[: enough - 1])
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
    model = NormalityModel("ml", force_estimator=True).fit(span)
    assert (model.report_.used, model.report_.note) == ("ml", "")
    np.testing.assert_allclose(model.distance(outside), 0, atol=1e-6)
    assert NormalityModel("ml").fit(span).distance(outside)[0] > 1e3


def test_enough_recordings_that_span_too_few_directions_fall_back_too() -> None:
    flat = np.hstack([X, X[:, :2] + X[:, 2:4]])
    report = NormalityModel("ml").fit(flat).report_
    assert (report.used, report.n, report.p, report.rank) == ("ledoit_wolf", 120, 8, 6)
    assert "the embeddings span 6 of 8 directions: ml would miss" in report.note


def test_the_report_has_n_p_rank_and_condition() -> None:
    cross = np.array([[3.0, 0, 0], [-3, 0, 0], [0, 1, 0], [0, -1, 0]])
    report = NormalityModel("ledoit_wolf").fit(cross + 7).report_
    assert (report.n, report.p, report.rank) == (4, 3, 2)
    assert report.condition == pytest.approx(9)
    assert report.n_over_p == pytest.approx(4 / 3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("value", [0.0, 0.1, -31.7])
def test_embeddings_that_are_all_the_same_are_a_collapsed_representation(estimator: str, value: float) -> None:
    # The mean of thirty times 0.1 is not 0.1: what is left is rounding, and must not pass for a spread.
    same = np.full((30, 8), value) + value * np.arange(8)
    with pytest.raises(AsdError, match="all 30 embeddings are the same"):
        NormalityModel(estimator, force_estimator=True).fit(same)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_counted(value: float) -> None:
    spoilt = X.copy()
    spoilt[[3, 7], [0, 2]] = value
    with pytest.raises(AsdError, match="2 of 120 embeddings hold NaN or infinity"):
        NormalityModel().fit(spoilt)
    with pytest.raises(AsdError, match="1 of 1 embeddings hold NaN or infinity"):
        fitted("ml").distance(spoilt[3:4])


def test_one_recording_a_single_vector_or_another_size_is_refused() -> None:
    with pytest.raises(AsdError, match="1 recording: a normality model needs at least 2"):
        NormalityModel().fit(X[:1])
    with pytest.raises(AsdError, match=r"must be \(n, p\), got the shape \(6,\)"):
        fitted("ml").distance(X[0])
    with pytest.raises(AsdError, match="embeddings of 1 values; this model was fitted on 6"):
        fitted("ml").distance(X[:, :1])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("p", [2, 5, 64, 129])
def test_the_distance_of_a_row_is_the_same_alone_and_among_many_bit_for_bit(estimator: str, p: int) -> None:
    domains = np.arange(300) % 3
    model = NormalityModel(estimator, components=min(4, p), folds=0).fit(correlated(300, p), domains=domains)
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


@pytest.mark.parametrize("components", [None, 3])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_arrays_in_an_npz_file_hold_the_whole_model_without_objects(
    tmp_path: Path, estimator: str, components: int | None
) -> None:
    model = NormalityModel(estimator, components, force_estimator=True, seed=5, neighbours=2).fit(X, domains=DOMAINS)
    np.savez(tmp_path / "model.npz", **model.to_arrays())
    with np.load(tmp_path / "model.npz", allow_pickle=False) as arrays:
        loaded = model_from_arrays(dict(arrays))
    assert type(loaded) is NormalityModel
    np.testing.assert_array_equal(loaded.distance(NEW), model.distance(NEW))
    np.testing.assert_array_equal(loaded.leave_one_out_, model.leave_one_out_)
    assert vars(loaded).keys() == vars(model).keys()
    assert loaded.report_ == model.report_
    assert loaded.get_params() == model.get_params()


def test_the_note_of_a_fall_back_survives_the_npz_file() -> None:
    model = NormalityModel("ml").fit(X[:5])
    file = io.BytesIO()
    np.savez(file, **model.to_arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        report = NormalityModel.from_arrays(dict(arrays)).report_
    assert report == model.report_
    json.dumps(report.__dict__, allow_nan=False)  # Plain numbers and text, as MLflow and Prefect take them.


def test_parameters_are_stored_untouched_and_a_clone_is_unfitted() -> None:
    parameters = {
        "estimator": "elliptic",
        "components": 3,
        "force_estimator": True,
        "seed": 9,
        "neighbours": 2,
        "folds": 3,
    }
    model = NormalityModel(**parameters)  # type: ignore[arg-type]
    assert model.get_params() == parameters
    assert set(vars(model)) == set(parameters)
    copy = clone(model.fit(X))
    assert copy.get_params() == parameters
    assert set(vars(copy)) == set(parameters)


def test_settings_become_parameters() -> None:
    settings = NormalitySettings(estimator="elliptic", force_estimator=True, elliptic_components=3, seed=4)
    expected = {"estimator": "elliptic", "components": 3, "force_estimator": True, "seed": 4}
    assert NormalityModel.of(settings).get_params() == NormalityModel().get_params() | expected
    for estimator in ESTIMATORS:
        assert NormalityModel.of(NormalitySettings(estimator=estimator)).estimator == estimator


def test_elliptic_does_not_warn_of_its_many_small_fits() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NormalityModel("elliptic", force_estimator=True).fit(X[:8])


def test_a_model_of_an_older_version_has_no_leave_one_out_distances_and_is_read_all_the_same() -> None:
    model = fitted("ml")
    newer = ("kind", "leave_one_out", "parameter.neighbours", "parameter.folds", "report.shrinkage", "report.domains")
    older = {name: values for name, values in model.to_arrays().items() if name not in newer}
    loaded = model_from_arrays(older)
    np.testing.assert_array_equal(loaded.distance(NEW), model.distance(NEW))
    assert not hasattr(loaded, "leave_one_out_")
    assert loaded.report_ == model.report_


def test_arrays_say_which_model_they_are_of() -> None:
    neighbours = NeighbourModel(2).fit(X)
    assert isinstance(model_from_arrays(neighbours.to_arrays()), NeighbourModel)
    older = {name: values for name, values in neighbours.to_arrays().items() if name != "kind"}
    assert model_from_arrays(older).distance(NEW).tolist() == neighbours.distance(NEW).tolist()
    for nothing in ({}, {"kind": np.array("calibration"), "distances": np.ones(3)}):
        with pytest.raises(AsdError, match="no normality model"):
            model_from_arrays(nothing)


def test_knn_is_the_neighbour_model() -> None:
    model, reference = NormalityModel("knn", neighbours=3).fit(X), NeighbourModel(3).fit(X)
    assert model.distance(NEW).tolist() == reference.distance(NEW).tolist()
    assert model.leave_one_out_.tolist() == reference.leave_one_out_.tolist()
    assert model.report_ == reference.report_


def test_a_second_fit_leaves_nothing_of_the_first() -> None:
    model = NormalityModel("tied").fit(X, domains=DOMAINS).set_params(estimator="ml").fit(X)
    assert vars(model).keys() == vars(fitted("ml")).keys()
    assert model.distance(NEW).tolist() == fitted("ml").distance(NEW).tolist()


def test_an_unknown_estimator_and_domains_of_another_number_are_refused() -> None:
    with pytest.raises(AsdError, match="'mle' is none of ml, elliptic, ledoit_wolf, tied, knn"):
        NormalityModel("mle").fit(X)  # type: ignore[arg-type]
    with pytest.raises(AsdError, match=r"one name for each of 120 recordings, got the shape \(3,\)"):
        NormalityModel("tied").fit(X, domains=["a", "b", "c"])


def fitted(estimator: str) -> NormalityModel:
    return NormalityModel(estimator).fit(X)  # type: ignore[arg-type]
