"""The encoder stage: train it, then embed every recording with it."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, cast
from uuid import UUID

import pandas as pd
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from asdcore.baselines.adapter_training import train_adapters as fine_tune
from asdcore.baselines.discrimination import CLASS, read_waveforms
from asdcore.encoder.base import WEIGHTS
from asdcore.encoder.checkpoint import checkpoint_files
from asdcore.encoder.embedding import embeddings
from asdcore.encoder.frozen import FrozenEncoder, build_frozen, checked, load_encoder, sound_of, training_history
from asdcore.encoder.launch import start_training
from asdcore.encoder.metrics import collapse
from asdcore.encoder.network import TrainedEncoder, choose_device
from asdcore.encoder.precision import precision_of
from asdcore.encoder.pretrained.base import PretrainedEncoder
from asdcore.encoder.reporting import Progress
from asdcore.errors import AsdError
from asdcore.features.store import Row, Store
from asdcore.progress import progress
from asdcore.recordings.audio import BadRecording
from asdcore.recordings.training import training_recordings
from asdcore.registry import ENCODERS, LOSSES
from asdcore.settings import BASE, TWO_BRANCH, RecordingSettings, Settings, TrainingSettings
from asdcore.storage.files import atomic_write, digest_of, digest_of_file
from asdcore.storage.home import Home, without_userinfo
from tasks.code import code_of_class, require_code
from tasks.features import originals_artifact
from tasks.stage import Artifact, scratch_folder, stage
from tasks.store import store_stage
from tasks.tracking import log_epoch, log_step, system_metrics
from tasks.warn import warn

_LOADING = Lock()
"""Published models are large: where a cluster trains for many seeds at once, only one of them is in memory here."""


@stage("runs/encoders/{key}.safetensors", uncounted=("run",))
def train_encoder(
    out: Path,
    spectrograms: Artifact,
    recordings: pd.DataFrame,
    settings: TrainingSettings,
    added: Mapping[str, str],
    run: str,
    warm_start: Artifact | None = None,
) -> None:
    """Train on these recordings of a store; resume from the checkpoint of a stopped or killed training with this key.

    ``recordings``: columns ``recording, machine, attributes``. ``added``: the code of an encoder or a loss of another
    package, see `_added_by_packages`. ``run``: the MLflow run to which progress is logged.
    """
    for name, registry in _registries(settings).items():
        if name in added:
            require_code(registry.get(name), added[name])
    home = Home.current()
    checkpoints = scratch_folder()
    epochs = f"{settings.epochs} epochs"
    artifact = cast("UUID", create_progress_artifact(0.0, key="training", description=epochs))
    if checkpoint_files(checkpoints):
        warn(f"resuming from the checkpoint of an earlier run, {checkpoint_files(checkpoints)[0]}")
    device = choose_device(settings.device)
    hardware = {"device": device.type, "precision": precision_of(settings, device), "processes": settings.processes}

    def on_epoch(metrics: dict[str, float]) -> None:
        with _shown_later(f"epoch {metrics['epoch']:.0f}"):
            log_epoch(home, run, metrics)

    def on_progress(reported: Progress) -> None:
        with _shown_later(f"step {reported['step']:.0f}"):
            log_step(home, run, reported)
            update_progress_artifact(artifact, 100 * reported["step"] / reported["steps"])

    with system_metrics(home, run, hardware):
        trained = start_training(
            Store(spectrograms.path),
            recordings,
            settings,
            checkpoints,
            on_epoch=on_epoch,
            on_progress=on_progress,
            on_warning=warn,
            warm_start=warm_start.path if warm_start else None,
        )
    trained.save(out)
    update_progress_artifact(artifact, 100.0)


@stage("runs/encoders/{key}.safetensors", uncounted=("paths", "run"))
def train_adapters(
    out: Path,
    base: Artifact,
    recordings: pd.DataFrame,
    settings: TrainingSettings,
    decoding: RecordingSettings,
    paths: Mapping[str, str],
    run: str,
) -> None:
    """Train adapters of a frozen encoder on these clips; resume after the last epoch of a training that was stopped.

    ``base``: file of the encoder; ``recordings``: columns ``recording`` and those of a class; ``paths``: clip to the
    file of its recording; ``run``: the MLflow run to which progress is logged.
    """
    encoder = load_encoder(base.path)
    if not isinstance(encoder, PretrainedEncoder):
        raise AsdError(f"the encoder {settings.encoder} cannot be fine-tuned by adapters")
    home, checkpoints = Home.current(), scratch_folder()
    artifact = cast("UUID", create_progress_artifact(0.0, key="training", description=f"{settings.epochs} epochs"))
    if checkpoint_files(checkpoints):
        warn(f"resuming from the checkpoint of an earlier run, {checkpoint_files(checkpoints)[0]}")

    def on_epoch(metrics: dict[str, float]) -> None:
        with _shown_later(f"epoch {metrics['epoch']:.0f}"):
            log_epoch(home, run, metrics)
            update_progress_artifact(artifact, 100 * metrics["epoch"] / settings.epochs)

    with system_metrics(home, run, {"device": choose_device(settings.device).type}):
        files = [Path(paths[clip]) for clip in recordings["recording"]]
        data = read_waveforms(recordings, files, decoding)
        fingerprint = digest_of(decoding.digest(), *recordings["recording"])
        encoder.adapt(fine_tune(encoder, data, settings, checkpoints, fingerprint, on_epoch, warn))
    encoder.save(out)


def kept_encoder(source: Path, folder: Path) -> Artifact:
    """A copy of an encoder in ``folder``, named after its content."""
    copy = folder / f"{digest_of_file(source)[:16]}.safetensors"
    if not copy.exists():
        with atomic_write(copy) as temporary:
            shutil.copyfile(source, temporary)
    return encoder_artifact(copy)


def encoder_artifact(file: Path) -> Artifact:
    """The artifact of an encoder that is not the output of a stage."""
    return Artifact(file, digest_of_file(file))


@contextmanager
def _shown_later(what: str) -> Iterator[None]:
    """Warn instead of failing: an MLflow store that does not answer must not end hours of training."""
    try:
        yield
    except Exception as error:
        why = without_userinfo(error)
        warn(f"{what} could not be logged during the training and will be logged afterwards: {why}")


def trained_encoder(
    spectrograms: Artifact,
    recordings: pd.DataFrame,
    training: TrainingSettings,
    settings: Settings,
    base: Artifact | None,
    run: str,
    warm_start: Artifact | None = None,
) -> Artifact:
    """The encoder, trained on the normal training recordings as far as anything of it is trained.

    Problems, such as a collapse, are logged as warnings.

    Args:
        spectrograms: of the recordings.
        recordings: one row per clip.
        training: the settings of this encoder, which may not be those of ``settings``.
        settings: of the run.
        base: see `untrained_encoder`.
        run: of MLflow.
        warm_start: the encoder whose weights the training starts from.
    """
    if base is not None and not training.adapter_rank:
        return base
    if base is not None:
        encoder = train_adapters(**_to_adapt_on(recordings, training, settings, base, run))
    else:
        rows = _to_train_on(recordings)
        encoder = train_encoder(spectrograms, rows, training, _added_by_packages(training), run, warm_start)
    for sentence in collapse(training_history(encoder.path)):
        warn(sentence)
    return encoder


def untrained_encoder(settings: TrainingSettings) -> Artifact | None:
    """The file of an encoder whose own weights are not trained; that of a frozen one says where they are. None: they
    are trained.
    """
    if settings.trains:
        return None
    folder = Home.current().runs / "encoders"
    if settings.encoder == BASE:
        return kept_encoder(WEIGHTS, folder)
    with _LOADING, TemporaryDirectory() as temporary:
        file = Path(temporary) / "encoder.safetensors"
        build_frozen(settings.encoder, settings.source).save(file)
        return kept_encoder(file, folder)


def training_key(
    spectrograms: Artifact,
    recordings: pd.DataFrame,
    training: TrainingSettings,
    settings: Settings,
    base: Artifact | None,
    warm_start: Artifact | None = None,
) -> str:
    """The key of a training, known before it runs; with an encoder that is not trained, that of its embeddings.

    The arguments are those of `trained_encoder`.
    """
    if base is None:
        rows = _to_train_on(recordings)
        return train_encoder.key(
            train_encoder.bound(spectrograms, rows, training, _added_by_packages(training), "", warm_start)
        )
    if training.adapter_rank:
        key = train_adapters.key(train_adapters.bound(**_to_adapt_on(recordings, training, settings, base, "")))
        return digest_of(key, spectrograms.digest)
    return digest_of(base.digest, spectrograms.digest)


def encoder_note(settings: TrainingSettings) -> str:
    """Whether the encoder of a report was trained, as a sentence."""
    if settings.trains or (settings.encoder in TWO_BRANCH and settings.source is None):
        return f"The encoder, {settings.encoder}, was trained on the normal training recordings of these machines."
    if settings.encoder == BASE:
        return "The encoder is the base encoder of the package: it was not trained on these recordings."
    source = f" from {settings.source}" if settings.source else ""
    if settings.adapter_rank:
        return (
            f"The encoder, {settings.encoder}{source}, is frozen; adapters of rank {settings.adapter_rank} were "
            "trained for it on the normal training recordings of these machines."
        )
    return f"The encoder, {settings.encoder}{source}, is frozen: it was not trained on these recordings."


def _added_by_packages(settings: TrainingSettings) -> dict[str, str]:
    """The code of the encoder and the loss by name, if another package adds them; this project's is followed."""
    return {
        name: code_of_class(registry.get(name))
        for name, registry in _registries(settings).items()
        if name not in registry.built_in
    }


def _registries(settings: TrainingSettings) -> dict[str, Any]:
    """The names in the settings that packages may add, and where they are looked up."""
    return {settings.encoder: ENCODERS, settings.loss: LOSSES}


def _to_train_on(recordings: pd.DataFrame) -> pd.DataFrame:
    return training_recordings(recordings)[["recording", "machine", "attributes", "session"]]


def _to_adapt_on(
    recordings: pd.DataFrame, training: TrainingSettings, settings: Settings, base: Artifact, run: str
) -> dict[str, Any]:
    """The arguments of `train_adapters`."""
    rows = training_recordings(recordings).sort_values("recording", ignore_index=True)
    return {
        "base": base,
        "recordings": rows[["recording", *CLASS]],
        "settings": training,
        "decoding": settings.recordings,
        "paths": dict(zip(rows["recording"], rows["path"], strict=True)),
        "run": run,
    }


@store_stage("runs/embeddings/{key}", uncounted=("device",))
def embed_recordings(
    recordings: Sequence[str], originals: Artifact, encoder: Artifact, device: str
) -> Iterator[tuple[str, Row]]:
    """h and z of each recording."""
    store = Store(originals.path)
    spectrograms = (store.read(recording, "original") for recording in recordings)
    loaded = TrainedEncoder.load(encoder.path)
    vectors = embeddings(loaded, spectrograms, choose_device(device))
    for recording, (h, z) in zip(recordings, progress(vectors, "embedding", total=len(recordings)), strict=True):
        yield recording, {"h": h, "z": z}


@store_stage("runs/embeddings/{key}", uncounted=("paths", "device"))
def embed_waveforms(
    recordings: Sequence[str],
    encoder: Artifact,
    added: Mapping[str, str],
    settings: RecordingSettings,
    paths: Mapping[str, str],
    device: str,
) -> Iterator[tuple[str, Row]]:
    """The embedding of each recording by a frozen encoder, as h and z; ``paths``: recording: file."""
    frozen = load_encoder(encoder.path)
    if not isinstance(frozen, FrozenEncoder):
        raise AsdError(f"{encoder.path}: its encoder embeds spectrograms")
    if frozen.architecture in added:
        require_code(type(frozen), added[frozen.architecture])
    frozen.to(choose_device(device))
    for recording in progress(recordings, "embedding"):
        try:
            vector = checked(frozen, sound_of(recording, Path(paths[recording]), settings))
        except BadRecording as bad:
            raise AsdError(f"{paths[recording]}: {bad}") from bad
        yield recording, {"h": vector, "z": vector}


def embeddings_of(
    spectrograms: Artifact, encoder: Artifact, recordings: pd.DataFrame, training: TrainingSettings, settings: Settings
) -> Artifact:
    """The store of the embeddings of all recordings by a trained or frozen encoder.

    ``training``: the settings of this encoder, which may not be those of ``settings``.
    """
    names = recordings["recording"].tolist()
    if training.trains or training.encoder == BASE:
        return embed_recordings(names, originals_artifact(spectrograms), encoder, training.device)
    paths = dict(zip(names, recordings["path"], strict=True))
    added = _added_by_packages(training)
    return embed_waveforms(names, encoder, added, settings.recordings, paths, training.device)
