"""The sounds of the simulated machines: what they are made of, and their faults.

A machine is a sum of parts, each made from what gives a real one its sound: flow noise and blade tones, gear mesh with
sidebands, clicks that ring.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asdcore.registry import FAULTS

Signal = NDArray[np.float64]  # (n_samples,)

SAMPLE_RATE = 16_000
DOMAINS = ("source", "target")
BUILT_IN_FAULTS = tuple(FAULTS.built_in)


def _turns(n: int, hz: float, jitter: float, rng: np.random.Generator) -> Signal:
    """Revolutions since the start, of something that turns at ``hz`` with a wandering speed; starts anywhere."""
    knots = 2 + n // (SAMPLE_RATE // 2)  # the speed wanders on the scale of half a second
    wander = rng.normal(0.0, jitter) + np.interp(
        np.linspace(0, knots - 1, n), np.arange(knots), rng.normal(0.0, jitter / 2, knots)
    )
    return np.asarray(rng.uniform() + np.cumsum(hz / SAMPLE_RATE * (1.0 + wander)), dtype=np.float64)


def _harmonics(turns: Signal, amplitudes: Sequence[float], rng: np.random.Generator) -> Signal:
    """Sum of sines at 1, 2, ... times ``turns``, with random phases and amplitudes that vary by about 1 dB."""
    scatter = 10 ** (rng.normal(0.0, 1.0, len(amplitudes)) / 20)
    phasors = np.asarray(amplitudes) * scatter * np.exp(2j * np.pi * rng.uniform(size=len(amplitudes)))
    angle = (2 * np.pi * (turns % 1)).astype(np.float32)
    circle = np.cos(angle) + 1j * np.sin(angle)
    total = np.zeros_like(circle)
    for phasor in phasors[::-1]:  # Horner's scheme: one multiplication per harmonic instead of a sine
        total += np.complex64(phasor)
        total *= circle
    return np.asarray(total.real, dtype=np.float64)


def _noise(n: int, low_hz: float, high_hz: float, rng: np.random.Generator) -> Signal:
    """Noise of unit power between two soft edges (12 dB an octave), with a spectral tilt of its own."""
    hz = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 1.0).astype(np.float32)
    low, high = (hz / low_hz) ** 2, (hz / high_hz) ** 2
    gain = low / (1 + low) / (1 + high) * hz ** np.float32(rng.normal(0.0, 0.06))
    real, imaginary = rng.standard_normal((2, hz.size), dtype=np.float32)
    noise = np.fft.irfft(gain * (real + 1j * imaginary), n)
    return np.asarray(noise / noise.std(), dtype=np.float64)


def _clicks(n: int, at_seconds: Signal, strengths: Signal, rings_hz: Sequence[float], decay: float) -> Signal:
    """Impacts that ring: at each time a sum of sines that die away with ``decay`` seconds (higher ones sooner)."""
    time = np.arange(int(8 * decay * SAMPLE_RATE)) / SAMPLE_RATE
    ring = sum(np.sin(2 * np.pi * hz * time) * np.exp(-time / decay * (hz / rings_hz[0]) ** 0.5) for hz in rings_hz)
    starts = np.round(at_seconds * SAMPLE_RATE).astype(np.int64)
    inside = (starts >= 0) & (starts < n)
    sound = np.zeros(n + time.size)
    np.add.at(sound, starts[inside, None] + np.arange(time.size), strengths[inside, None] * ring)
    return sound[:n]


def _times(n: int, hz: float, jitter: float, rng: np.random.Generator) -> Signal:
    """Seconds at which something happens ``hz`` times a second; ``jitter`` is a fraction of the period."""
    count = int(n / SAMPLE_RATE * hz) + 2
    period = (1 + rng.normal(0.0, jitter / 2)) / hz
    return np.asarray((np.arange(count) - rng.uniform() + rng.normal(0.0, jitter, count)) * period, dtype=np.float64)


def _fan(n: int, speed: float, rng: np.random.Generator) -> dict[str, Signal]:
    """``speed`` in revolutions a second, seven blades. Flow noise rises fast with speed, blade tones less so."""
    faster = speed / 22
    turns = _turns(n, speed, 0.012, rng)
    unbalance = 1 + 0.15 * np.cos(2 * np.pi * turns)
    blades = _harmonics(7 * turns, [0.7 * k**-1.2 for k in range(1, 13)], rng)
    hum = _harmonics(
        _turns(n, 100.0, 0.0002, rng), [0.10, 0.0, 0.05, 0.02, 0.03], rng
    )  # twice the mains, and overtones
    flow = _noise(n, 120 * faster, 1500 * faster, rng)
    return {"blades": faster * unbalance * blades, "motor": hum, "flow": faster**2 * unbalance * flow}


def _gearbox(n: int, load: float, rng: np.random.Generator) -> dict[str, Signal]:
    """``load`` in percent: it slows the motor, brings out the overtones of the mesh and deepens its sidebands."""
    share = load / 100
    shaft = _turns(n, 25.0 * (1 - 0.04 * share), 0.003, rng)
    shaft_angle = 2 * np.pi * shaft
    swing = 1 + 0.2 * np.sin(2 * np.pi * _turns(n, 0.8, 0.1, rng))  # the driven machine takes its load in strokes
    sidebands = 1 + (0.2 + 0.4 * share) * np.cos(shaft_angle) + 0.15 * np.cos(23 / 41 * shaft_angle)
    mesh = _harmonics(23 * shaft + 0.05 * np.sin(shaft_angle), [k ** -(1.6 - 0.6 * share) for k in range(1, 9)], rng)
    second = _harmonics(17 * 23 / 41 * shaft, [0.15, 0.07, 0.05, 0.03], rng)
    churn = _noise(n, 300, 2500, rng)
    return {"mesh": swing * sidebands * mesh, "second stage": second, "oil": 0.6 * (0.8 + 0.4 * share) * churn}


def _valve(n: int, rate: float, rng: np.random.Generator) -> dict[str, Signal]:
    """``rate`` in strokes a minute: it opens with a click, lets a gas through, and closes with a duller click."""
    opens = _times(n, rate / 60, 0.02, rng)
    closes = opens + 0.11 * (1 + rng.normal(0.0, 0.03))
    hardness = 10 ** (rng.normal(0.0, 1.0, (2, opens.size)) / 20)
    shift = 1 + rng.normal(0.0, 0.01)
    opening = _clicks(n, opens, 3.0 * hardness[0], [1250 * shift, 2900 * shift, 5200 * shift], 0.008)
    closing = _clicks(n, closes, 1.0 * hardness[1], [620 * shift, 1900 * shift], 0.012)
    puffs = _clicks(n, opens, np.ones(opens.size), [0.8], 0.06)  # slower than a sound: the envelope of the gas
    return {"opening": opening, "closing": closing, "flow": (0.12 + 4.0 * puffs) * _noise(n, 1500, 6000, rng)}


@dataclass(frozen=True)
class Machine:
    parts: Callable[[int, float, np.random.Generator], dict[str, Signal]]
    attribute: str
    settings: Mapping[str, tuple[int, ...]]  # domain to the values of the attribute
    fault_size: Mapping[str, float]  # at strength 1, see with_fault
    line_hz: float
    modulation_hz: float
    impact_hz: float
    impact_rings_hz: tuple[float, ...]
    hiss_hz: tuple[float, float]
    silent_part: str


SPECIFICATIONS: Mapping[str, Machine] = {
    "simFan": Machine(
        _fan, "spd", {"source": (18, 21, 24), "target": (25, 26)},
        {"tonal": 0.08, "modulated": 0.8, "impulsive": 0.08, "broadband": 0.09, "missing": 0.9},
        line_hz=1730, modulation_hz=6.5, impact_hz=71, impact_rings_hz=(2400, 3900), hiss_hz=(3000, 6000),
        silent_part="motor",
    ),
    "simGearbox": Machine(
        _gearbox, "load", {"source": (20, 40, 60), "target": (70, 80)},
        {"tonal": 0.08, "modulated": 0.6, "impulsive": 0.07, "broadband": 0.08, "missing": 0.5},
        line_hz=2210, modulation_hz=12.3, impact_hz=25, impact_rings_hz=(3300, 4700), hiss_hz=(3500, 7000),
        silent_part="second stage",
    ),
    "simValve": Machine(
        _valve, "rate", {"source": (120, 150, 180), "target": (200, 210)},
        {"tonal": 0.05, "modulated": 0.6, "impulsive": 0.09, "broadband": 0.22, "missing": 0.5},
        line_hz=480, modulation_hz=9.0, impact_hz=11, impact_rings_hz=(1700, 4100), hiss_hz=(2500, 7000),
        silent_part="closing",
    ),
}  # fmt: skip
MACHINES = tuple(SPECIFICATIONS)


def background(n: int, domain: str, rng: np.random.Generator) -> Signal:
    """The hall around the machine: louder and darker in the target domain, where other machines run."""
    loudness, high_hz = (0.20, 3000) if domain == "source" else (0.23, 2700)
    return np.asarray(loudness * 10 ** (rng.normal(0.0, 1.5) / 20) * _noise(n, 60, high_hz, rng), dtype=np.float64)


def total(parts: dict[str, Signal]) -> Signal:
    """The sound that the parts make together."""
    return np.asarray(np.sum(list(parts.values()), axis=0), dtype=np.float64)


def with_fault(
    parts: dict[str, Signal], spec: Machine, fault: str, strength: float, rng: np.random.Generator
) -> Signal:
    """The machine's sound with one of the `BUILT_IN_FAULTS` in it; at strength 0 the sum of its parts.

    The fault's size is the fraction of the silent part that goes (missing), the depth of the modulation (modulated), or
    the RMS of what is added over that of the machine (all others).
    """
    sound = total(parts)
    n = sound.size
    size = strength * spec.fault_size[fault]
    scatter = 1 + rng.uniform(-0.08, 0.08)  # no two broken machines break alike
    if fault == "missing":
        return sound - np.float64(min(size, 1.0)) * parts[spec.silent_part]
    if fault == "modulated":
        return sound * (1 + min(size, 1.0) * np.sin(2 * np.pi * _turns(n, spec.modulation_hz * scatter, 0.01, rng)))
    if fault == "tonal":
        added = _harmonics(_turns(n, spec.line_hz * scatter, 0.003, rng), [1.0, 0.3], rng)
    elif fault == "impulsive":
        times = _times(n, spec.impact_hz, 0.02, rng)
        rings = [hz * scatter for hz in spec.impact_rings_hz]
        added = _clicks(n, times, np.exp(rng.normal(0.0, 0.5, times.size)), rings, 0.002)
    else:
        added = _noise(n, spec.hiss_hz[0] * scatter, spec.hiss_hz[1] * scatter, rng)
    return sound + np.float64(size * sound.std() / (added.std() + 1e-12)) * added
