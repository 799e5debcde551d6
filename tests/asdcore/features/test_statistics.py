import numpy as np

from asdcore.features.statistics import time_statistics
from asdcore.normality.gaussian import LedoitWolfCovariance


def test_the_mean_and_the_deviation_over_time_are_those_of_each_band_in_float32() -> None:
    spectrogram = np.array([[-60.0, -40.0, -20.0], [1.0, 2.0, 6.0]], dtype=np.float32)
    made = time_statistics(spectrogram)
    assert {values.dtype for values in made.values()} == {np.dtype(np.float32)}
    assert made["mean"].tolist() == [-40.0, 3.0]
    np.testing.assert_allclose(made["mean_and_deviation"], [-40.0, 3.0, np.sqrt(800 / 3), np.sqrt(14 / 3)], rtol=1e-6)


def test_the_average_of_a_long_recording_loses_no_digits() -> None:
    # Summed in float32, the mean of 100 000 frames would be off in the fourth digit.
    spectrogram = np.full((2, 100_000), -59.9, dtype=np.float32)
    assert time_statistics(spectrogram)["mean"].tolist() == [np.float32(-59.9)] * 2


def test_a_band_that_became_louder_stands_out() -> None:
    rng = np.random.default_rng(0)
    normal = rng.normal(-60, 1, (50, 32))
    louder = rng.normal(-60, 1, (10, 32)) + 10 * (np.arange(32) == 5)
    model = LedoitWolfCovariance().fit(normal[:30])
    assert model.distance(louder).min() > model.distance(normal[30:]).max()
