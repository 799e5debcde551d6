"""Recordings to compare detectors with: real machines, with real faults or pseudo-faults, and simulated ones.

The real ones are in a folder with ``real-mini`` (DCASE layout), ``real-sessions`` (with a manifest), ``real-fan`` (75
normal recordings of one fan) and ``dcase2023-sample`` (four recordings of each of seven machines). Long recordings are
cut into clips of 2 s, and the clips of one are a session. A machine may have several sets.
"""

import argparse
import csv
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asdcore.datasets.simulate import BUILT_IN_FAULTS, DOMAINS, MACHINES, waveform
from asdcore.evaluation.pseudo_faults import KINDS, pseudo_fault
from asdcore.recordings.audio import decode
from asdcore.settings import Settings
from asdcore.storage.files import digest_of

RATE = 16_000
CLIP_SECONDS = 2
STRENGTHS = (0.25, 0.5)
"""of pseudo-faults"""
SIMULATED_STRENGTHS = (0.5, 1.0)
REAL, SIMULATED = "real", "simulated"
Waveform = NDArray[np.float32]


@dataclass
class Recordings:
    """A set of recordings of one machine."""

    name: str
    machine: str
    """sets of one machine count once"""
    group: str = REAL
    training: list[Waveform] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)
    test: list[Waveform] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    """of each test recording: normal, or of the fault"""

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        return np.array([kind != "normal" for kind in self.kinds])

    def train(self, samples: list[Waveform], session: str, domain: str = "source") -> None:
        self.training += samples
        self.sessions += [session] * len(samples)
        self.domains += [domain] * len(samples)

    def add(self, samples: list[Waveform], kind: str = "normal") -> None:
        self.test += samples
        self.kinds += [kind] * len(samples)

    def add_pseudo_faults(self, samples: list[Waveform], strengths: tuple[float, ...] = STRENGTHS) -> None:
        for index, normal in enumerate(samples):
            for kind in KINDS:
                for strength in strengths:
                    rng = _rng(self.name, str(index), kind, str(strength))
                    self.add([pseudo_fault(normal, RATE, kind, strength, rng)], kind)


def parser_of(text: str | None, quick: str) -> argparse.ArgumentParser:
    """A parser with ``--data``, ``--quick`` and ``--json``. ``quick``: what is left out by it."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    sample = os.environ.get("ASD_SAMPLE_DATA")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", default=sample, help="real machines; default ASD_SAMPLE_DATA"
    )
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", action="store_true", help="the results as one JSON object")
    return parser


def real_sets(folder: Path | None) -> list[Recordings]:
    """All sets of real machines in the folder, those of a machine one after the other; none without a folder."""
    if folder is None:
        return []
    sets = [*_mini(folder / "real-mini"), *_sessions(folder / "real-sessions"), *_fan(folder / "real-fan" / "fan75")]
    sets += _sample(folder / "dcase2023-sample")
    return sorted(sets, key=lambda one: one.machine)


def simulated_sets(training: int = 30, normals: int = 24, faults: int = 4) -> list[Recordings]:
    """A ladder of faults on each of the simulated machines of `asdcore.datasets.simulate`.

    Args:
        training: normal recordings, a tenth of them of the target domain.
        normals: normal test recordings.
        faults: test recordings of each kind and strength.
    """
    sets = []
    for machine in MACHINES:
        own = Recordings(machine, machine, SIMULATED)
        make = _maker(machine)
        for domain, count in zip(DOMAINS, (training - training // 10, training // 10), strict=True):
            for index in range(count):
                own.train([make("train", domain, index, None, 0.0)], f"{domain} {index}", domain)
        for index in range(normals):
            own.add([make("test", DOMAINS[index % 2], index, None, 0.0)])
        for kind in BUILT_IN_FAULTS:
            for strength in SIMULATED_STRENGTHS:
                own.add([make("test", DOMAINS[index % 2], index, kind, strength) for index in range(faults)], kind)
        sets.append(own)
    return sets


def _maker(machine: str) -> Callable[[str, str, int, str | None, float], Waveform]:
    def make(split: str, domain: str, index: int, fault: str | None, strength: float) -> Waveform:
        rng = _rng(machine, split, domain, str(index), str(fault), str(strength))
        label = "anomaly" if fault else "normal"
        return waveform(machine, domain=domain, label=label, rng=rng, fault=fault, strength=strength)

    return make


def _mini(folder: Path) -> list[Recordings]:
    sets = []
    for name, machine in {"bldcA": "motorA", "bldcB": "motorB", "fan": "fan"}.items():
        own = Recordings(f"mini {name}", machine)
        for path in sorted((folder / name / "train").iterdir()):
            own.train([_read(path)], path.name, _domain(path))
        for path in sorted((folder / name / "test").iterdir()):
            own.add([_read(path)], "fault" if "anomaly" in path.name else "normal")
        sets.append(own)
    return sets


def _sessions(folder: Path) -> list[Recordings]:
    """Test recordings are sessions of their own. The motor without faults gets pseudo-faults."""
    sets: dict[str, Recordings] = {}
    with (folder / "manifest.csv").open() as file:
        for row in csv.DictReader(file):
            own = sets.setdefault(row["machine"], Recordings(f"sessions {row['machine']}", row["machine"]))
            clips = _cut(_read(folder / row["path"]))
            if row["split"] == "train":
                own.train(clips, row["session"])
            else:
                own.add(clips, "fault" if row["label"] == "anomaly" else "normal")
    for own in sets.values():
        if not own.anomalous.any():
            own.add_pseudo_faults(list(own.test), strengths=(0.5,))
    return list(sets.values())


def _fan(folder: Path) -> list[Recordings]:
    paths = sorted(folder.iterdir())
    order = np.random.default_rng(0).permutation(len(paths))
    own = Recordings("fan75", "fan")
    for index in order[:40]:
        own.train([_read(paths[index])], paths[index].name)
    rest = [_read(paths[index]) for index in order[40:]]
    own.add(rest)
    own.add_pseudo_faults(rest[:8])
    return [own]


def _sample(folder: Path) -> list[Recordings]:
    """Of each machine the last normal recording is the test; pseudo-faults are made from three of its clips."""
    sets = []
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        own = Recordings(f"dcase {place.name}", f"dcase {place.name}")
        *known, last = sorted(path for path in place.rglob("*.wav") if "anomaly" not in path.name)
        for path in known:
            own.train(_cut(_read(path)), path.name, _domain(path))
        clips = _cut(_read(last))
        own.add(clips)
        own.add_pseudo_faults(clips[:3])
        sets.append(own)
    return sets


def _read(path: Path) -> Waveform:
    return decode(path, Settings().recordings).samples


def _cut(samples: Waveform) -> list[Waveform]:
    n = CLIP_SECONDS * RATE
    return [samples[start : start + n] for start in range(0, len(samples) - n + 1, n)]


def _domain(path: Path) -> str:
    return "target" if re.search("_target_", path.name) else "source"


def _rng(*parts: str) -> np.random.Generator:
    return np.random.default_rng(int(digest_of("real machines", *parts), 16))
