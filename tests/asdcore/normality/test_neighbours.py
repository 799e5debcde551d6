from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from asdcore.errors import AsdError
from asdcore.normality.base import model_from_arrays
from asdcore.normality.neighbours import NearestNeighbours, StandardisedNeighbours

RNG = np.random.default_rng(0)
NORMAL, TESTED = RNG.normal(size=(40, 12)), 2 * RNG.normal(size=(15, 12))


@pytest.mark.parametrize("neighbours", [1, 2, 5, 40])
def test_the_distance_is_the_mean_squared_one_to_the_nearest(neighbours: int) -> None:
    every = ((TESTED[:, None, :] - NORMAL[None, :, :]) ** 2).sum(axis=2)
    expected = np.sort(every, axis=1)[:, :neighbours].mean(axis=1)
    np.testing.assert_allclose(NearestNeighbours(neighbours).fit(NORMAL).distance(TESTED), expected, rtol=1e-12)


def test_a_normal_recording_has_no_distance_from_itself() -> None:
    assert NearestNeighbours().fit(NORMAL).distance(NORMAL).tolist() == [0.0] * 40


def test_the_distance_of_a_row_does_not_hang_on_the_others() -> None:
    model = NearestNeighbours(3).fit(NORMAL)
    assert [model.distance(row[None])[0] for row in TESTED] == model.distance(TESTED).tolist()


def test_what_is_written_to_a_file_scores_the_same_afterwards(tmp_path: Path) -> None:
    model = NearestNeighbours(3).fit(NORMAL)
    np.savez(tmp_path / "model.npz", **model.to_arrays())
    with np.load(tmp_path / "model.npz", allow_pickle=False) as arrays:
        read = model_from_arrays(dict(arrays))
    assert read.get_params() == {"neighbours": 3}
    assert read.distance(TESTED).tolist() == model.distance(TESTED).tolist()


def test_scikit_learns_tools_can_copy_it() -> None:
    model = NearestNeighbours(4).fit(NORMAL)
    copied = clone(model)
    assert copied.get_params() == {"neighbours": 4} and not hasattr(copied, "normal_")
    with pytest.raises(NotFittedError):
        copied.distance(TESTED)
    with pytest.raises(NotFittedError):
        copied.to_arrays()


@pytest.mark.parametrize(
    ("neighbours", "normal", "said"),
    [
        (0, NORMAL, "neighbours is 0"),
        (5, NORMAL[:4], "4 recordings: too few for the 5"),
        (1, NORMAL[:0], "0 recording: a normality model needs at least 2"),
        (1, NORMAL[0], "must be"),
        (1, np.where(np.eye(40, 12), np.nan, NORMAL), "12 of 40 embeddings"),
    ],
)
def test_what_can_not_be_fitted_is_said(neighbours: int, normal: np.ndarray, said: str) -> None:
    with pytest.raises(AsdError, match=said):
        NearestNeighbours(neighbours).fit(normal)


def test_embeddings_of_another_size_are_refused() -> None:
    with pytest.raises(AsdError, match="of 11 values; this model was fitted on 12"):
        NearestNeighbours().fit(NORMAL).distance(TESTED[:, 1:])


def test_standardised_neighbours_know_no_unit_and_a_value_that_never_varied_is_no_alarm() -> None:
    model = StandardisedNeighbours().fit(NORMAL)
    doubled = StandardisedNeighbours().fit(1000 * NORMAL + 7)
    np.testing.assert_allclose(doubled.distance(1000 * TESTED + 7), model.distance(TESTED), rtol=1e-9)
    flat, nearly = np.hstack([NORMAL, np.ones((40, 1))]), np.hstack([TESTED, np.full((15, 1), 1 + 1e-6)])
    np.testing.assert_allclose(StandardisedNeighbours().fit(flat).distance(nearly), model.distance(TESTED), rtol=1e-6)
    scaled = NORMAL * np.r_[1e3, np.ones(11)], TESTED * np.r_[1e3, np.ones(11)]
    np.testing.assert_allclose(
        StandardisedNeighbours().fit(scaled[0]).distance(scaled[1]), model.distance(TESTED), rtol=1e-6
    )
