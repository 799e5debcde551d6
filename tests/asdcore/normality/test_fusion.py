import numpy as np
import pytest
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.normality.fusion import SMALLEST_SCALE, Fusion


def left_out(n: int = 200, k: int = 3, seed: int = 0) -> NDArray[np.float64]:
    return np.exp(np.random.default_rng(seed).normal(size=(n, k)) * np.r_[0.1, 0.5, 1.0][:k] + np.r_[0, 5, -5][:k])


def test_scorers_count_the_same_whatever_the_scale_and_the_power_of_their_distances() -> None:
    distances, new = left_out(), left_out(seed=1)
    changed = Fusion().fit(distances**2 * [1e3, 1e-3, 1])
    np.testing.assert_allclose(changed.score(new**2 * [1e3, 1e-3, 1]), Fusion().fit(distances).score(new))


def test_a_copy_of_a_scorer_does_not_shift_the_score() -> None:
    distances, new = left_out(k=1), left_out(k=1, seed=1)
    single, doubled = Fusion().fit(distances), Fusion().fit(np.hstack([distances] * 2))
    np.testing.assert_allclose(doubled.score(np.hstack([new] * 2)), single.score(new))


def test_with_many_recordings_the_score_follows_the_strangest_scorer_and_with_few_sessions_it_is_the_mean() -> None:
    many = left_out(10_000)
    for groups, expected in ((None, 9.0), (np.arange(10_000) % 2, 10 / 3)):
        fusion = Fusion().fit(many, groups=groups)
        new = np.tile(np.exp(fusion.centre_), (2, 1))
        new[1, 1] *= np.exp(10 * fusion.scale_[1])
        usual, strange = fusion.score(new)
        assert usual == pytest.approx(0, abs=1e-9) and strange == pytest.approx(expected, rel=0.1)
        assert fusion.standardised(new)[1].argmax() == 1


def test_infinite_and_zero_distances_have_a_place_in_the_order() -> None:
    distances = left_out(20)
    distances[3, 0], distances[4, 1] = np.inf, 0.0
    fusion = Fusion().fit(distances)
    scores = fusion.score(np.vstack([distances, [[np.inf] * 3, [0.0] * 3]]))
    assert np.isinf(scores[[3, 20]]).all() and np.isfinite(np.delete(scores, [3, 20])).all()
    assert scores[21] == scores.min()


def test_training_recordings_that_all_agree_do_not_make_every_new_one_the_strangest() -> None:
    fusion = Fusion().fit(np.full((10, 2), 3.0))
    assert fusion.scale_.tolist() == [SMALLEST_SCALE] * 2
    assert fusion.score([[3.03, 3.0]])[0] < 0.3


def test_what_cannot_be_fused_is_said() -> None:
    with pytest.raises(AsdError, match="no finite left-out distance"):
        Fusion().fit([[1.0, np.inf], [2.0, np.inf]])
    with pytest.raises(AsdError, match="2 of 4 distances are negative or NaN"):
        Fusion().fit([[1.0, -1.0], [2.0, np.nan]])
    with pytest.raises(AsdError, match=r"must be \(recordings, scorers\), got the shape \(2,\)"):
        Fusion().fit([1.0, 2.0])
