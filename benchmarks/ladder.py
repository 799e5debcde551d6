"""The recordings that representations are compared on: a ladder of faults on simulated machines, and real machines.

A fault of each kind at several strengths, from one that nobody could hear to one that nobody could miss. Real machines
are given in the DCASE layout; beside their own anomalies they get pseudo-faults of their normal test recordings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdcore.datasets.simulate import DOMAINS, MACHINES, simulate, waveform
from asdcore.evaluation.pseudo_faults import KINDS, pseudo_fault
from asdcore.features.compute import compute_features, missing_parts
from asdcore.features.spectrogram import Spectrogram, as_stored, spectrogram
from asdcore.features.store import EXTENDS, Store
from asdcore.progress import progress
from asdcore.recordings.audio import decode
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.names import find_recordings
from asdcore.recordings.training import training_recordings
from asdcore.registry import FAULTS
from asdcore.settings import MelSettings, Settings
from asdcore.storage.files import digest_of

RATE = 16_000
STRENGTHS = (0.5, 1.0, 2.0)
"""of the simulator's faults"""
PSEUDO_STRENGTHS = (0.25, 0.5, 1.0)
MOVED = "moved line"
"""of a simulated machine: the pseudo-fault that moves its strongest line; all other kinds are the simulator's"""
REAL_FAULT = "real fault"
SIMULATED, REAL = "simulated", "real"


@dataclass(frozen=True)
class Ladder:
    """Machines, what they are trained on and what they are tested with."""

    store: Store
    """spectrograms and variants of the training recordings"""
    training: pd.DataFrame
    """of them: recording, path, machine, domain, attributes"""
    test: pd.DataFrame
    """group (simulated, real), machine, domain, kind (normal, or of the fault), strength: one row per test recording"""
    spectrograms: list[Spectrogram]
    """of the test recordings, (n_mels, n_frames) each, dB"""
    short_window: list[Spectrogram]
    """the same with the window of the official baseline"""

    @property
    def folds(self) -> dict[str, int]:
        """machine: 0 or 1, every other one: an encoder of one fold has never heard the machines of the other."""
        return {machine: index % 2 for index, machine in enumerate(sorted(set(self.training["machine"])))}


def make_ladder(folder: Path, real: Path | None, settings: Settings, normals: int, faults: int) -> Ladder:
    """Simulate, read, and compute the features.

    Args:
        folder: where everything is kept; a second call resumes there.
        real: recordings of real machines in the DCASE layout; None: simulated machines alone.
        settings: of recordings, spectrograms and variants.
        normals: test recordings of each simulated machine and domain.
        faults: of each simulated machine, kind and strength, half of them of each domain; of each real machine: normal
            test recordings that pseudo-faults are made from.
    """
    simulate(folder / "recordings", test_per_kind=0)
    listed = list(find_recordings(folder / "recordings")) + (list(find_recordings(real)) if real else [])
    catalog = Catalog(folder / "catalog")
    catalog.ingest(listed, settings.recordings)
    rows = training_recordings(catalog.recordings)
    described, spectrograms, short = [], [], []
    official = settings.autoencoder.mel
    test_recordings = [*_simulated(normals, faults), *(_real(catalog.recordings, settings, faults) if real else [])]
    for row, samples in progress(test_recordings, "test recordings"):
        described.append(row)
        spectrograms.append(as_stored(spectrogram(samples, RATE, settings.mel)))
        short.append(as_stored(spectrogram(samples, RATE, official)))
    training = rows[["recording", "path", "machine", "domain", "attributes"]].reset_index(drop=True)
    columns = ["group", "machine", "domain", "kind", "strength"]
    return Ladder(
        training_store(folder, training, settings),
        training,
        pd.DataFrame(described, columns=columns),
        spectrograms,
        short,
    )


def training_store(folder: Path, training: pd.DataFrame, settings: Settings) -> Store:
    """Spectrograms and variants of the training recordings; existing ones are kept. Each augmentation has a store."""
    originals = folder / "features"
    variants = originals / f"{EXTENDS}{settings.augmentation.digest()}"
    path_of = dict(zip(training["recording"], training["path"], strict=True))
    for (first, second), digests in missing_parts(originals, variants, list(path_of)).items():
        compute_features(first, second, [(digest, path_of[digest]) for digest in digests], settings)
    return Store(variants)


def spectrograms_of(paths: list[str], settings: Settings, mel: MelSettings) -> list[Spectrogram]:
    """Of files, with another window than the store's."""
    waveforms = (decode(Path(path), settings.recordings).samples for path in paths)
    return [as_stored(spectrogram(samples, RATE, mel)) for samples in waveforms]


Test = tuple[tuple[str, str, str, str, float], NDArray[np.float32]]


def _simulated(normals: int, faults: int) -> Iterator[Test]:
    for machine in MACHINES:
        for domain in DOMAINS:
            for index in range(normals):
                samples = waveform(machine, domain=domain, label="normal", rng=_rng(machine, domain, str(index)))
                yield (SIMULATED, machine, domain, "normal", 0.0), samples
        for kind in (*FAULTS.names(), MOVED):
            for strength in PSEUDO_STRENGTHS if kind == MOVED else STRENGTHS:
                for index in range(faults):
                    domain = DOMAINS[index % 2]
                    rng = _rng(machine, domain, kind, str(strength), str(index))
                    if kind == MOVED:
                        samples = waveform(machine, domain=domain, label="normal", rng=rng)
                        samples = pseudo_fault(samples, RATE, "line", strength, rng)
                    else:
                        what = {"fault": kind, "strength": strength}
                        samples = waveform(machine, domain=domain, label="anomaly", rng=rng, **what)  # type: ignore[arg-type]
                    yield (SIMULATED, machine, domain, kind, strength), samples


def _real(recordings: pd.DataFrame, settings: Settings, faults: int) -> Iterator[Test]:
    test = recordings[(recordings["split"] == "test") & ~recordings["machine"].isin(MACHINES)]
    for machine, of_machine in test.sort_values("recording").groupby("machine"):
        normal = of_machine[of_machine["label"] == "normal"]
        for row in of_machine.to_dict("records"):
            kind = "normal" if row["label"] == "normal" else REAL_FAULT
            yield (REAL, str(machine), row["domain"], kind, 0.0), _samples(row["path"], settings)
        for row in normal.head(faults).to_dict("records"):
            for kind in KINDS:
                for strength in PSEUDO_STRENGTHS:
                    rng = _rng(row["recording"], kind, str(strength))
                    samples = pseudo_fault(_samples(row["path"], settings), RATE, kind, strength, rng)
                    yield (REAL, str(machine), row["domain"], f"pseudo {kind}", strength), samples


def _samples(path: str, settings: Settings) -> NDArray[np.float32]:
    return decode(Path(path), settings.recordings).samples


def _rng(*parts: str) -> np.random.Generator:
    return np.random.default_rng(int(digest_of("ladder", *parts), 16))
