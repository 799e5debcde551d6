"""Faults synthesised from normal recordings, to compare two detectors when no real fault has been recorded."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from asdcore.errors import AsdError

Waveform = NDArray[np.float32]
_Fault = Callable[[Waveform, int, float, np.random.Generator], NDArray[np.floating]]

THIRD = 2 ** (1 / 6)
"""from the middle of a third of an octave to its edge"""
FULL_SCALE = 0.999


def pseudo_fault(
    waveform: Waveform, sample_rate: int, kind: str, strength: float, rng: np.random.Generator
) -> Waveform:
    """A recording as it might sound with a fault.

    Args:
        waveform: (n_samples,), full scale at 1.
        sample_rate: Hz.
        kind: one of `KINDS`: ``line``: the strongest line moves by up to 8 %; ``modulated``: the level swings 4 to 20
            times a second; ``impulses``: 2 to 8 ringing blows a second, up to 8 times the RMS; ``band_noise``: noise in
            a third of an octave, up to the recording's own RMS; ``silenced``: a third of an octave among the strongest
            falls silent.
        strength: 0, nothing, to 1.
        rng: draws the rest.

    Returns:
        (n_samples,) float32. One that would be beyond full scale is made quieter as a whole.

    Raises:
        AsdError: no such kind, or a strength out of range.

    >>> hum = np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000).astype(np.float32) / 2
    >>> moved = pseudo_fault(hum, 16_000, "line", 1.0, np.random.default_rng(0))
    >>> int(np.abs(np.fft.rfft(moved)).argmax())
    216
    """
    if kind not in KINDS:
        raise AsdError(f"kind {kind!r} is none of {', '.join(KINDS)}")
    if not 0 <= strength <= 1:
        raise AsdError(f"strength {strength} must be between 0 and 1")
    faulty = KINDS[kind](waveform, sample_rate, strength, rng)
    peak = float(np.abs(faulty).max(initial=0.0))
    within: Waveform = (faulty * min(1.0, FULL_SCALE / max(peak, FULL_SCALE))).astype(np.float32)
    return within


def _line(waveform: Waveform, rate: int, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    spectrum = np.fft.rfft(waveform)
    frequencies = np.fft.rfftfreq(len(waveform), 1 / rate)
    power = np.where(frequencies > 50, np.abs(spectrum) ** 2, 0)
    middle = frequencies[power.argmax()]
    band = _band(frequencies, middle / 1.03, middle * 1.03)
    line = _analytic(spectrum * band, len(waveform))
    by = 0.08 * strength * middle
    moved = (line * np.exp(2j * np.pi * by * np.arange(len(waveform)) / rate)).real
    whole: NDArray[np.floating] = np.fft.irfft(spectrum * (1 - band), len(waveform)) + moved
    return whole


def _modulated(waveform: Waveform, rate: int, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    turns = rng.uniform(4, 20) * np.arange(len(waveform)) / rate + rng.uniform()
    swung: NDArray[np.floating] = waveform * (1 + strength * np.cos(2 * np.pi * turns))
    return swung


def _impulses(waveform: Waveform, rate: int, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    every = rate / rng.uniform(2, 8)
    first = rng.uniform(0, min(every, len(waveform)))
    blows = np.zeros(len(waveform))
    blows[np.arange(first, len(waveform), every).astype(int)] = 8 * strength * _rms(waveform)
    time = np.arange(int(0.03 * rate)) / rate
    ringing = np.sin(2 * np.pi * rng.uniform(0.1, 0.3) * rate * time) * np.exp(-time / 0.005)
    return waveform + np.convolve(blows, ringing)[: len(waveform)]


def _band_noise(waveform: Waveform, rate: int, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    frequencies = np.fft.rfftfreq(len(waveform), 1 / rate)
    middle = np.exp(rng.uniform(np.log(300), np.log(0.4 * rate)))
    band = _band(frequencies, middle / THIRD, middle * THIRD)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(len(waveform))) * band, len(waveform))
    return waveform + strength * _rms(waveform) * noise / max(_rms(noise), 1e-12)


def _silenced(waveform: Waveform, rate: int, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    spectrum = np.fft.rfft(waveform)
    frequencies = np.fft.rfftfreq(len(waveform), 1 / rate)
    middles = 100 * THIRD ** (2 * np.arange(40))
    bands = [_band(frequencies, middle / THIRD, middle * THIRD) for middle in middles if middle * THIRD < rate / 2]
    energies = np.array([np.sum(np.abs(spectrum * band) ** 2) for band in bands])
    band = bands[rng.choice(np.argsort(energies)[-5:])]
    return np.fft.irfft(spectrum * (1 - strength * band), len(waveform))


KINDS: dict[str, _Fault] = {
    "line": _line,
    "modulated": _modulated,
    "impulses": _impulses,
    "band_noise": _band_noise,
    "silenced": _silenced,
}


def _band(frequencies: NDArray[np.floating], low: float, high: float) -> NDArray[np.floating]:
    """1 from ``low`` to ``high`` Hz, 0 elsewhere."""
    return ((frequencies >= low) & (frequencies <= high)).astype(np.float64)


def _analytic(spectrum: NDArray[np.complexfloating], length: int) -> NDArray[np.complexfloating]:
    """The complex signal whose real part has this one-sided spectrum."""
    whole = np.zeros(length, dtype=np.complex128)
    whole[: len(spectrum)] = 2 * spectrum
    whole[0] /= 2
    return np.fft.ifft(whole)


def _rms(samples: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
