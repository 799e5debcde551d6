"""Signals of many random machines at once, with PyTorch: (n, n_samples), one row per machine, at 16 kHz."""

import math

import torch
from torch import Tensor

SAMPLE_RATE = 16_000


class Draw:
    """Random numbers that depend on the seed alone, not on the device that they are moved to."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def state(self) -> Tensor:
        """What the next numbers depend on; to be set where they are drawn again."""
        return self._generator.get_state()

    @state.setter
    def state(self, state: Tensor) -> None:
        self._generator.set_state(state)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Between ``low`` and ``high``."""
        return low + (high - low) * torch.rand(shape, generator=self._generator).to(self.device)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """The logarithm is uniform."""
        return torch.exp(self.uniform(math.log(low), math.log(high), *shape))

    def normal(self, *shape: int) -> Tensor:
        """Mean 0, standard deviation 1."""
        return torch.randn(shape, generator=self._generator).to(self.device)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """1 with this probability, otherwise 0."""
        return (self.uniform(0, 1, *shape) < probability).float()

    def integers(self, below: int, *shape: int) -> Tensor:
        """0 to ``below - 1``."""
        return torch.randint(0, below, shape, generator=self._generator).to(self.device)

    def permutations(self, n: int, rows: int) -> Tensor:
        """(rows, n), each the numbers from 0 to ``n - 1`` in some order."""
        return torch.rand(rows, n, generator=self._generator).argsort(dim=1).to(self.device)


def amplitudes(decibels: Tensor) -> Tensor:
    """Factors of the amplitude.

    >>> amplitudes(torch.tensor([0.0, 20.0])).tolist()
    [1.0, 10.0]
    """
    factors: Tensor = 10 ** (decibels / 20)
    return factors


def scaled(signals: Tensor, decibels: Tensor) -> Tensor:
    """Each row louder by ``decibels`` (n,)."""
    return signals * amplitudes(decibels)[:, None]


def unit(signals: Tensor) -> Tensor:
    """Each row divided by its RMS."""
    return signals / (signals.square().mean(dim=1, keepdim=True).sqrt() + 1e-9)


def frequencies(n_samples: int, device: torch.device) -> Tensor:
    """Hz of each value of a real FFT."""
    hz: Tensor = torch.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE, device=device)
    return hz


def inverse(spectrum: Tensor, n_samples: int) -> Tensor:
    """(n, n_samples) from one-sided spectra."""
    signals: Tensor = torch.fft.irfft(spectrum, n_samples)
    return signals


def filtered(signals: Tensor, response: Tensor) -> Tensor:
    """Each row through a filter: (n, k) dB at k frequencies from 30 Hz to 8 kHz, equally far apart in octaves."""
    n_samples, last = signals.shape[1], response.shape[1] - 1
    hz = frequencies(n_samples, signals.device).clamp(min=30)
    place = (torch.log(hz / 30) / math.log(8000 / 30)).clamp(0, 1) * last
    below = place.floor().long().clamp(max=last - 1)
    share = place - below
    decibels = response[:, below] * (1 - share) + response[:, below + 1] * share
    return inverse(torch.fft.rfft(signals) * amplitudes(decibels), n_samples)


def blows(n_samples: int, rate: Tensor, ring: Tensor, decay: Tensor, jitter: Tensor, draw: Draw) -> Tensor:
    """Ringing blows.

    Args:
        n_samples: of a signal.
        rate: (n,) blows a second.
        ring: (n, k) Hz that a blow rings at.
        decay: (n,) seconds in which the ringing falls to 1/e.
        jitter: (n,) deviation of the times, fraction of the period.
        draw: draws times and strengths.
    """
    n = len(rate)
    first, deviation, decibels = drawn_blows(n_samples, rate, draw)
    offsets = first + jitter[:, None] * deviation
    at = ((torch.arange(decibels.shape[1], device=rate.device) + offsets) / rate[:, None] * SAMPLE_RATE).long()
    strength = amplitudes(3 * decibels) * ((at >= 0) & (at < n_samples))
    impulses = torch.zeros(n, n_samples, device=rate.device).scatter_add_(1, at.clamp(0, n_samples - 1), strength)
    time = torch.arange(n_samples // 20, device=rate.device) / SAMPLE_RATE
    ringing = torch.sin(2 * math.pi * ring[:, :, None] * time).sum(dim=1) * torch.exp(-time / decay[:, None])
    whole = n_samples + len(time)
    return inverse(torch.fft.rfft(impulses, whole) * torch.fft.rfft(ringing, whole), whole)[:, :n_samples]


def drawn_blows(n_samples: int, rate: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """What `blows` draws: the time of the first, (n, 1) periods; deviations of the times and strengths, (n, count)."""
    n, count = len(rate), 2 + math.ceil(float(rate.max()) * n_samples / SAMPLE_RATE)
    return draw.uniform(0, 1, n, 1), draw.normal(n, count), draw.normal(n, count)
