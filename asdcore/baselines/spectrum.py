"""The spectrum statistic: no network, only the time-averaged log-mel spectrum and a normality model of it.

It beats trained encoders on some machines, so every report shows it beside them.
"""

import numpy as np
from numpy.typing import NDArray

from asdcore.features.spectrogram import Spectrogram
from asdcore.normality.models import NormalityModel


def time_average(spectrogram: Spectrogram) -> NDArray[np.float32]:
    """(n_mels, n_frames), dB, to its mean over time (n_mels,)."""
    average: NDArray[np.float32] = spectrogram.mean(axis=1, dtype=np.float64).astype(np.float32)
    return average


def spectrum_model() -> NormalityModel:
    """The normality model of time-averaged spectra: Ledoit-Wolf shrinkage, which few recordings are enough for."""
    return NormalityModel("ledoit_wolf")
