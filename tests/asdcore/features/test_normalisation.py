import numpy as np
from numpy.typing import NDArray

from asdcore.features.normalisation import MINIMUM_DEVIATION, Normalisation


def spectrograms(rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Of different lengths, with another level and spread in each of 16 bands."""
    level, spread = rng.uniform(-90, 20, (16, 1)), rng.uniform(2, 15, (16, 1))
    return [(level + spread * rng.standard_normal((16, frames))).astype(np.float32) for frames in (16, 313, 70)]


def test_mean_and_deviation_are_those_of_all_frames_together() -> None:
    given = spectrograms(np.random.default_rng(0))
    fitted = Normalisation.fit(iter(given))
    frames = np.concatenate(given, axis=1).astype(np.float64)
    assert fitted.mean.shape == fitted.deviation.shape == (16, 1)
    assert fitted.mean.dtype == fitted.deviation.dtype == np.float32
    np.testing.assert_allclose(fitted.mean[:, 0], frames.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(fitted.deviation[:, 0], frames.std(axis=1), rtol=1e-6)


def test_training_frames_have_mean_0_and_deviation_1_afterwards() -> None:
    given = spectrograms(np.random.default_rng(1))
    fitted = Normalisation.fit(given)
    frames = np.concatenate([fitted(values) for values in given], axis=1)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(frames.std(axis=1), 1, atol=1e-5)


def test_a_band_that_never_changes_does_not_blow_up_a_later_recording() -> None:
    still = np.full((4, 50), -100, np.float32)
    fitted = Normalisation.fit([still])
    np.testing.assert_array_equal(fitted.deviation, MINIMUM_DEVIATION)
    np.testing.assert_array_equal(fitted(still), 0)
    assert np.abs(fitted(still + 30)).max() == 30


def test_the_spectrogram_itself_is_left_as_it_is() -> None:
    (values, *_) = spectrograms(np.random.default_rng(2))
    before = values.copy()
    Normalisation.fit([values])(values)
    np.testing.assert_array_equal(values, before)
