"""Simulated machines in the layout of DCASE 2023 Task 2, for a demo and for tests: no download, every fault is known.

What a machine sounds like is in `asdcore.datasets.machines`. A recording adds what differs between two recordings of
one machine: a wandering speed, phases, level, background noise. An anomaly is a normal recording with one fault in it,
built in or of your own, see `asdcore.datasets.faults`.
If asked for, recordings are made in sessions, see `asdcore.datasets.sessions`.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from asdcore.datasets.faults import faulty_sound, known_faults
from asdcore.datasets.machines import (
    BUILT_IN_FAULTS,
    DOMAINS,
    MACHINES,
    SAMPLE_RATE,
    SPECIFICATIONS,
    background,
    total,
)
from asdcore.datasets.sessions import Session
from asdcore.errors import AsdError
from asdcore.progress import progress
from asdcore.recordings.found import SIMULATED as MARKER
from asdcore.recordings.manifest import MANIFEST
from asdcore.storage.files import atomic_write, digest_of

FAULT_TABLE = "simulated.csv"
_VERSION = 1  # raise it when a change here or in `machines` changes the samples: a folder then never mixes two versions
_SHORTEST_SECONDS = 0.5
_LEVEL = 0.05  # of a machine's sound, as a fraction of full scale: 20 dB of headroom for clicks and strong faults


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
    session: Session | None = None,
) -> NDArray[np.float32]:
    """One simulated recording, ``(n_samples,)`` float32 in [-1, 1] at 16 kHz.

    Args:
        machine: one of `asdcore.datasets.machines.MACHINES`.
        domain: source or target: chooses the operating condition and the background noise.
        label: normal or anomaly.
        rng: draws what differs between two recordings.
        setting: the operating condition (speed, load or rate, by machine); None: drawn from the domain's values.
        fault: of an anomaly, one of `asdcore.registry.FAULTS`; None: drawn from `BUILT_IN_FAULTS`.
        strength: of the fault. 0: the normal recording that the same state of ``rng`` gives; 1: neither trivial nor
            hopeless to detect.
        seconds: length.
        session: recordings of one session share microphone, gain, temperature and background level; None: nothing.

    Raises:
        AsdError: an unknown machine, domain, label or fault, an impossible number, or a fault in a normal recording.

    >>> waveform("simFan", domain="source", label="normal", rng=np.random.default_rng(0)).shape
    (64000,)
    """
    spec = SPECIFICATIONS[_one_of("machine", machine, MACHINES)]
    _one_of("domain", domain, DOMAINS)
    _one_of("label", label, ("normal", "anomaly"))
    if label == "normal" and fault is not None:
        raise AsdError(f"fault={fault!r} with label='normal': a normal recording has no fault. Use label='anomaly'.")
    _at_least("strength", strength, 0.0)
    _at_least("seconds", seconds, _SHORTEST_SECONDS)
    if setting is not None:
        _at_least("setting", setting, 1)

    n = round(seconds * SAMPLE_RATE)
    drawn_setting, drawn_fault = rng.choice(spec.settings[domain]), rng.choice(BUILT_IN_FAULTS)
    condition = int(drawn_setting) if setting is None else setting
    parts = spec.parts(n, condition if session is None else condition * session.speed, rng)
    loudness, hall = 10 ** (rng.normal(0.0, 1.0) / 20), background(n, domain, rng)
    if session is not None:
        parts, hall = session.balanced(parts), session.louder_background(hall)
    sound = total(parts) if label == "normal" else faulty_sound(parts, spec, fault or str(drawn_fault), strength, rng)
    heard = _LEVEL * (loudness * sound + hall)
    if session is not None:
        heard = session.recorded(heard)
    # A recorder clips what is too loud; that takes a strength far above 1.
    return np.clip(heard, -1.0, 1.0).astype(np.float32)


@dataclass(frozen=True)
class _Plan:
    """What decides one recording. No count is in it, so a larger set holds the smaller one's recordings."""

    machine: str
    split: str
    domain: str
    label: str
    index: int
    faults: tuple[str, ...] = BUILT_IN_FAULTS
    """of which the anomalies have one after the other"""

    @property
    def setting(self) -> int:
        settings = SPECIFICATIONS[self.machine].settings[self.domain]
        return settings[self.index % len(settings)]

    @property
    def fault(self) -> str | None:
        return self.faults[self.index % len(self.faults)] if self.label == "anomaly" else None

    @property
    def file_name(self) -> str:
        attributes = f"{SPECIFICATIONS[self.machine].attribute}_{self.setting}"
        return f"section_00_{self.domain}_{self.split}_{self.label}_{self.index:04d}_{attributes}.wav"

    @property
    def path(self) -> Path:
        """below the folder"""
        return Path(self.machine, self.split, self.file_name)

    def rng(self, seed: int) -> np.random.Generator:
        parts = (str(seed), self.machine, self.split, self.domain, self.label, str(self.index))
        return np.random.default_rng(int(digest_of(*parts), 16))

    def session(self, sessions: int) -> str:
        """Which of so many: each has all settings of a domain. Those of the test are others than those of training."""
        return f"{self.split}_{self.index // len(SPECIFICATIONS[self.machine].settings[self.domain]) % sessions:02d}"

    def strength(self, seed: int, strength: float) -> float:
        """Some faults have only begun and some are far gone: half to one and a half times ``strength``."""
        return round(strength * float(self.rng(seed).spawn(1)[0].uniform(0.5, 1.5)), 4)


def _plans(machine: str, counts: Mapping[str, int], faults: tuple[str, ...] = BUILT_IN_FAULTS) -> Iterator[_Plan]:
    for domain, count in zip(DOMAINS, (counts["source_train"], counts["target_train"]), strict=True):
        yield from (_Plan(machine, "train", domain, "normal", index) for index in range(count))
    for domain in DOMAINS:
        for label in ("normal", "anomaly"):
            yield from (
                _Plan(machine, "test", domain, label, index, faults) for index in range(counts["test_per_kind"])
            )


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
    sessions: int | None = None,
    faults: Sequence[str] = BUILT_IN_FAULTS,
) -> list[Path]:
    """Write simulated machines below a folder, 16 kHz mono PCM_16.

    ``<folder>/<machine>/{train,test}/section_00_{domain}_{split}_{label}_NNNN_<attributes>.wav`` are the recordings.
    Their names hide the faults, as real ones do; ``<folder>/<machine>/simulated.csv`` (file_name, fault, strength) has
    one row per anomaly. ``<folder>/SIMULATED.txt`` says that nothing here was recorded, and with which arguments it was
    made.

    A recording depends on ``seed``, ``seconds``, ``strength``, ``sessions``, ``faults`` and its own name, never on the
    other recordings. Files that exist are kept, so an interrupted call resumes, and a later call can add machines. A
    change in the code of a fault of your own goes unnoticed: use another folder.

    Args:
        folder: made if need be.
        machines: some of `asdcore.datasets.machines.MACHINES`.
        source_train: normal training recordings of each machine in the source domain.
        target_train: the same in the target domain.
        test_per_kind: test recordings of each machine, domain and label.
        seconds: length of a recording.
        strength: of the faults, see `waveform`; each has half to one and a half times as much.
        seed: the same seed gives the same recordings.
        sessions: the training recordings of a machine are made in so many sessions, and the test recordings in as many
            others, or in fewer where there are not enough recordings for all; see `asdcore.datasets.sessions`. Then
            ``<folder>/manifest.csv`` lists all recordings with their session, and is read instead of the names.
        faults: names of `asdcore.registry.FAULTS`, which the anomalies of a domain have in turn.

    Returns:
        The paths of the recordings, machine by machine.

    Raises:
        AsdError: an unknown machine or fault, an impossible number, or a folder that was made with other arguments or
            has other recordings.
    """
    machines = [_one_of("machine", machine, MACHINES) for machine in dict.fromkeys(machines)]
    counts = {"source_train": source_train, "target_train": target_train, "test_per_kind": test_per_kind}
    for name, count in counts.items():
        _at_least(name, count, 0)
    _at_least("seconds", seconds, _SHORTEST_SECONDS)
    _at_least("strength", strength, 0.0)
    arguments: dict[str, object] = {"seed": seed, **counts, "seconds": float(seconds), "strength": float(strength)}
    faults = known_faults(faults)
    if sessions is not None:
        _check_sessions(sessions, machines, source_train)
        arguments["sessions"] = sessions
    if faults != BUILT_IN_FAULTS:
        arguments["faults"] = "+".join(faults)
    _claim(folder, arguments)

    plans = [plan for machine in machines for plan in _plans(machine, counts, faults)]
    paths = [folder / plan.path for plan in plans]
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
                session=None if sessions is None else _session(plan, sessions, seed),
            )
            with atomic_write(path) as temporary:
                soundfile.write(temporary, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    if sessions is not None:
        _write_manifest(folder, counts, sessions)
    return paths


def _check_sessions(sessions: int, machines: Iterable[str], source_train: int) -> None:
    _at_least("sessions", sessions, 1)
    needed = sessions * max(len(SPECIFICATIONS[machine].settings["source"]) for machine in machines)
    if source_train < needed:
        raise AsdError(
            f"sessions={sessions} needs source_train={needed} or more, to have a recording of each operating condition "
            f"in each session; it is {source_train}. Ask for fewer sessions, or for more recordings."
        )


def _session(plan: _Plan, sessions: int, seed: int) -> Session:
    parts = (str(seed), plan.machine, "session", plan.session(sessions))
    return Session.draw(np.random.default_rng(int(digest_of(*parts), 16)))


def _claim(folder: Path, arguments: Mapping[str, object]) -> None:
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


def fault_of(path: Path) -> str:
    """The fault of a simulated recording, by the table of its machine; empty: it has none, or none is known."""
    table = path.parent.parent / FAULT_TABLE
    return _faults(table, table.stat().st_mtime_ns).get(path.name, "") if table.is_file() else ""


@cache
def _faults(table: Path, changed: int) -> dict[str, str]:
    with table.open(newline="", encoding="utf-8") as file:
        return {row["file_name"]: row["fault"] for row in csv.DictReader(file)}


def _write_fault_table(path: Path, plans: Sequence[_Plan], seed: int, strength: float) -> None:
    with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file_name", "fault", "strength"])
        writer.writerows([p.file_name, p.fault, p.strength(seed, strength)] for p in plans if p.fault is not None)


def _write_manifest(folder: Path, counts: Mapping[str, int], sessions: int) -> None:
    """Of all machines that are there, also those of an earlier call."""
    machines = [machine for machine in MACHINES if (folder / machine).is_dir()]
    attributes = [SPECIFICATIONS[machine].attribute for machine in machines]
    header = ["path", "machine", "section", "split", "domain", "label", "session", *attributes]
    with atomic_write(folder / MANIFEST) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, header, restval="", lineterminator="\n")
        writer.writeheader()
        for machine in machines:
            for plan in _plans(machine, counts):
                described = (plan.path.as_posix(), machine, "00", plan.split, plan.domain, plan.label)
                row = dict(zip(header, (*described, plan.session(sessions)), strict=False))
                writer.writerow(row | {SPECIFICATIONS[machine].attribute: str(plan.setting)})


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise AsdError(f"{name}={value!r} is unknown. Known: {', '.join(known)}.")
    return value


def _at_least(name: str, value: float, least: float) -> None:
    if not least <= value < float("inf"):
        raise AsdError(f"{name}={value!r}: it must be a number of at least {least}.")
