"""The baselines' stage: spectra averaged over time, and the official autoencoders."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from prefect import task
from safetensors.torch import load_file

from asdcore.baselines.autoencoder import AutoencoderModel
from asdcore.baselines.fitting import fit_machines
from asdcore.features.statistics import time_statistics
from asdcore.features.store import Row, Store, drop_damaged, write_shard
from asdcore.progress import progress
from asdcore.recordings.catalog import training_recordings
from asdcore.settings import AutoencoderSettings
from asdcore.storage.files import digest_of
from asdcore.storage.home import Home
from tasks.stage import CACHED, Result, claim, code_version, run_cached


@task(name="average spectra", **CACHED)
def average_spectra(key: str, home: Home, store: Path, folder: Path, recordings: Sequence[str]) -> Result:
    """The statistics over time of each spectrogram, as one more shard."""
    spectrograms = Store(store)

    def rows() -> Iterator[tuple[str, Row]]:
        for recording in progress(recordings, "average spectra"):
            yield recording, dict(time_statistics(spectrograms.read(recording, "original")))

    shard = write_shard(folder, rows())
    return {"files": claim(home, shard) if shard else {}, "values": {}}


def spectra(home: Home, store: Path, recordings: pd.DataFrame) -> Path:
    """The store of the averaged spectra of all recordings."""
    folder = home.runs / "spectra" / digest_of(store.name, code_version("features/statistics.py"))
    home.fetch_folder(folder)
    drop_damaged(folder)
    missing = Store(folder).missing(recordings["recording"])
    if missing:
        key = digest_of(folder.name, *missing)
        run_cached(average_spectra, key=key, home=home, store=store, folder=folder, recordings=missing)
    return folder


@task(name="train autoencoders", **CACHED)
def train_autoencoders(
    key: str,
    home: Home,
    store: Path,
    training: dict[str, list[tuple[str, str]]],
    files: dict[str, Path],
    settings: AutoencoderSettings,
) -> Result:
    """Train the baseline of each machine on its (recording, domain) pairs, machines in parallel; one file each."""
    fit_machines(store, training, files, settings)
    return {"files": claim(home, *files.values()), "values": {}}


def autoencoders(home: Home, store: Path, recordings: pd.DataFrame, settings: AutoencoderSettings) -> dict[str, Path]:
    """The trained baselines: machine: safetensors file."""
    training: dict[str, list[tuple[str, str]]] = {}
    files: dict[str, Path] = {}
    code = code_version("baselines/autoencoder.py", "baselines/fitting.py")
    for machine, own in training_recordings(recordings).groupby("machine"):
        pairs = sorted(own[["recording", "domain"]].itertuples(index=False, name=None))
        name = digest_of(store.name, code, settings.digest(), *(" ".join(pair) for pair in pairs))
        training[str(machine)], files[str(machine)] = pairs, home.runs / "autoencoders" / f"{name}.safetensors"
    key = digest_of(*(path.stem for path in files.values()))
    run_cached(train_autoencoders, key=key, home=home, store=store, training=training, files=files, settings=settings)
    return files


def read_autoencoder(path: Path) -> AutoencoderModel:
    """The trained baseline that a file holds."""
    return AutoencoderModel.from_tensors(load_file(path))
