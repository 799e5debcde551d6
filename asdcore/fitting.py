"""From recordings to a detector in one call, for a notebook: `asd retrain` without home, cache and registry."""

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdcore.baselines.adapter_training import train_adapters
from asdcore.baselines.discrimination import read_waveforms
from asdcore.detector import Detector
from asdcore.encoder.base import load_base
from asdcore.encoder.embedding import embedding
from asdcore.encoder.frozen import AnyEncoder, build_frozen, sound_of
from asdcore.encoder.launch import start_training
from asdcore.encoder.metrics import collapse
from asdcore.encoder.network import TrainedEncoder, build_encoder, choose_device
from asdcore.encoder.pretrained.base import PretrainedEncoder
from asdcore.errors import AsdError
from asdcore.explanation.profile import Profile
from asdcore.features.compute import compute_features, features_digest, missing_parts
from asdcore.features.normalisation import Normalisation
from asdcore.features.spectrogram import Spectrogram
from asdcore.features.store import EXTENDS, Store
from asdcore.monitoring.reliability import reliability_report
from asdcore.normality.base import NormalityModel
from asdcore.normality.machine import MachineModel
from asdcore.normality.scorers import Embedding, Scorer, build_scorers, features_of
from asdcore.progress import progress, say
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.clips import clip_lengths, clip_named, cut, recording_count
from asdcore.recordings.fetch import fetched
from asdcore.recordings.formats import Formats
from asdcore.recordings.found import Found
from asdcore.recordings.label_words import answers_of
from asdcore.recordings.names import find_recordings
from asdcore.recordings.paths import nfc, on_disk, printable
from asdcore.recordings.sessions import groups_of
from asdcore.recordings.training import require_training, training_recordings
from asdcore.settings import BASE, Settings
from asdcore.storage.files import digest_of

_DESCRIBED = ("machine", "section", "domain", "split", "label", "session")


def fit_detector(
    recordings: str | Path | pd.DataFrame, settings: Settings = Settings(), workdir: str | Path | None = None
) -> Detector:
    """Find and check recordings, compute their features, train the encoder, fit and calibrate every machine.

    Args:
        recordings: a folder or a manifest CSV, as `asd ingest` takes them, or a table with one row per recording:
            ``path`` and ``machine``, and if known ``section``, ``domain``, ``split``, ``label`` and ``session``.
            Only normal recordings of the split ``train`` are used. Recordings that cannot be used are named.
        settings: see `Settings`; ``Settings.preset("demo")`` takes minutes on two CPU cores.
        workdir: where the table of recordings, features and checkpoints are kept, so that a second call with the same
            recordings computes no feature again; None: in a temporary folder that is deleted.

    Returns:
        The detector, with the reliability report of each machine in ``about``.

    Raises:
        AsdError: no usable recording, too few for a machine, or a training that failed.
    """
    if workdir is None:
        with tempfile.TemporaryDirectory(prefix="asd-") as temporary:
            return _fit(recordings, settings, Path(temporary))
    return _fit(recordings, settings, Path(workdir))


def _fit(recordings: str | Path | pd.DataFrame, settings: Settings, folder: Path) -> Detector:
    training = _ingested(recordings, settings, folder)
    scorers = list(build_scorers(settings.normality).values())
    needed = any(scorer.needs_encoder for scorer in scorers)
    trains = settings.training.trains and needed
    store, failures = _features(training, settings, folder, variants=trains)
    path_of = dict(zip(training["recording"], training["path"], strict=True))
    for name, reason in failures.items():
        part = clip_named(name)
        say(f"left out: {path_of[name]}{f', clip {part.number} of {part.count}' if part.count > 1 else ''}: {reason}")
    training = training[~training["recording"].isin(list(failures))].reset_index(drop=True)
    require_training(training, settings.recordings.minimum_training_recordings)
    encoder = _encoder(store, training, settings, folder, needed=needed)
    detector = Detector(settings, encoder, {}, {"training_recordings": recording_count(training)})
    for machine, own in progress(list(training.groupby("machine")), "normality models"):
        detector = _with_machine(detector, str(machine), own, store, scorers)
    return detector


def _ingested(recordings: str | Path | pd.DataFrame, settings: Settings, folder: Path) -> pd.DataFrame:
    """The clips of the normal training recordings that can be decoded."""
    catalog = Catalog(folder / "recordings")
    found = (
        list(_rows_found(recordings))
        if isinstance(recordings, pd.DataFrame)
        else find_recordings(fetched(Path(recordings)), answers=answers_of(settings.recordings.labels))
    )
    ingested = catalog.ingest(found, settings.recordings)
    for file, reason in ingested.quarantined.items():
        say(f"left out: {file}: {reason}")
    paths = {str(one.path) for one in found}
    chosen = catalog.recordings[catalog.recordings["path"].isin(paths)]
    if chosen.empty:
        raise AsdError(f"none of the {len(found)} recordings can be used; the reasons are above")
    clips = cut(chosen, clip_lengths(chosen, settings.recordings))
    require_training(clips, settings.recordings.minimum_training_recordings)
    return training_recordings(clips)


def _rows_found(table: pd.DataFrame) -> Iterator[Found]:
    missing = {"path", "machine"} - set(table.columns)
    if missing:
        raise AsdError(f"a table of recordings needs the columns path and machine; there is no {', '.join(missing)}")
    for row in table.to_dict("records"):
        described: dict[str, Any] = {name: str(row[name]) for name in _DESCRIBED if name in row}
        described["machine"] = nfc(described["machine"])
        yield Found(printable(on_disk(Path(row["path"])).resolve()), **described)


def _features(
    training: pd.DataFrame, settings: Settings, folder: Path, *, variants: bool
) -> tuple[Store, dict[str, str]]:
    """The store of the spectrograms, and why clips are not in it: name: reason."""
    originals = folder / "features" / features_digest(settings, "", variants=False)
    augmented = originals / (EXTENDS + features_digest(settings, "")) if variants else None
    path_of = dict(zip(training["recording"], training["path"], strict=True))
    failures: dict[str, str] = {}
    for (first, second), names in missing_parts(originals, augmented, list(path_of)).items():
        failures |= compute_features(first, second, [(name, path_of[name]) for name in names], settings)[1]
    return Store(augmented or originals), failures


def _encoder(store: Store, training: pd.DataFrame, settings: Settings, folder: Path, *, needed: bool) -> AnyEncoder:
    """Trained, frozen, or untrained if no scorer needs it: a detector always has one."""
    if settings.training.trains and needed:
        rows = training[["recording", "machine", "attributes", "session"]]
        trained = start_training(store, rows, settings.training, folder / "checkpoints")
        for sentence in collapse(trained.history):
            say(sentence)
        return trained
    if settings.training.encoder == BASE:
        return load_base()
    if not settings.training.trains:
        frozen = build_frozen(settings.training.encoder, settings.training.source)
        if settings.training.adapter_rank and needed and isinstance(frozen, PretrainedEncoder):
            data = read_waveforms(training, map(Path, training["path"]), settings.recordings)
            fingerprint = digest_of(settings.recordings.digest(), *training["recording"])
            frozen.adapt(train_adapters(frozen, data, settings.training, folder / "adapters", fingerprint))
        return frozen
    normalisation = Normalisation.fit(_originals(store, training))
    encoder = build_encoder(settings.training.encoder, settings.training.z_size)
    return TrainedEncoder(encoder.eval(), normalisation, [])


def _originals(store: Store, rows: pd.DataFrame) -> Iterator[Spectrogram]:
    return (store.read(recording, "original") for recording in rows["recording"])


def _with_machine(detector: Detector, machine: str, own: pd.DataFrame, store: Store, scorers: list[Scorer]) -> Detector:
    settings, own = detector.settings, own.sort_values("path", kind="stable")
    domains = own["domain"].tolist()
    sessions = groups_of(own).tolist()
    vectors = _vectors(detector.encoder, own, store, scorers, settings)
    models: dict[str, NormalityModel] = {
        scorer.name: scorer.model().fit(vectors[scorer.name], domains=domains, groups=sessions) for scorer in scorers
    }
    profile = Profile.fit(_originals(store, own), domains, settings.mel, settings.recordings.sample_rate)
    clip_seconds = float(own["clip_seconds"].iloc[0])
    fitted = MachineModel(models, profile, sessions, own["recording"].tolist(), clip_seconds, Formats.of(own))
    report = reliability_report(
        fitted,
        vectors,
        domains,
        settings.normality.false_alarm_rate,
        of_training=collapse(detector.encoder.history),
        groups=sessions,
    )
    return detector.with_machine(machine, fitted, {"recordings": recording_count(own), "reliability": report.to_json()})


def _vectors(
    encoder: AnyEncoder, own: pd.DataFrame, store: Store, scorers: list[Scorer], settings: Settings
) -> Mapping[str, NDArray[np.float32]]:
    """scorer: (n, p)."""
    rows = []
    device = choose_device(settings.training.device)
    needed = any(scorer.needs_encoder for scorer in scorers)
    for spectrogram, name, path in zip(_originals(store, own), own["recording"], own["path"], strict=True):
        embedded = None
        if needed:
            sound = partial(sound_of, name, Path(path), settings.recordings)
            embedded = Embedding(*embedding(encoder, sound, spectrogram, device))
        rows.append(features_of(scorers, spectrogram, embedded))
    return {scorer.name: np.stack([row[scorer.name] for row in rows]) for scorer in scorers}
