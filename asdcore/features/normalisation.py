"""One mean and one standard deviation per mel band, from training recordings only."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asdcore.features.spectrogram import Spectrogram

MINIMUM_DEVIATION = 1.0
"""dB. A band that never changes in training (above the microphone's range) must not dominate a test recording."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation, each (n_mels, 1) float32, dB."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def fit(cls, spectrograms: Iterable[Spectrogram]) -> "Normalisation":
        """Over all frames of all spectrograms, (n_mels, n_frames) each; one in memory at a time."""
        frames = 0
        total: NDArray[np.float64] = np.zeros((1, 1))
        squares: NDArray[np.float64] = np.zeros((1, 1))
        for values in spectrograms:
            exact = values.astype(np.float64)
            frames += exact.shape[1]
            total = total + exact.sum(axis=1, keepdims=True)
            squares = squares + np.square(exact).sum(axis=1, keepdims=True)
        mean = total / frames
        deviation = np.sqrt(np.maximum(squares / frames - np.square(mean), 0))
        return cls(mean.astype(np.float32), np.maximum(deviation, MINIMUM_DEVIATION).astype(np.float32))

    def __call__(self, values: Spectrogram) -> NDArray[np.float32]:
        """The spectrogram with mean 0 and deviation 1 in each band, in the same shape."""
        return (values - self.mean) / self.deviation
