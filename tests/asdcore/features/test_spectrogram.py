from collections.abc import Callable

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from asdcore.features.spectrogram import as_stored, spectrogram
from asdcore.settings import MelSettings

Sound = Callable[..., NDArray[np.float32]]

RATE = 16_000


@pytest.mark.parametrize(
    "mel", [MelSettings(), MelSettings(n_fft=1024, hop_length=256, n_mels=64), MelSettings(n_mels=40, amin=1e-6)]
)
@pytest.mark.filterwarnings("ignore:n_fft")
@pytest.mark.parametrize("seconds", [0.05, 0.5, 2.0])
def test_equal_to_librosa_to_a_thousandth_of_a_decibel(sound: Sound, mel: MelSettings, seconds: float) -> None:
    waveform = sound(0, seconds)
    power = librosa.feature.melspectrogram(
        y=waveform, sr=RATE, n_fft=mel.n_fft, hop_length=mel.hop_length, n_mels=mel.n_mels, power=2.0, window="hann"
    )
    expected = librosa.power_to_db(power, ref=1.0, amin=mel.amin, top_db=None)
    got = spectrogram(waveform, RATE, mel)
    assert got.dtype == np.float32
    assert got.shape == expected.shape == (mel.n_mels, 1 + len(waveform) // mel.hop_length)
    assert np.abs(got - expected).max() < 1e-3


def test_the_default_floor_is_that_of_librosas_amin() -> None:
    got = spectrogram(np.zeros(RATE, np.float32), RATE, MelSettings())
    np.testing.assert_allclose(got, -100.0, atol=1e-4)
    assert MelSettings().amin_db == pytest.approx(-100.0)


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    mel = MelSettings()
    centres = librosa.mel_frequencies(n_mels=mel.n_mels + 2, fmin=0, fmax=RATE / 2)[1:-1]
    time = np.arange(RATE) / RATE
    for hertz in (300.0, 1_000.0, 5_000.0):
        values = spectrogram(np.sin(2 * np.pi * hertz * time).astype(np.float32), RATE, mel)
        assert values.mean(axis=1).argmax() == np.abs(centres - hertz).argmin()


def test_twice_the_amplitude_is_six_decibels_more(sound: Sound) -> None:
    quiet, loud = (spectrogram(gain * sound(0), RATE, MelSettings()) for gain in (1, 2))
    np.testing.assert_allclose(loud - quiet, 20 * np.log10(2), atol=1e-3)


def test_rounding_for_the_store_costs_little_and_is_done_once(sound: Sound) -> None:
    values = spectrogram(sound(0), RATE, MelSettings())
    stored = as_stored(values)
    assert stored.dtype == np.float32
    assert np.abs(stored - values).max() <= 0.032
    np.testing.assert_array_equal(as_stored(stored), stored)
