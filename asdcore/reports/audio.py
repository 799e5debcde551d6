"""Excerpts of recordings to listen to, within a page."""

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
import soundfile
from numpy.typing import NDArray

MOST_SECONDS = 10.0
_PEAK = 0.89
"""-1 dB of full scale"""


def excerpt(length: int, sample_rate: int, middle: float | None = None) -> slice:
    """The samples to listen to, of ``length``: all, or `MOST_SECONDS` around ``middle`` (s), or from the beginning.

    >>> excerpt(16_000, 16_000), excerpt(320_000, 16_000, 15.0)
    (slice(0, 16000, None), slice(160000, 320000, None))
    """
    most = round(MOST_SECONDS * sample_rate)
    centred = 0 if middle is None else round(middle * sample_rate) - most // 2
    start = max(0, min(centred, length - most))
    return slice(start, min(start + most, length))


def common_gain(waveforms: Sequence[NDArray[np.float32]]) -> float:
    """The factor that brings the loudest sample of all to -1 dB of full scale: what is louder stays louder.

    >>> round(common_gain([np.array([0.1, -0.2], np.float32), np.array([0.05], np.float32)]), 2)
    4.45
    """
    peak = max(float(np.abs(samples).max()) for samples in waveforms)
    return _PEAK / peak if peak > 0 else 1.0


def decibels(gain: float) -> float:
    """A factor in dB."""
    return 20 * math.log10(gain)


def flac(samples: NDArray[np.float32], sample_rate: int) -> str:
    """(n_samples,), full scale at 1, as FLAC in a data URI: lossless, and every browser plays it.

    >>> flac(np.zeros(160, np.float32), 16_000)[:23]
    'data:audio/flac;base64,'
    """
    content = io.BytesIO()
    soundfile.write(content, np.clip(samples, -1, 1), sample_rate, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{base64.b64encode(content.getvalue()).decode()}"
