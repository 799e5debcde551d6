import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest

from asdcore.features.augmentation import VARIANTS, add_noise, frequency_warp, mask_time, spectrograms, white_noise
from asdcore.features.spectrogram import log_mel, power_spectrum, spectrogram
from asdcore.recordings.audio import decode
from asdcore.settings import AugmentationSettings, MelSettings, RecordingSettings

Sound = Callable[..., NDArray[np.float32]]

RATE = 16_000
MEL = MelSettings()
SPECTRAL = AugmentationSettings(pitch_method="spectral")
WAVEFORM = AugmentationSettings(pitch_method="waveform")


def make(
    waveform: NDArray[np.float32], recording: str = "a", augmentation: AugmentationSettings = SPECTRAL
) -> dict[str, NDArray[np.float32]]:
    return spectrograms(waveform, recording, RATE, MEL, augmentation)


def masked_frames(values: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.flatnonzero((np.abs(values - MEL.amin_db) < 1e-3).all(axis=0))


def peak_hertz(values: NDArray[np.float32]) -> float:
    """Hz of the strongest mel band of the middle frames, to a fraction of a band."""
    centres = librosa.mel_frequencies(n_mels=MEL.n_mels + 2, fmin=0, fmax=RATE / 2)[1:-1]
    power = 10 ** (values[:, 8:-8].mean(axis=1) / 10)
    top = int(power.argmax())
    around = slice(max(top - 2, 0), top + 3)
    return float((centres[around] * power[around]).sum() / power[around].sum())


@pytest.mark.parametrize("augmentation", [SPECTRAL, WAVEFORM], ids=["spectral", "waveform"])
def test_an_original_has_exactly_six_variants_of_its_own_shape(
    sound: Sound, augmentation: AugmentationSettings
) -> None:
    made = make(sound(0), augmentation=augmentation)
    assert list(made) == ["original", *VARIANTS]
    assert VARIANTS == ("pitch_down", "pitch_up", "noise_1", "noise_2", "mask_500", "mask_1000")
    np.testing.assert_array_equal(made["original"], spectrogram(sound(0), RATE, MEL))
    for values in made.values():
        assert values.shape == made["original"].shape
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert values.min() >= MEL.amin_db - 1e-3
    distinct = {values.tobytes() for values in made.values()}
    assert len(distinct) == 7


def digest(made: dict[str, NDArray[np.float32]]) -> str:
    return hashlib.sha256(b"".join(made[name].tobytes() for name in ("original", *VARIANTS))).hexdigest()


def test_variants_depend_on_recording_and_seed_and_on_nothing_else(sound: Sound) -> None:
    first = digest(make(sound(0)))
    np.random.default_rng().random()
    make(sound(1), "b")
    assert digest(make(sound(0))) == first
    other = make(sound(0), "b")
    seeded = make(sound(0), augmentation=AugmentationSettings(pitch_method="spectral", seed=1))
    for changed in (other, seeded):
        assert all((changed[name] != make(sound(0))[name]).any() for name in VARIANTS)


def test_another_process_makes_the_same_variants(sound: Sound, tmp_path: Path) -> None:
    np.save(tmp_path / "waveform.npy", sound(0))
    code = (
        "import hashlib, sys, numpy as np\n"
        "from asdcore.features.augmentation import VARIANTS, spectrograms\n"
        "from asdcore.settings import AugmentationSettings, MelSettings\n"
        "made = spectrograms(np.load(sys.argv[1]), 'a', 16_000, MelSettings(),"
        " AugmentationSettings(pitch_method='spectral'))\n"
        "print(hashlib.sha256(b''.join(made[n].tobytes() for n in ('original', *VARIANTS))).hexdigest())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "waveform.npy")], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == digest(make(sound(0)))


def test_masks_are_16_and_31_frames_at_the_floor_and_nothing_else_changes(sound: Sound) -> None:
    waveform = sound(0, 3.0)
    starts = set()
    for recording in "abcdefgh":
        made = make(waveform, recording)
        for name, frames in (("mask_500", 16), ("mask_1000", 31)):
            span = masked_frames(made[name])
            assert len(span) == frames
            assert span[-1] - span[0] == frames - 1
            kept = np.setdiff1d(np.arange(made[name].shape[1]), span)
            np.testing.assert_array_equal(made[name][:, kept], made["original"][:, kept])
            starts.add(span[0])
    assert len(starts) > 8


def test_a_mask_reaches_the_first_and_the_last_frame() -> None:
    values = np.zeros((4, 10), np.float32)
    spans = [np.flatnonzero(mask_time(values, 3, -100.0, np.random.default_rng(seed))[0]) for seed in range(100)]
    assert {int(span[0]) for span in spans} == set(range(8))
    assert not values.any()


def test_a_short_recording_loses_at_most_half_to_a_mask(sound: Sound) -> None:
    made = make(sound(0, 0.5))  # 16 frames
    assert made["original"].shape[1] == 16
    assert len(masked_frames(made["mask_500"])) == len(masked_frames(made["mask_1000"])) == 8
    for n_samples in (2048, 2600):  # 5 and 6 frames
        for values in make(sound(0)[:n_samples]).values():
            assert values.shape == (128, 1 + n_samples // 512)
            assert np.isfinite(values).all()


def test_noise_has_the_level_asked_for(sound: Sound) -> None:
    waveform = sound(0, 4.0)
    for snr in (6.0, 15.0, 24.0):
        noise = add_noise(waveform, snr, np.random.default_rng(0)) - waveform
        assert noise.dtype == np.float32
        assert 10 * np.log10(np.mean(waveform**2) / np.mean(noise**2)) == pytest.approx(snr, abs=0.1)
        spectrum = np.abs(np.fft.rfft(noise)) ** 2
        halves = spectrum[: len(spectrum) // 2].sum(), spectrum[len(spectrum) // 2 :].sum()
        assert halves[0] / halves[1] == pytest.approx(1, abs=0.1)  # white


def test_white_noise_is_normal_independent_and_of_the_length_asked_for() -> None:
    values = white_noise(200_001, np.random.default_rng(0))
    assert (values.shape, values.dtype) == ((200_001,), np.float32)
    assert kstest(values, "norm").pvalue > 0.01
    assert abs(values).max() < 5.8
    for lag in (1, 2, 512, 100_001):  # The halves are made from the same random numbers.
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 0.01
        assert abs(np.corrcoef(values[:-lag] ** 2, values[lag:] ** 2)[0, 1]) < 0.01


def test_noise_of_the_variants_spans_6_to_24_db_below_the_recording() -> None:
    # In the bands above a low tone there is nothing but the noise, so that its level can be read off there.
    time = np.arange(2 * RATE) / RATE
    waveform = (0.5 * np.sin(2 * np.pi * 300 * time)).astype(np.float32)
    at_0_db = spectrogram(add_noise(waveform, 0.0, np.random.default_rng(0)), RATE, MEL)[60:].mean()
    measured = []
    for recording in map(str, range(40)):
        made = make(waveform, recording)
        measured += [float(at_0_db - made[name][60:].mean()) for name in ("noise_1", "noise_2")]
    assert 5.8 < min(measured) < 8
    assert 22 < max(measured) < 24.2
    assert np.mean(measured) == pytest.approx(15, abs=1.5)


@pytest.mark.parametrize("augmentation", [SPECTRAL, WAVEFORM], ids=["spectral", "waveform"])
def test_pitch_goes_down_and_up_by_less_than_an_octave(augmentation: AugmentationSettings) -> None:
    time = np.arange(2 * RATE) / RATE
    waveform = (0.5 * np.sin(2 * np.pi * 2_000 * time)).astype(np.float32)
    shifts = {"pitch_down": [], "pitch_up": []}  # type: dict[str, list[float]]
    for recording in map(str, range(8)):
        made = make(waveform, recording, augmentation)
        for name, values in shifts.items():
            values.append(float(12 * np.log2(peak_hertz(made[name]) / peak_hertz(made["original"]))))
    down, up = shifts["pitch_down"], shifts["pitch_up"]
    assert -12.2 < min(down) < max(down) < 0.1
    assert -0.1 < min(up) < max(up) < 12.2
    assert max(up) - min(up) > 5
    assert max(down) - min(down) > 5


def test_both_pitch_methods_draw_the_same_shift() -> None:
    time = np.arange(2 * RATE) / RATE
    waveform = (0.5 * np.sin(2 * np.pi * 2_000 * time)).astype(np.float32)
    for name in ("pitch_down", "pitch_up"):
        hertz = [peak_hertz(make(waveform, "a", augmentation)[name]) for augmentation in (SPECTRAL, WAVEFORM)]
        assert hertz[0] == pytest.approx(hertz[1], rel=0.02)


@pytest.mark.parametrize("semitones", [-12, -5, 5, 12])
def test_the_warped_spectrum_of_a_tone_is_that_of_the_shifted_tone(semitones: int) -> None:
    time = np.arange(RATE) / RATE
    ratio = 2 ** (semitones / 12)
    power = power_spectrum(np.sin(2 * np.pi * 1_500 * time).astype(np.float32), MEL)
    warped = frequency_warp(len(power), ratio) @ power
    assert warped.shape == power.shape
    assert warped.dtype == np.float32
    assert warped[:, 16].argmax() * RATE / MEL.n_fft == pytest.approx(1_500 * ratio, abs=RATE / MEL.n_fft)


def test_nothing_is_made_up_beyond_the_last_bin() -> None:
    power = np.ones((1025, 3), np.float32)
    down = frequency_warp(1025, 0.5) @ power
    assert not down[514:].any()
    np.testing.assert_array_equal(down[:513], 1)
    np.testing.assert_array_equal(frequency_warp(1025, 1.0) @ power, power)
    np.testing.assert_array_equal(frequency_warp(1025, 2.0) @ power, power)


def test_filters_of_a_warp_are_those_of_the_warped_spectrum(sound: Sound) -> None:
    power = power_spectrum(sound(0), MEL)
    warp = frequency_warp(len(power), 0.7)
    np.testing.assert_allclose(log_mel(power, RATE, MEL, warp), log_mel(warp @ power, RATE, MEL), atol=1e-3)


def assert_same_shape(waveform: NDArray[np.float32]) -> None:
    """Between the two methods the mean spectrum of a shifted recording differs by a level, but for a few bands at the
    edge of what has sound.
    """
    spectral, by_waveform = make(waveform, "a", SPECTRAL), make(waveform, "a", WAVEFORM)
    for name in ("pitch_down", "pitch_up"):
        sounding = spectral[name].mean(axis=1) > MEL.amin_db + 20
        assert sounding.sum() > 64
        apart = (spectral[name] - by_waveform[name]).mean(axis=1)[sounding]
        apart = np.abs(apart - np.median(apart))
        moved = (spectral["original"] - by_waveform[name]).mean(axis=1)[sounding]
        moved = np.abs(moved - np.median(moved))
        assert np.median(apart) < 0.5
        assert np.percentile(apart, 90) < min(3, np.percentile(moved, 90))


def test_the_fast_pitch_method_gives_the_shape_of_the_slow_one(sound: Sound) -> None:
    assert_same_shape(sound(0, 3.0))


def test_the_fast_pitch_method_gives_the_shape_of_the_slow_one_on_real_machines(sample_data: Path) -> None:
    for machine in ("gearbox", "fan", "valve"):
        path = sorted((sample_data / "dcase2023-sample" / machine).rglob("*.wav"))[0]
        assert_same_shape(decode(path, RecordingSettings()).samples[: 3 * RATE])


def test_the_log_mel_of_the_unwarped_power_is_the_original(sound: Sound) -> None:
    np.testing.assert_array_equal(log_mel(power_spectrum(sound(0), MEL), RATE, MEL), make(sound(0))["original"])
