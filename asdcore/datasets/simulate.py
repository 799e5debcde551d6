"""Simulated machines in the layout of DCASE 2023 Task 2, for a demo and for tests: no download, every fault is known.

A machine is a sum of parts, each made from what gives a real one its sound: flow noise and blade tones, gear mesh with
sidebands, clicks that ring. A recording adds what differs between two recordings of one machine: a wandering speed,
phases, level, background noise. An anomaly is a normal recording with one fault in it.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.progress import progress
from asdcore.recordings.names import SIMULATED as MARKER
from asdcore.storage.files import atomic_write, digest_of

Signal = NDArray[np.float64]  # (n_samples,)

SAMPLE_RATE = 16_000
DOMAINS = ("source", "target")
FAULTS = ("tonal", "modulated", "impulsive", "broadband", "missing")

FAULT_TABLE = "simulated.csv"
_VERSION = 1  # raise it when a change of this file changes the samples: a folder then never mixes two versions
_SHORTEST_SECONDS = 0.5
_LEVEL = 0.05  # of a machine's sound, as a share of full scale: 20 dB of headroom for clicks and strong faults


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
    for phasor in phasors[::-1]:  # Horner's scheme: one multiplication a harmonic instead of one sine
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
    """Seconds at which something happens ``hz`` times a second; ``jitter`` is a share of the period."""
    count = int(n / SAMPLE_RATE * hz) + 2
    period = (1 + rng.normal(0.0, jitter / 2)) / hz
    return np.asarray((np.arange(count) - rng.uniform() + rng.normal(0.0, jitter, count)) * period, dtype=np.float64)


def _fan(n: int, speed: int, rng: np.random.Generator) -> dict[str, Signal]:
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


def _gearbox(n: int, load: int, rng: np.random.Generator) -> dict[str, Signal]:
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


def _valve(n: int, rate: int, rng: np.random.Generator) -> dict[str, Signal]:
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
class _Machine:
    parts: Callable[[int, int, np.random.Generator], dict[str, Signal]]
    attribute: str
    settings: Mapping[str, tuple[int, ...]]  # domain to the values of the attribute
    fault_size: Mapping[str, float]  # at strength 1, see _with_fault
    line_hz: float
    modulation_hz: float
    impact_hz: float
    impact_rings_hz: tuple[float, ...]
    hiss_hz: tuple[float, float]
    silent_part: str


_MACHINES: Mapping[str, _Machine] = {
    "simFan": _Machine(
        _fan, "spd", {"source": (18, 21, 24), "target": (25, 26)},
        {"tonal": 0.08, "modulated": 0.8, "impulsive": 0.08, "broadband": 0.09, "missing": 0.9},
        line_hz=1730, modulation_hz=6.5, impact_hz=71, impact_rings_hz=(2400, 3900), hiss_hz=(3000, 6000),
        silent_part="motor",
    ),
    "simGearbox": _Machine(
        _gearbox, "load", {"source": (20, 40, 60), "target": (70, 80)},
        {"tonal": 0.08, "modulated": 0.6, "impulsive": 0.07, "broadband": 0.08, "missing": 0.5},
        line_hz=2210, modulation_hz=12.3, impact_hz=25, impact_rings_hz=(3300, 4700), hiss_hz=(3500, 7000),
        silent_part="second stage",
    ),
    "simValve": _Machine(
        _valve, "rate", {"source": (120, 150, 180), "target": (200, 210)},
        {"tonal": 0.05, "modulated": 0.6, "impulsive": 0.09, "broadband": 0.22, "missing": 0.5},
        line_hz=480, modulation_hz=9.0, impact_hz=11, impact_rings_hz=(1700, 4100), hiss_hz=(2500, 7000),
        silent_part="closing",
    ),
}  # fmt: skip
MACHINES = tuple(_MACHINES)


def _background(n: int, domain: str, rng: np.random.Generator) -> Signal:
    """The hall around the machine: louder and darker in the target domain, where other machines run."""
    loudness, high_hz = (0.20, 3000) if domain == "source" else (0.23, 2700)
    return np.asarray(loudness * 10 ** (rng.normal(0.0, 1.5) / 20) * _noise(n, 60, high_hz, rng), dtype=np.float64)


def _sum(parts: dict[str, Signal]) -> Signal:
    return np.asarray(np.sum(list(parts.values()), axis=0), dtype=np.float64)


def _with_fault(
    parts: dict[str, Signal], spec: _Machine, fault: str, strength: float, rng: np.random.Generator
) -> Signal:
    """The machine's sound with a fault in it; at strength 0 the sum of its parts.

    The fault's size is the share of the silent part that goes (missing), the depth of the modulation (modulated), or
    the RMS of what is added over that of the machine (all others).
    """
    sound = _sum(parts)
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


def waveform(
    machine: str,
    *,
    domain: str,
    label: str,
    rng: np.random.Generator,
    setting: int | None = None,
    fault: str | None = None,
    strength: float = 1.0,
    seconds: float = 4.0,
) -> NDArray[np.float32]:
    """One simulated recording, ``(n_samples,)`` float32 in [-1, 1] at 16 kHz.

    ``domain`` (source, target) chooses the operating condition and the background noise. ``setting`` is the operating
    condition itself (speed, load or rate, by machine) and is drawn from the domain's values if not given; so is
    ``fault`` from `FAULTS` when ``label`` is ``"anomaly"``. At ``strength`` 0 an anomaly is the normal recording that
    the same state of ``rng`` gives; 1 is neither trivial nor hopeless to detect.

    Raises AsdError for an unknown machine, domain, label or fault, and for a fault in a normal recording.

    >>> waveform("simFan", domain="source", label="normal", rng=np.random.default_rng(0)).shape
    (64000,)
    """
    spec = _MACHINES[_one_of("machine", machine, MACHINES)]
    _one_of("domain", domain, DOMAINS)
    _one_of("label", label, ("normal", "anomaly"))
    if label == "normal" and fault is not None:
        raise AsdError(f"fault={fault!r} with label='normal': a normal recording has no fault. Use label='anomaly'.")
    _at_least("strength", strength, 0.0)
    _at_least("seconds", seconds, _SHORTEST_SECONDS)
    if setting is not None:
        _at_least("setting", setting, 1)

    n = round(seconds * SAMPLE_RATE)
    drawn_setting, drawn_fault = rng.choice(spec.settings[domain]), rng.choice(FAULTS)
    parts = spec.parts(n, int(drawn_setting) if setting is None else setting, rng)
    loudness, background = 10 ** (rng.normal(0.0, 1.0) / 20), _background(n, domain, rng)
    if label == "normal":
        sound = _sum(parts)
    else:
        sound = _with_fault(parts, spec, _one_of("fault", fault or str(drawn_fault), FAULTS), strength, rng)
    # A recorder clips what is too loud; that takes a strength far above 1.
    return np.clip(_LEVEL * (loudness * sound + background), -1.0, 1.0).astype(np.float32)


@dataclass(frozen=True)
class _Plan:
    """What decides one recording. No count is in it, so a larger set holds the smaller one's recordings."""

    machine: str
    split: str
    domain: str
    label: str
    index: int

    @property
    def setting(self) -> int:
        settings = _MACHINES[self.machine].settings[self.domain]
        return settings[self.index % len(settings)]

    @property
    def fault(self) -> str | None:
        return FAULTS[self.index % len(FAULTS)] if self.label == "anomaly" else None

    @property
    def file_name(self) -> str:
        attributes = f"{_MACHINES[self.machine].attribute}_{self.setting}"
        return f"section_00_{self.domain}_{self.split}_{self.label}_{self.index:04d}_{attributes}.wav"

    def rng(self, seed: int) -> np.random.Generator:
        parts = (str(seed), self.machine, self.split, self.domain, self.label, str(self.index))
        return np.random.default_rng(int(digest_of(*parts), 16))

    def strength(self, seed: int, strength: float) -> float:
        """Some faults have only begun and some are far gone: half to one and a half times ``strength``."""
        return round(strength * float(self.rng(seed).spawn(1)[0].uniform(0.5, 1.5)), 4)


def _plans(machine: str, source_train: int, target_train: int, test_per_kind: int) -> Iterator[_Plan]:
    for domain, count in zip(DOMAINS, (source_train, target_train), strict=True):
        yield from (_Plan(machine, "train", domain, "normal", index) for index in range(count))
    for domain in DOMAINS:
        for label in ("normal", "anomaly"):
            yield from (_Plan(machine, "test", domain, label, index) for index in range(test_per_kind))


def simulate(
    folder: Path,
    *,
    machines: Sequence[str] = MACHINES,
    source_train: int = 54,
    target_train: int = 6,
    test_per_kind: int = 15,
    seconds: float = 4.0,
    strength: float = 1.0,
    seed: int = 0,
) -> list[Path]:
    """Write simulated machines below ``folder`` and return the paths of their recordings, machine by machine.

    ``<folder>/<machine>/{train,test}/section_00_{domain}_{split}_{label}_NNNN_<attributes>.wav``, 16 kHz mono PCM_16,
    ``test_per_kind`` recordings for each of source and target, normal and anomaly. File names hide the faults, as real
    ones do; ``<folder>/<machine>/simulated.csv`` (file_name, fault, strength) tells them, one row an anomaly.
    ``<folder>/SIMULATED.txt`` says that nothing here was recorded, and from which arguments it was made.

    A recording depends on ``seed``, ``seconds``, ``strength`` and its own name, never on the other recordings. Files
    that exist are kept, so an interrupted call goes on where it stopped, and a later call can add machines.

    Raises AsdError for an unknown machine or an impossible number, if ``folder`` was made with other arguments, and if
    it holds other recordings.
    """
    machines = [_one_of("machine", machine, MACHINES) for machine in dict.fromkeys(machines)]
    counts = {"source_train": source_train, "target_train": target_train, "test_per_kind": test_per_kind}
    for name, count in counts.items():
        _at_least(name, count, 0)
    _at_least("seconds", seconds, _SHORTEST_SECONDS)
    _at_least("strength", strength, 0.0)
    _claim(folder, {"seed": seed, **counts, "seconds": float(seconds), "strength": float(strength)})

    plans = [plan for machine in machines for plan in _plans(machine, **counts)]
    paths = [folder / plan.machine / plan.split / plan.file_name for plan in plans]
    for machine in machines:
        _write_fault_table(folder / machine / FAULT_TABLE, [p for p in plans if p.machine == machine], seed, strength)
    for plan, path in progress(list(zip(plans, paths, strict=True)), "simulate machines"):
        if not path.exists():
            samples = waveform(
                plan.machine,
                domain=plan.domain,
                label=plan.label,
                rng=plan.rng(seed),
                setting=plan.setting,
                fault=plan.fault,
                strength=plan.strength(seed, strength),
                seconds=seconds,
            )
            with atomic_write(path) as temporary:
                soundfile.write(temporary, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    return paths


def _claim(folder: Path, arguments: Mapping[str, float]) -> None:
    """Make ``folder`` one of simulated recordings with these arguments, or refuse."""
    made_with = ", ".join(f"{name}={value}" for name, value in {"version": _VERSION, **arguments}.items())
    text = f"The recordings in this folder are simulated, no real machine was recorded; made with {made_with}.\n"
    marker = folder / MARKER
    if marker.exists():
        if marker.read_text() != text:
            raise AsdError(
                f"{marker}: this folder was made with other arguments than {made_with}; it says: "
                f"{marker.read_text().strip()} Choose another folder, or delete this one."
            )
        return
    stranger = next((path for path in folder.rglob("*") if path.suffix.lower() == ".wav"), None)
    if stranger is not None:
        raise AsdError(
            f"{stranger}: {folder} holds recordings that are not simulated (it has no {MARKER}), and the two are never "
            "mixed. Choose another folder."
        )
    with atomic_write(marker) as temporary:
        temporary.write_text(text)


def _write_fault_table(path: Path, plans: Sequence[_Plan], seed: int, strength: float) -> None:
    with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file_name", "fault", "strength"])
        writer.writerows([p.file_name, p.fault, p.strength(seed, strength)] for p in plans if p.fault is not None)


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise AsdError(f"{name}={value!r} is unknown. Known: {', '.join(known)}.")
    return value


def _at_least(name: str, value: float, least: float) -> None:
    if not least <= value < float("inf"):
        raise AsdError(f"{name}={value!r}: it must be a number of at least {least}.")
