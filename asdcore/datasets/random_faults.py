"""Pseudo-faults of many signals at once, with PyTorch: where and how strong is drawn for each."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from asdcore.datasets.signals import (
    SAMPLE_RATE,
    Draw,
    amplitudes,
    blows,
    drawn_blows,
    frequencies,
    inverse,
    scaled,
    unit,
)

THIRD = 2 ** (1 / 6)
"""from the middle of a third of an octave to its edge"""


def with_fault(sounds: Tensor, fault: str, draw: Draw) -> Tensor:
    """(n, n_samples), each with a fault.

    Args:
        sounds: (n, n_samples) of RMS 1.
        fault: one of `FAULTS`: ``line``: one of the strongest lines moves by 1 to 8 %; ``modulated``: the level swings;
            ``blows``: ringing blows are added; ``band_noise``: noise in a band is added; ``silenced``: a third of an
            octave among the strongest becomes quieter; ``tone``: a tone is added; ``colour``: a region becomes louder
            or quieter.
        draw: draws place and strength.
    """
    return FAULTS[fault](sounds, draw.uniform(0.05, 1, len(sounds)), draw)


def skip_fault(n: int, n_samples: int, fault: str, draw: Draw) -> None:
    """Draw what `with_fault` draws for (n, n_samples), in its order, and make nothing."""
    draw.uniform(0, 1, n)
    match fault:
        case "line":
            draw.uniform(0, 1, n, 1)
            draw.integers(2, n)
        case "modulated":
            draw.uniform(0, 1, n, 1)
            draw.uniform(0, 1, n, 1)
        case "blows":
            draw.uniform(0, 1, n, 1)
            rate, _ = _drawn_rate(n, draw)
            drawn_blows(n_samples, rate, draw)
        case "band_noise":
            draw.normal(n, n_samples)
            draw.uniform(0, 1, n)
            draw.uniform(0, 1, n)
        case "silenced":
            draw.integers(6, n, 1)
        case "tone":
            draw.uniform(0, 1, n)
            draw.uniform(0, 1, n)
        case "colour":
            draw.uniform(0, 1, n, 1)
            draw.uniform(0, 1, n, 1)
            draw.integers(2, n)
        case _:
            raise KeyError(fault)


def _line(sounds: Tensor, strength: Tensor, draw: Draw) -> Tensor:
    spectrum, hz, power = _spectrum(sounds)
    regions = torch.bucketize(hz, torch.logspace(math.log10(60), math.log10(7800), 41, device=sounds.device))
    peaks = torch.zeros(len(sounds), 42, device=sounds.device)
    peaks = peaks.scatter_reduce_(1, regions.expand(len(sounds), -1), power, "amax")
    rank = (5 * draw.uniform(0, 1, len(sounds), 1) ** 2).long()
    region = peaks.argsort(dim=1, descending=True).gather(1, rank)
    middle = hz[(power * (regions == region)).argmax(dim=1)]
    band = _band(hz, middle / 1.03, middle * 1.03)
    by = 2 * draw.integers(2, len(sounds)) - 1
    bins = (by * (0.01 + 0.07 * strength) * middle / hz[1]).round().long()
    source = torch.arange(len(hz), device=sounds.device) - bins[:, None]
    inside = (source >= 0) & (source < len(hz))
    moved = (spectrum * band).gather(1, source.clamp(0, len(hz) - 1)) * inside
    return inverse(spectrum * (1 - band) + moved, sounds.shape[1])


def _modulated(sounds: Tensor, strength: Tensor, draw: Draw) -> Tensor:
    turns = draw.log_uniform(1, 25, len(sounds), 1) * _time(sounds) + draw.uniform(0, 1, len(sounds), 1)
    return sounds * (1 + strength[:, None] * torch.cos(2 * math.pi * turns))


def _blows(sounds: Tensor, strength: Tensor, draw: Draw) -> Tensor:
    n = len(sounds)
    ring = draw.log_uniform(600, 7000, n, 1) * torch.tensor([1.0, 1.7], device=sounds.device)
    rate, decay = _drawn_rate(n, draw)
    jitter = torch.full((n,), 0.05, device=sounds.device)
    added = blows(sounds.shape[1], rate, ring, decay, jitter, draw)
    return sounds + scaled(unit(added), -14 + 14 * strength)


def _drawn_rate(n: int, draw: Draw) -> tuple[Tensor, Tensor]:
    """Blows a second, and seconds in which one decays: (n,), (n,)."""
    return draw.log_uniform(1, 15, n), draw.log_uniform(0.001, 0.01, n)


def _band_noise(sounds: Tensor, strength: Tensor, draw: Draw) -> Tensor:
    spectrum, hz, _ = _spectrum(draw.normal(*sounds.shape))
    middle, width = draw.log_uniform(200, 6500, len(sounds)), THIRD ** draw.uniform(1, 3, len(sounds))
    noise = inverse(spectrum * _band(hz, middle / width, middle * width), sounds.shape[1])
    return sounds + scaled(unit(noise), -22 + 20 * strength)


def _silenced(sounds: Tensor, strength: Tensor, draw: Draw) -> Tensor:
    spectrum, hz, power = _spectrum(sounds)
    middles = 100 * THIRD ** (2 * torch.arange(19, device=sounds.device))
    bands = _band(hz, middles / THIRD, middles * THIRD)
    rank = draw.integers(6, len(sounds), 1)
    band = bands[(power @ bands.T).argsort(dim=1, descending=True).gather(1, rank)[:, 0]]
    return inverse(spectrum * (1 - (0.5 + 0.5 * strength[:, None]) * band), sounds.shape[1])


def _tone(sounds: Tensor, strength: Tensor, draw: Draw) -> Tensor:
    hz, fall = draw.log_uniform(120, 6500, len(sounds)), draw.uniform(0, 1, len(sounds))
    turns = hz[:, None] * _time(sounds)
    added = torch.zeros_like(sounds)
    for order in range(1, 5):
        audible = fall ** (order - 1) * (order * hz < 7800)
        added += audible[:, None] * torch.sin(2 * math.pi * order * turns)
    return sounds + scaled(unit(added), -26 + 20 * strength)


def _colour(sounds: Tensor, strength: Tensor, draw: Draw) -> Tensor:
    spectrum, hz, _ = _spectrum(sounds)
    middle, octaves = draw.log_uniform(150, 6500, len(sounds), 1), draw.uniform(0.3, 1.2, len(sounds), 1)
    decibels = (2 * draw.integers(2, len(sounds)) - 1) * (2 + 8 * strength)
    hill = torch.exp(-0.5 * (torch.log2(hz.clamp(min=1) / middle) / octaves).square())
    return inverse(spectrum * amplitudes(decibels[:, None] * hill), sounds.shape[1])


FAULTS: dict[str, Callable[[Tensor, Tensor, Draw], Tensor]] = {
    "line": _line,
    "modulated": _modulated,
    "blows": _blows,
    "band_noise": _band_noise,
    "silenced": _silenced,
    "tone": _tone,
    "colour": _colour,
}


def _spectrum(sounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """FFT, its frequencies in Hz, and its power above 50 Hz."""
    spectrum, hz = torch.fft.rfft(sounds), frequencies(sounds.shape[1], sounds.device)
    return spectrum, hz, spectrum.abs().square() * (hz > 50)


def _band(hz: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(n, bins): 1 from ``low`` to ``high`` Hz (n,), 0 elsewhere."""
    return ((hz >= low[:, None]) & (hz <= high[:, None])).float()


def _time(sounds: Tensor) -> Tensor:
    return torch.arange(sounds.shape[1], device=sounds.device) / SAMPLE_RATE
