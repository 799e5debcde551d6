"""Statistics of a spectrogram over time: features without a network.

They outperform trained encoders on some machines, so every report lists both, and a detector uses some of them; see
 `asdcore.normality.scorers`.
"""

import numpy as np
from numpy.typing import NDArray

from asdcore.features.spectrogram import Spectrogram


def mean_spectrum(spectrogram: Spectrogram) -> NDArray[np.float32]:
    """The mean over time of each band of (n_mels, n_frames), dB: (n_mels,), dB."""
    mean: NDArray[np.float32] = spectrogram.mean(axis=1, dtype=np.float64).astype(np.float32)
    return mean


def mean_and_deviation(spectrogram: Spectrogram) -> NDArray[np.float32]:
    """The mean over time of each band of (n_mels, n_frames), dB, then the standard deviation: (2 * n_mels,), dB."""
    mean, deviation = spectrogram.mean(axis=1, dtype=np.float64), spectrogram.std(axis=1, dtype=np.float64)
    both: NDArray[np.float32] = np.r_[mean, deviation].astype(np.float32)
    return both


def mean_change(spectrogram: Spectrogram) -> NDArray[np.float32]:
    """The mean absolute change from frame to frame of each band of (n_mels, n_frames), dB: (n_mels,), dB.

    >>> mean_change(np.array([[0.0, 2.0, 0.0], [5.0, 5.0, 6.0]], np.float32)).tolist()
    [2.0, 0.5]
    """
    changes = np.abs(np.diff(spectrogram, axis=1))
    if not changes.shape[1]:
        return np.zeros(len(spectrogram), np.float32)
    change: NDArray[np.float32] = changes.mean(axis=1, dtype=np.float64).astype(np.float32)
    return change


def time_statistics(spectrogram: Spectrogram) -> dict[str, NDArray[np.float32]]:
    """All of them by name: ``mean``, ``mean_and_deviation``, ``change``."""
    return {
        "mean": mean_spectrum(spectrogram),
        "mean_and_deviation": mean_and_deviation(spectrogram),
        "change": mean_change(spectrogram),
    }
