"""Spectrum statistics: no network, only the log-mel spectrum averaged over time and a normality model of it.

They beat trained encoders on some machines, so every report shows them beside them, and a detector has one for its
second scorer.
"""

import numpy as np
from numpy.typing import NDArray

from asdcore.features.spectrogram import Spectrogram

EYE = "mean_and_deviation"
"""The statistic by which a detector judges: better than the mean alone, most of all where a fault swings or knocks
(docs/evidence/representation.md)."""


def time_statistics(spectrogram: Spectrogram) -> dict[str, NDArray[np.float32]]:
    """What is left of (n_mels, n_frames), dB, when time is averaged out.

    Returns:
        ``mean``: (n_mels,), dB; ``mean_and_deviation``: (2 * n_mels,), the mean, then the standard deviation.
    """
    mean = spectrogram.mean(axis=1, dtype=np.float64)
    deviation = spectrogram.std(axis=1, dtype=np.float64)
    return {"mean": mean.astype(np.float32), "mean_and_deviation": np.r_[mean, deviation].astype(np.float32)}
