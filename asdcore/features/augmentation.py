"""The six variants of a recording: two of each of the paper's three augmentations (paper 2.3)."""

import hashlib

import librosa
import numpy as np
from numpy.typing import NDArray

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

    A variant depends on the recording's digest, its own name, the settings and their seed, and on nothing else: the
    store can be made again, in any order and by any number of processes.
    """
    power = power_spectrum(waveform, mel)
    original = log_mel(power, sample_rate, mel)
    made = {"original": original}
    if augmentation is None:
        return made
    for variant in VARIANTS:
        rng = _generator(recording, variant, augmentation.seed)
        kind = variant.split("_")[0]
        if kind == "pitch":
            semitones = rng.uniform(0, augmentation.pitch_semitones) * (-1 if variant == "pitch_down" else 1)
            if augmentation.pitch_method == "spectral":
                shifted = log_mel(warp_frequency(power, 2 ** (semitones / 12)), sample_rate, mel)
            else:
                moved = librosa.effects.pitch_shift(waveform, sr=sample_rate, n_steps=semitones, n_fft=mel.n_fft)
                shifted = spectrogram(moved, sample_rate, mel)
            made[variant] = shifted
        elif kind == "noise":
            snr = rng.uniform(*augmentation.noise_snr_db)
            made[variant] = spectrogram(add_noise(waveform, snr, rng), sample_rate, mel)
        else:
            milliseconds = augmentation.mask_milliseconds[0 if variant == "mask_500" else 1]
            frames = round(milliseconds / 1000 * sample_rate / mel.hop_length)
            made[variant] = mask_time(original, frames, mel.floor_db, rng)
    return made


def warp_frequency(power: NDArray[np.float32], ratio: float) -> NDArray[np.float32]:
    """Move the spectrum at f to ``ratio * f`` in (n_bins, n_frames), linear between bins, empty beyond the last one.

    It is what a pitch shift does to a spectrum, without the phase vocoder: the spectrogram has the same shape but for a
    constant level.
    """
    n_bins = len(power)
    source = np.arange(n_bins) / ratio
    inside = source <= n_bins - 1
    low = np.minimum(source[inside].astype(np.int64), n_bins - 2)
    weight = (source[inside] - low).astype(np.float32)[:, None]
    warped = np.zeros_like(power)
    warped[inside] = power[low] * (1 - weight) + power[low + 1] * weight
    return warped


def add_noise(waveform: NDArray[np.float32], snr_db: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """White Gaussian noise ``snr_db`` dB below the RMS of (n_samples,)."""
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    scale = np.float32(rms * 10 ** (-snr_db / 20))
    return waveform + scale * rng.standard_normal(len(waveform), dtype=np.float32)


def mask_time(values: Spectrogram, frames: int, floor_db: float, rng: np.random.Generator) -> Spectrogram:
    """One span of ``frames`` frames at a random place set to the floor; at most half of a short recording."""
    n_frames = values.shape[1]
    frames = min(frames, n_frames // 2)
    start = int(rng.integers(0, n_frames - frames + 1))
    masked = values.copy()
    masked[:, start : start + frames] = floor_db
    return masked


def _generator(recording: str, variant: str, seed: int) -> np.random.Generator:
    name = hashlib.sha256(f"{recording} {variant} {seed}".encode()).digest()
    return np.random.default_rng(int.from_bytes(name[:16], "little"))
