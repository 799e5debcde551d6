"""The spectrograms that the published models were trained with; their constants are part of the models."""

from functools import cache
from typing import Literal

import librosa
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from asdcore.encoder.pretrained.base import HOP_LENGTH, SAMPLE_RATE

N_FFT = 512
KALDI_WINDOW = 400
"""samples: 25 ms"""
_LOWEST = 20.0
"""Hz, of Kaldi's filters"""
_PREEMPHASIS = 0.97
_FRAMES_AT_ONCE = 4096
"""So that the frames of an hour, each sample 2.5 times, need not be in memory together."""
_SMALLEST = np.finfo(np.float32).eps


def decibel_spectrogram(waveform: NDArray[np.float32], n_mels: int) -> NDArray[np.float32]:
    """(n,) at 16 kHz, n > 256, to (n_mels, 1 + n // 160), dB: that of CED and Dasheng.

    The power in bands of the HTK mel scale from 0 to 8 kHz, as ``MelSpectrogram`` and ``AmplitudeToDB(top_db=120)`` of
    torchaudio compute it.
    """
    power = librosa.feature.melspectrogram(
        y=waveform, sr=SAMPLE_RATE, n_fft=N_FFT, hop_length=HOP_LENGTH, pad_mode="reflect",
        n_mels=n_mels, fmin=0.0, fmax=SAMPLE_RATE / 2, htk=True, norm=None,
    )  # fmt: skip
    decibels: NDArray[np.float32] = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=120.0)
    return decibels.astype(np.float32)


def kaldi_spectrogram(
    waveform: NDArray[np.float32], n_mels: int, window: Literal["hanning", "povey"]
) -> NDArray[np.float32]:
    """(n,) at 16 kHz, n >= 400, to (1 + (n - 400) // 160, n_mels), logarithm: that of BEATs and EAT.

    As ``compute-fbank-feats`` of Kaldi (Povey et al. 2011) without dither: frames of 25 ms without their mean, with a
    pre-emphasis of 0.97, the power in triangular bands of its mel scale from 20 Hz to 8 kHz.
    """
    shape = np.hanning(KALDI_WINDOW) ** (0.85 if window == "povey" else 1.0)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, KALDI_WINDOW)[::HOP_LENGTH]
    blocks = (frames[first : first + _FRAMES_AT_ONCE] for first in range(0, len(frames), _FRAMES_AT_ONCE))
    return np.concatenate([_log_power(block.astype(np.float64), shape, n_mels) for block in blocks])


def _log_power(frames: NDArray[np.float64], window: NDArray[np.float64], n_mels: int) -> NDArray[np.float32]:
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.abs(scipy.fft.rfft((frames - _PREEMPHASIS * before) * window, N_FFT, axis=1)) ** 2
    logarithm: NDArray[np.float64] = np.log(np.maximum(power @ _kaldi_filters(n_mels), _SMALLEST))
    return logarithm.astype(np.float32)


@cache
def _kaldi_filters(n_mels: int) -> NDArray[np.float64]:
    """(257, n_mels): triangles that are linear in mel, not in Hz."""
    nyquist = SAMPLE_RATE / 2
    edges = np.linspace(_kaldi_mel(_LOWEST), _kaldi_mel(nyquist), n_mels + 2)
    bins = _kaldi_mel(np.linspace(0, nyquist, N_FFT // 2 + 1))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return filters


def _kaldi_mel(hertz: float | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0))
