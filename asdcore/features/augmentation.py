"""The six variants of a recording: two of each of the paper's three augmentations (paper 2.3)."""

import hashlib

import librosa
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from asdcore.features.spectrogram import Spectrogram, log_mel, power_spectrum, spectrogram
from asdcore.settings import AugmentationSettings, MelSettings

VARIANTS = ("pitch_down", "pitch_up", "noise_1", "noise_2", "mask_500", "mask_1000")


def spectrograms(
    waveform: NDArray[np.float32],
    recording: str,
    sample_rate: int,
    mel: MelSettings,
    augmentation: AugmentationSettings | None,
) -> dict[str, Spectrogram]:
    """``original`` and the six variants of (n_samples,), each (n_mels, n_frames) float32, dB; None: only the original.

    A variant depends only on the recording's digest, the variant's name, the settings and their seed: the store can be
    computed again in any order and by any number of processes.
    """
    power = power_spectrum(waveform, mel)
    original = log_mel(power, sample_rate, mel)
    result = {"original": original}
    if augmentation is None:
        return result
    for variant in VARIANTS:
        rng = _generator(recording, variant, augmentation.seed)
        kind = variant.split("_")[0]
        if kind == "pitch":
            semitones = rng.uniform(0, augmentation.pitch_semitones) * (-1 if variant == "pitch_down" else 1)
            if augmentation.pitch_method == "spectral":
                shifted = log_mel(power, sample_rate, mel, frequency_warp(len(power), 2 ** (semitones / 12)))
            else:
                moved = librosa.effects.pitch_shift(waveform, sr=sample_rate, n_steps=semitones, n_fft=mel.n_fft)
                shifted = spectrogram(moved, sample_rate, mel)
            result[variant] = shifted
        elif kind == "noise":
            snr = rng.uniform(*augmentation.noise_snr_db)
            result[variant] = spectrogram(add_noise(waveform, snr, rng), sample_rate, mel)
        else:
            milliseconds = augmentation.mask_milliseconds[0 if variant == "mask_500" else 1]
            frames = round(milliseconds / 1000 * sample_rate / mel.hop_length)
            result[variant] = mask_time(original, frames, mel.amin_db, rng)
    return result


def frequency_warp(n_bins: int, ratio: float) -> csr_array:
    """(n_bins, n_bins) float32: multiplied by a power spectrum, it moves frequency f to ``ratio * f``, with linear
    interpolation between bins; empty beyond the last bin.

    Equivalent to a pitch shift without the phase vocoder: the spectrogram has the same shape, up to a constant level.
    """
    source = np.arange(n_bins) / ratio
    source = source[source <= n_bins - 1]
    low = np.minimum(source.astype(np.int64), n_bins - 2)
    weight = source - low
    weights = np.column_stack([1 - weight, weight]).astype(np.float32)
    columns = np.column_stack([low, low + 1])
    rows = 2 * np.minimum(np.arange(n_bins + 1), len(source))
    return csr_array((weights.ravel(), columns.ravel(), rows), shape=(n_bins, n_bins))


def add_noise(waveform: NDArray[np.float32], snr_db: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """White Gaussian noise ``snr_db`` dB below the RMS of (n_samples,)."""
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    scale = np.float32(rms * 10 ** (-snr_db / 20))
    return waveform + scale * white_noise(len(waveform), rng)


def white_noise(n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(n,) standard normal float32 values (Box and Muller 1958), none beyond 5.8.

    Takes a third of the time of the generator's own method, which draws one value at a time.
    """
    radius, angle = rng.random((2, -(-n // 2)), dtype=np.float32)
    radius = np.sqrt(np.float32(-2) * np.log1p(-radius))
    angle *= np.float32(2 * np.pi)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]


def mask_time(values: Spectrogram, frames: int, amin_db: float, rng: np.random.Generator) -> Spectrogram:
    """One span of ``frames`` frames at a random place set to the floor; at most half of a short recording."""
    n_frames = values.shape[1]
    frames = min(frames, n_frames // 2)
    start = int(rng.integers(0, n_frames - frames + 1))
    masked = values.copy()
    masked[:, start : start + frames] = amin_db
    return masked


def _generator(recording: str, variant: str, seed: int) -> np.random.Generator:
    name = hashlib.sha256(f"{recording} {variant} {seed}".encode()).digest()
    return np.random.default_rng(int.from_bytes(name[:16], "little"))
