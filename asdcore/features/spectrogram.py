"""Waveforms to log-mel spectrograms (paper 2.3)."""

from functools import lru_cache

import librosa
import numpy as np
import scipy.fft
import scipy.signal
from numpy.typing import NDArray
from scipy.sparse import csr_array

from asdcore.settings import MelSettings

Spectrogram = NDArray[np.float32]
"""(n_mels, n_frames) float32, dB"""

FRAMES_AT_ONCE = 16
"""Frames whose STFT stays in the cache of a core while it is squared."""


def power_spectrum(waveform: NDArray[np.float32], settings: MelSettings) -> NDArray[np.float32]:
    """(n_fft / 2 + 1, n_frames): the squared magnitude of the STFT of (n_samples,).

    As ``librosa.stft`` gives it, in half the time: blocks of frames that fit a cache, all in float32.
    """
    # Zeros beyond both ends, as librosa pads: recordings shorter than a window need it, too.
    padded = np.pad(waveform, settings.n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, settings.n_fft)[:: settings.hop_length]
    power = np.empty((len(frames), settings.n_fft // 2 + 1), np.float32)
    for first in range(0, len(frames), FRAMES_AT_ONCE):
        block = slice(first, first + FRAMES_AT_ONCE)
        stft = scipy.fft.rfft(frames[block] * _window(settings.n_fft), axis=1, overwrite_x=True)
        np.square(stft.real, out=power[block])
        power[block] += np.square(stft.imag)
    return np.ascontiguousarray(power.T)


def log_mel(
    power: NDArray[np.float32], sample_rate: int, settings: MelSettings, warp: csr_array | None = None
) -> Spectrogram:
    """The mel bands of a power spectrum in dB, 10 * log10(max(power, amin)): (n_mels, n_frames).

    Args:
        power: (n_fft / 2 + 1, n_frames).
        sample_rate: Hz.
        settings: see `MelSettings`.
        warp: (n_bins, n_bins), applied to the power before the mel filters; that costs no more than the filters alone.
    """
    filters = mel_filters(sample_rate, settings.n_fft, settings.n_mels)
    mel = (filters if warp is None else filters @ warp) @ power
    decibels: Spectrogram = 10.0 * np.log10(np.maximum(mel, np.float32(settings.amin)), dtype=np.float32)
    return decibels


def spectrogram(waveform: NDArray[np.float32], sample_rate: int, settings: MelSettings) -> Spectrogram:
    """The log-mel spectrogram of (n_samples,): ``1 + n_samples // hop_length`` frames.

    Equal to ``power_to_db(melspectrogram(...), amin=amin, top_db=None)`` of librosa.

    >>> spectrogram(np.zeros(16_000, np.float32), 16_000, MelSettings()).shape
    (128, 32)
    """
    return log_mel(power_spectrum(waveform, settings), sample_rate, settings)


def as_stored(values: Spectrogram) -> Spectrogram:
    """The spectrogram as it comes back from the store: rounded to float16 (0.03 dB at -60 dB).

    Whatever scores a recording outside the store rounds too, so that a recording has one score.
    """
    return values.astype(np.float16).astype(np.float32)


@lru_cache(maxsize=4)
def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> csr_array:
    """(n_mels, n_fft / 2 + 1) float32: triangles on the Slaney scale, each of area 1.

    Sparse not for speed only: a dense product differs in its last digits with the number of BLAS threads, and a
    recording is to have the same spectrogram in every process.
    """
    return csr_array(librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels))


@lru_cache(maxsize=4)
def _window(n_fft: int) -> NDArray[np.float32]:
    window: NDArray[np.float32] = scipy.signal.get_window("hann", n_fft).astype(np.float32)
    return window
