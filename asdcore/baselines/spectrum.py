"""The spectrum statistic: no network, only the time-averaged log-mel spectrum and a normality model of it.

It beats trained encoders on some machines, so every report shows it beside them.
"""

import numpy as np
from numpy.typing import NDArray

from asdcore.features.spectrogram import Spectrogram


def time_statistics(spectrogram: Spectrogram) -> dict[str, NDArray[np.float32]]:
    """What is left of (n_mels, n_frames), dB, when time is averaged out.

    Returns:
        ``mean``: (n_mels,), dB; ``mean_and_deviation``: (2 * n_mels,), the mean, then the standard deviation.
    """
    mean = spectrogram.mean(axis=1, dtype=np.float64)
    deviation = spectrogram.std(axis=1, dtype=np.float64)
    return {"mean": mean.astype(np.float32), "mean_and_deviation": np.r_[mean, deviation].astype(np.float32)}
