"""The encoder stage: train the encoder, then embed every recording with it."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pandas as pd
from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from asdcore.encoder.checkpoint import checkpoint_files
from asdcore.encoder.embedding import embeddings
from asdcore.encoder.launch import start_training
from asdcore.encoder.metrics import collapse
from asdcore.encoder.network import TrainedEncoder, choose_device
from asdcore.encoder.precision import precision_of
from asdcore.encoder.reporting import Progress
from asdcore.features.store import Row, Store, drop_damaged, originals_of, write_shard
from asdcore.progress import progress
from asdcore.recordings.catalog import training_recordings
from asdcore.settings import TrainingSettings
from asdcore.storage.files import digest_of, digest_of_file
from asdcore.storage.home import Home
from tasks.stage import CACHED, Result, claim, code_version, run_cached
from tasks.tracking import log_epoch, log_step, system_metrics
from tasks.warn import warn

CHECKPOINTS = "checkpoints"
"""Folder beside the encoder, while it trains."""


@task(name="train encoder", **CACHED)
def train_encoder(
    key: str,
    home: Home,
    store: Path,
    recordings: pd.DataFrame,
    settings: TrainingSettings,
    run: str,
    warm_start: Path | None = None,
) -> Result:
    """Train on these recordings of a store; go on from the checkpoint of a stopped or killed training with this key."""
    artifact = cast("UUID", create_progress_artifact(0.0, key="training", description=f"{settings.epochs} epochs"))
    folder = home.runs / key
    checkpoints = folder / CHECKPOINTS
    if checkpoint_files(checkpoints):
        warn(f"going on from the checkpoint of an earlier run, {checkpoint_files(checkpoints)[0]}")
    device = choose_device(settings.device)
    where = {"device": device.type, "precision": precision_of(settings, device), "processes": settings.processes}

    def on_epoch(figures: dict[str, float]) -> None:
        with _shown_later(f"epoch {figures['epoch']:.0f}"):
            log_epoch(home, run, figures)

    def on_progress(told: Progress) -> None:
        with _shown_later(f"step {told['step']:.0f}"):
            log_step(home, run, told)
            update_progress_artifact(artifact, 100 * told["step"] / told["steps"])

    with system_metrics(home, run, where):
        trained = start_training(
            Store(store),
            recordings,
            settings,
            checkpoints,
            on_epoch=on_epoch,
            on_progress=on_progress,
            on_warning=warn,
            warm_start=warm_start,
        )
    encoder = folder / "encoder.safetensors"
    trained.save(encoder)
    update_progress_artifact(artifact, 100.0)
    return {"files": claim(home, encoder), "values": {"recordings": len(recordings)}}


@contextmanager
def _shown_later(what: str) -> Iterator[None]:
    """A store that does not answer must not end hours of training."""
    try:
        yield
    except Exception as error:
        warn(f"{what} could not be shown while it ran, it will be afterwards: {error}")


@task(name="embed recordings", **CACHED)
def embed_recordings(
    key: str, home: Home, store: Path, encoder: Path, recordings: Sequence[str], device: str
) -> Result:
    """h and z of each recording, as one more shard beside the encoder."""
    spectrograms = Store(store)
    trained = TrainedEncoder.load(encoder)

    def rows() -> Iterator[tuple[str, Row]]:
        originals = (spectrograms.read(recording, "original") for recording in recordings)
        vectors = embeddings(trained, originals, choose_device(device))
        for recording, (h, z) in zip(recordings, progress(vectors, "embedding", total=len(recordings)), strict=True):
            yield recording, {"h": h, "z": z}

    shard = write_shard(_embeddings(store, encoder), rows())
    return {"files": claim(home, shard) if shard else {}, "values": {}}


def training_key(
    store: Path, recordings: pd.DataFrame, settings: TrainingSettings, warm_start: Path | None = None
) -> str:
    """What an encoder is made from: normal training recordings, their features, settings, code, the warm start."""
    code = code_version("encoder", "features/batches.py", "features/normalisation.py")
    rows = training_recordings(recordings)[["recording", "machine", "attributes"]].itertuples(index=False)
    first = [digest_of_file(warm_start)] if warm_start else []
    return digest_of(store.name, settings.digest(), code, *sorted(" ".join(row) for row in rows), *first)


def trained_encoder(
    home: Home,
    store: Path,
    recordings: pd.DataFrame,
    settings: TrainingSettings,
    run: str,
    warm_start: Path | None = None,
) -> Path:
    """The encoder trained on the normal training recordings; ``warm_start``: the encoder that it begins with."""
    key = training_key(store, recordings, settings, warm_start)
    training = training_recordings(recordings)[["recording", "machine", "attributes"]]
    work: dict[str, Any] = {
        "store": store,
        "recordings": training,
        "settings": settings,
        "run": run,
        "warm_start": warm_start,
    }
    run_cached(train_encoder, key=key, home=home, **work)
    encoder = home.runs / key / "encoder.safetensors"
    # Only now: a kill before the result is stored would otherwise have to train from the start.
    shutil.rmtree(encoder.with_name(CHECKPOINTS), ignore_errors=True)
    for sentence in collapse(TrainedEncoder.load(encoder).history):
        warn(sentence)
    return encoder


def encoder_and_embeddings(
    home: Home,
    store: Path,
    recordings: pd.DataFrame,
    settings: TrainingSettings,
    run: str,
    warm_start: Path | None = None,
) -> tuple[Path, Path]:
    """The encoder trained on the normal training recordings, and the store of the embeddings of all recordings."""
    encoder = trained_encoder(home, store, recordings, settings, run, warm_start)
    return encoder, embeddings_of(home, store, encoder, recordings, settings.device)


def embeddings_of(home: Home, store: Path, encoder: Path, recordings: pd.DataFrame, device: str) -> Path:
    """The store of the embeddings of all recordings by a trained encoder, beside its file."""
    folder = _embeddings(store, encoder)
    home.fetch_folder(folder)
    drop_damaged(folder)
    missing = Store(folder).missing(recordings["recording"])
    if missing:
        run_cached(
            embed_recordings,
            key=digest_of(encoder.parent.name, folder.name, *missing),
            home=home,
            store=store,
            encoder=encoder,
            recordings=missing,
            device=device,
        )
    return folder


def _embeddings(store: Path, encoder: Path) -> Path:
    """Their folder: an encoder may outlive the spectrograms that it has seen, as it does in an enrolment."""
    return encoder.parent / f"embeddings-{originals_of(store).name}"
