"""Random machines, as many as one likes: normal recordings and pseudo-faults to pretrain an encoder on.

A machine is a sum of parts, each there or not: two series of harmonics, up to four lines, noise, modulated noise, and
ringing blows. What it sounds like, how much that varies from recording to recording, and its operating conditions are
drawn at random. They resemble no particular machine; those of `asdcore.datasets.simulate` are others.

Recordings are made in batches with PyTorch. All random numbers are drawn on the CPU, so that a seed gives the same
machines on every device.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from asdcore.datasets.random_faults import skip_fault, with_fault
from asdcore.datasets.signals import SAMPLE_RATE, Draw, amplitudes, blows, drawn_blows, filtered, scaled, unit

CPU = torch.device("cpu")
PARTS = 6
CONDITIONS = 4
"""operating conditions of a machine; for half of them they are all the same"""


@dataclass(frozen=True)
class _Parameters:
    """Of many machines: one row each."""

    fundamental: Tensor
    """(n, 2) Hz, of two series of harmonics"""
    harmonics: Tensor
    """(n, 2, 24) amplitudes"""
    line: Tensor
    """(n, 4) Hz"""
    line_amplitude: Tensor
    """(n, 4), 0: no line"""
    noise: Tensor
    """(n, 2, 12) dB over the logarithm of the frequency: constant noise, modulated noise"""
    modulation: Tensor
    """(n, 2) Hz, of the whole machine and of the second noise"""
    depth: Tensor
    """(n, 2)"""
    blow_rate: Tensor
    """(n,) Hz"""
    ring: Tensor
    """(n, 3) Hz"""
    decay: Tensor
    """(n,) seconds"""
    jitter: Tensor
    """(n,) fraction of the period"""
    gain: Tensor
    """(n, PARTS) amplitude, 0: absent"""
    speed_variation: Tensor
    """(n,)"""
    part_variation: Tensor
    """(n,) dB"""
    level: Tensor
    """(n,) amplitude"""
    level_variation: Tensor
    """(n,) dB"""
    microphone_variation: Tensor
    """(n,) dB"""
    background: Tensor
    """(n,) dB"""
    background_tilt: Tensor
    """(n,) dB"""
    condition_speed: Tensor
    """(n, CONDITIONS) factor"""
    condition_gain: Tensor
    """(n, CONDITIONS, PARTS) dB"""

    def rows(self, first: int, last: int) -> "_Parameters":
        return _Parameters(**{field.name: getattr(self, field.name)[first:last] for field in fields(self)})


class RandomMachines:
    """Machines that are drawn, and their recordings.

    Args:
        count: of machines.
        seed: the same seed gives the same machines and, in the same order of calls, the same recordings.
        seconds: of a recording.
        device: where recordings are made.

    >>> machines = RandomMachines(3, seed=0)
    >>> machines.recordings().shape, machines.recordings(fault="tone").shape
    (torch.Size([3, 32000]), torch.Size([3, 32000]))
    """

    def __init__(self, count: int, seed: int, seconds: float = 2.0, device: torch.device = CPU) -> None:
        self.count, self.n_samples = count, round(seconds * SAMPLE_RATE)
        self._draw = Draw(seed, device)
        self._parameters = _drawn(count, self._draw)

    def recordings(self, first: int = 0, last: int | None = None, fault: str | None = None) -> Tensor:
        """A new recording of each of the machines from ``first`` to before ``last``: (machines, n_samples), 16 kHz.

        ``fault``: one of `asdcore.datasets.random_faults.FAULTS`, of a strength and in a place that are drawn; None:
        normal.
        """
        of = self._parameters.rows(first, self.count if last is None else last)
        sound = _sound(of, self.n_samples, self._draw)
        if fault is not None:
            sound = with_fault(sound, fault, self._draw)
        return _recorded(of, sound, self._draw)

    def skip(self, first: int = 0, last: int | None = None, fault: str | None = None) -> None:
        """Draw the numbers that `recordings` draws, without making sounds: a twentieth of the work.

        What is made next is the same.

        >>> one, other = RandomMachines(2, seed=0), RandomMachines(2, seed=0)
        >>> _, _ = one.recordings(fault="line"), other.skip(fault="line")
        >>> torch.equal(one.recordings(), other.recordings())
        True
        """
        of = self._parameters.rows(first, self.count if last is None else last)
        n, draw = len(of.level), self._draw
        _skip_sound(of, self.n_samples, draw)
        if fault is not None:
            skip_fault(n, self.n_samples, fault, draw)
        _skip_recorded(n, self.n_samples, draw)

    @property
    def state(self) -> Tensor:
        """What the next recordings depend on; to be set where they are made again."""
        return self._draw.state

    @state.setter
    def state(self, state: Tensor) -> None:
        self._draw.state = state


def _drawn(n: int, draw: Draw) -> _Parameters:
    fundamental = draw.log_uniform(15, 400, n)
    order = torch.arange(1, 25, device=draw.device)
    fall = draw.uniform(0.3, 2.0, n, 2, 1)
    present = torch.stack([draw.chance(p, n) for p in (0.75, 0.4, 0.5, 0.85, 0.4, 0.35)], dim=1)
    present[:, 3] = torch.where(present.sum(dim=1) == 0, 1.0, present[:, 3])  # No machine is silent.
    tilt = torch.stack([draw.uniform(-2, 10, n), torch.zeros(n, device=draw.device)], dim=1)
    noise_scatter = torch.tensor([5.0, 8.0], device=draw.device)[:, None]
    varies = draw.chance(0.5, n)
    return _Parameters(
        fundamental=torch.stack([fundamental, fundamental * draw.uniform(1.1, 8, n)], dim=1),
        harmonics=amplitudes(5 * draw.normal(n, 2, 24)) * order**-fall,
        line=draw.log_uniform(100, 7500, n, 4),
        line_amplitude=amplitudes(-draw.uniform(0, 20, n, 4)) * draw.chance(0.6, n, 4),
        noise=noise_scatter * draw.normal(n, 2, 12) - tilt[:, :, None] * torch.linspace(0, 7, 12, device=draw.device),
        modulation=draw.log_uniform(0.5, 25, n, 2),
        depth=torch.stack([draw.uniform(0, 0.8, n) * draw.chance(0.6, n), draw.uniform(0.3, 1, n)], dim=1),
        blow_rate=draw.log_uniform(0.7, 18, n),
        ring=draw.log_uniform(400, 7000, n, 3),
        decay=draw.log_uniform(0.001, 0.012, n),
        jitter=draw.uniform(0, 0.15, n),
        gain=amplitudes(6 * draw.normal(n, PARTS)) * present,
        speed_variation=draw.log_uniform(0.0005, 0.02, n),
        part_variation=draw.uniform(0.3, 2.5, n),
        level=amplitudes(-42 + 8 * draw.normal(n)),
        level_variation=draw.uniform(0.4, 4, n),
        microphone_variation=draw.uniform(0.3, 2.5, n),
        background=-draw.uniform(5, 30, n),
        background_tilt=draw.uniform(1, 6, n),
        condition_speed=(1 + 0.12 * draw.normal(n, CONDITIONS) * varies[:, None]).clamp(0.6, 1.5),
        condition_gain=2 * draw.normal(n, CONDITIONS, PARTS) * varies[:, None, None],
    )


def _sound(of: _Parameters, n_samples: int, draw: Draw) -> Tensor:
    """(n, n_samples) of RMS 1: the machines themselves, without background and microphone."""
    n = len(of.level)
    condition, speed = _drawn_speed(of, draw)
    time = torch.arange(n_samples, device=draw.device) / SAMPLE_RATE
    wander = torch.sin(2 * math.pi * (draw.uniform(0.2, 1, n, 1) * time + draw.uniform(0, 1, n, 1)))
    # Angle of something that turns once a second when the machine has its usual speed.
    turn = 2 * math.pi * torch.cumsum(1 + 0.3 * of.speed_variation[:, None] * wander, dim=1) / SAMPLE_RATE
    parts = [_harmonics(speed * of.fundamental[:, k], of.harmonics[:, k], turn, draw) for k in (0, 1)]
    hz = of.line * (1 + 0.002 * draw.normal(n, 4))
    phase = draw.uniform(0, 1, n, 4)
    lines = [of.line_amplitude[:, k, None] * _sine(hz[:, k], phase[:, k], time) for k in range(4)]
    parts.append(_added(lines))
    noise = [filtered(draw.normal(n, n_samples), of.noise[:, k]) for k in (0, 1)]
    swing = [1 + of.depth[:, k, None] * _sine(speed * of.modulation[:, k], draw.uniform(0, 1, n), time) for k in (0, 1)]
    parts += [noise[0], swing[1] * unit(noise[1])]
    ring = of.ring * (1 + 0.01 * draw.normal(n, 1))
    parts.append(blows(n_samples, speed * of.blow_rate, ring, of.decay, of.jitter, draw))
    decibels = (
        of.part_variation[:, None] * draw.normal(n, PARTS)
        + of.condition_gain[torch.arange(n, device=draw.device), condition]
    )
    gain = of.gain * amplitudes(decibels)
    return unit(swing[0] * _added([gain[:, k, None] * unit(part) for k, part in enumerate(parts)]))


def _drawn_speed(of: _Parameters, draw: Draw) -> tuple[Tensor, Tensor]:
    """The operating condition of each recording, (n,), and the speed as a factor, (n,)."""
    n = len(of.level)
    condition = draw.integers(CONDITIONS, n)
    speed = of.condition_speed[torch.arange(n, device=draw.device), condition]
    return condition, speed * (1 + of.speed_variation * draw.normal(n))


def _skip_sound(of: _Parameters, n_samples: int, draw: Draw) -> None:
    """Draw what `_sound` draws, in its order."""
    n = len(of.level)
    _, speed = _drawn_speed(of, draw)
    for columns in (1, 1, *(of.harmonics.shape[2],) * 2):
        draw.uniform(0, 1, n, columns)
    draw.normal(n, 4)
    draw.uniform(0, 1, n, 4)
    for _ in range(2):
        draw.normal(n, n_samples)
    for _ in range(2):
        draw.uniform(0, 1, n)
    draw.normal(n, 1)
    drawn_blows(n_samples, speed * of.blow_rate, draw)
    draw.normal(n, PARTS)


def _harmonics(hz: Tensor, amplitude: Tensor, turn: Tensor, draw: Draw) -> Tensor:
    """(n, n_samples): multiples of ``hz`` (n,) by ``amplitude`` (n, harmonics), those below 7.8 kHz."""
    phase = draw.uniform(0, 2 * math.pi, *amplitude.shape)
    total = torch.zeros_like(turn)
    for index in range(amplitude.shape[1]):
        audible = amplitude[:, index] * ((index + 1) * hz < 7800)
        total += audible[:, None] * torch.sin((index + 1) * hz[:, None] * turn + phase[:, index, None])
    return total


def _added(signals: list[Tensor]) -> Tensor:
    total = torch.zeros_like(signals[0])
    for signal in signals:
        total += signal
    return total


def _sine(hz: Tensor, phase: Tensor, time: Tensor) -> Tensor:
    """(n, n_samples) of (n,) Hz; phase in turns."""
    return torch.sin(2 * math.pi * (hz[:, None] * time + phase[:, None]))


def _recorded(of: _Parameters, sound: Tensor, draw: Draw) -> Tensor:
    """With background noise, by a microphone whose response and gain differ a little each time; within full scale."""
    n, n_samples = sound.shape
    slope = torch.linspace(0, 8, 6, device=draw.device)
    background = filtered(draw.normal(n, n_samples), -of.background_tilt[:, None] * slope + 2 * draw.normal(n, 6))
    heard = sound + scaled(unit(background), of.background + 2 * draw.normal(n))
    heard = filtered(heard, of.microphone_variation[:, None] * draw.normal(n, 7))
    return (scaled(heard, of.level_variation * draw.normal(n)) * of.level[:, None]).clamp(-1, 1)


def _skip_recorded(n: int, n_samples: int, draw: Draw) -> None:
    """Draw what `_recorded` draws, in its order."""
    for shape in ((n_samples,), (6,), (), (7,), ()):
        draw.normal(n, *shape)
