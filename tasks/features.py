"""The features stage: spectrograms of recordings that have none; originals and variants are cached separately."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from asdcore.errors import AsdError
from asdcore.features.augmentation import spectrograms
from asdcore.features.compute import GONE, SHARD_SIZE, compute_features, features_digest, missing_parts
from asdcore.features.shard import NewShard
from asdcore.features.spectrogram import spectrogram
from asdcore.features.statistics import time_statistics
from asdcore.features.store import EXTENDS, Row, Store, drop_damaged, mark_verified, originals_of
from asdcore.normality.scorers import features_of
from asdcore.progress import progress
from asdcore.recordings.audio import decode
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.clips import recording_of
from asdcore.registry import SCORERS
from asdcore.settings import NormalitySettings, Settings
from asdcore.storage.home import Home
from tasks.cluster import cluster_address, run_on_cluster
from tasks.code import code_of_class, code_of_function, require_code
from tasks.stage import Artifact, Written, stage
from tasks.store import store_artifact, store_stage
from tasks.warn import warn

AT_ONCE = 1024
"""Clips of a task on one machine: several shards per core. On a cluster a task is one shard."""


def feature_store(settings: Settings, *, variants: bool | None = None) -> Artifact:
    """The store of the spectrograms that these settings and this code make; by default with variants if it trains."""
    variants = settings.training.trains if variants is None else variants
    shared = (decode, NewShard)
    code = " ".join(code_of_function(function) for function in (*shared, spectrogram))
    originals = Home.current().features / features_digest(settings, code, variants=False)
    if not variants:
        return store_artifact(originals)
    code = " ".join(code_of_function(function) for function in (*shared, spectrograms))
    return store_artifact(originals / (EXTENDS + features_digest(settings, code)))


def originals_artifact(store: Artifact) -> Artifact:
    """The store of the originals that a store of variants extends; what only needs originals takes it as input."""
    return store_artifact(originals_of(store.path))


def stores_in_use(settings: Iterable[Settings]) -> set[Path]:
    """The folders of the spectrograms that a retraining or a benchmark with any of these settings uses."""
    folders = set()
    for each in settings:
        baseline = each.model_copy(update={"mel": each.autoencoder.mel})
        folders |= {feature_store(each).path, feature_store(baseline, variants=False).path}
    return folders


@stage(None, still_true=lambda values: not values["failures"])
def features_shards(
    out: Path,
    originals: Artifact | None,
    variants: Artifact | None,
    clips: Sequence[tuple[str, str]],
    settings: Settings,
) -> Written:
    """Spectrograms of some hundred clips, (name, path) pairs, in parallel processes: originals, variants, or both.

    A failure is not remembered: what could not be read then may be readable now (a drive is back, say).
    """
    folders = [store.path if store else None for store in (originals, variants)]
    shards, failures = compute_features(folders[0], folders[1], clips, settings)
    return Written(shards, {"failures": failures})


@store_stage("runs/statistics/{key}", uncounted=("settings",))
def spectrum_statistics(
    recordings: Sequence[str], originals: Artifact, added: Mapping[str, str], settings: NormalitySettings
) -> Iterator[tuple[str, Row]]:
    """What scorers without a network need of each spectrogram. ``added``: scorers of other packages, and their code."""
    store = Store(originals.path)
    for name, code in added.items():
        require_code(SCORERS.get(name), code.rpartition(" ")[0])
    scorers = [SCORERS.get(name)(settings) for name in added]
    for recording in progress(recordings, "spectrum statistics"):
        spectrogram = store.read(recording, "original")
        yield recording, {**time_statistics(spectrogram), **features_of(scorers, spectrogram, None)}


def _code_of_scorer(name: str) -> str:
    scorer: Any = SCORERS.get(name)
    return code_of_class(scorer)


def scorer_statistics(recordings: pd.DataFrame, originals: Artifact, settings: Settings) -> Artifact:
    """The store of what the scorers without a network need of these recordings."""
    added = {
        name: f"{_code_of_scorer(name)} {settings.normality.digest()}"
        for name in settings.normality.scorers
        if name not in SCORERS.built_in and not SCORERS.get(name).needs_encoder
    }
    return spectrum_statistics(recordings["recording"].tolist(), originals, added, settings.normality)


def complete_features(clips: pd.DataFrame, settings: Settings, *, variants: bool | None = None) -> pd.DataFrame:
    """Compute what the store lacks of ``clips``, and return the rows of those that it has then.

    ``variants``: of them, too; by default if the encoder is trained.

    A recording that cannot be read any more is quarantined. A clip of a long recording that must not be used (it is
    silent, say) is left out alone.
    """
    home = Home.current()
    variants = settings.training.trains if variants is None else variants
    originals = feature_store(settings, variants=False)
    extended = feature_store(settings, variants=True) if variants else None
    for store in filter(None, (originals, extended)):
        home.fetch_folder(store.path)
        for path in drop_damaged(store.path):
            warn(f"{path} was damaged: its recordings are computed again")
    address = cluster_address()
    at_once = SHARD_SIZE if address else AT_ONCE
    batches: list[dict[str, Any]] = []
    path_of = dict(zip(clips["recording"], clips["path"], strict=True))
    missing = missing_parts(originals.path, extended.path if extended else None, list(path_of))
    for (lacks_original, lacks_variants), names in missing.items():
        pairs = [(name, path_of[name]) for name in names]
        stores = {"originals": originals if lacks_original else None, "variants": extended if lacks_variants else None}
        for start in range(0, len(pairs), at_once):
            batches.append({"clips": pairs[start : start + at_once], "settings": settings, **stores})
    done = _on_cluster(address, batches) if address and batches else (features_shards(**batch) for batch in batches)
    failures: dict[str, str] = {}
    for artifact in done:
        failures |= artifact.facts["failures"]
    _leave_out(failures, path_of)
    return clips[~clips["recording"].isin(list(failures))].reset_index(drop=True)


def _leave_out(failures: Mapping[str, str], path_of: Mapping[str, str]) -> None:
    """Quarantine recordings that failed, and warn about clips that are left out. ``failures``: name: reason.

    A file whose disk or share does not answer is left out of this run only: its recording may be fine.
    """
    away = {recording_of(name) for name, reason in failures.items() if GONE in reason and not _is_gone(path_of[name])}
    if away:
        path = next(path_of[name] for name in failures if recording_of(name) in away)
        warn(
            f"{len(away)} recordings cannot be read now and are left out, {path} first. Is the drive or the share "
            "mounted? Nothing was quarantined"
        )
    failures = {name: reason for name, reason in failures.items() if recording_of(name) not in away}
    unusable = {
        recording_of(name): reason
        for name, reason in failures.items()
        if name == recording_of(name) or reason.endswith(f"({GONE})") or reason.startswith("changed")
    }
    if unusable:
        home, failed_at = Home.current(), {recording_of(name): path_of[name] for name in failures}
        with home.lock_table(warn):
            catalog = Catalog(home.recordings)
            paths = dict(zip(catalog.recordings["recording"], catalog.recordings["path"], strict=True))
            # One that was ingested from another place in the meantime can be read there.
            catalog.quarantine({one: why for one, why in unusable.items() if paths.get(one) == failed_at[one]})
    quarantined = {path_of[name]: reason for name, reason in failures.items() if recording_of(name) in unusable}
    for path, reason in quarantined.items():
        warn(f"quarantined: {path}: {reason}")
    clips = [name for name in failures if recording_of(name) not in unusable]
    for path, number in Counter(path_of[name] for name in clips).items():
        reason = next(failures[name] for name in clips if path_of[name] == path)
        warn(f"{path}: {number} of its clips left out: {reason}")


def _is_gone(path: str) -> bool:
    """Whether a file was deleted or moved: its folder is there, with other content, and the file is not."""
    folder = Path(path).parent
    try:
        return not os.path.lexists(path) and any(folder.iterdir())
    except OSError:
        return False


def _on_cluster(address: str, batches: list[dict[str, Any]]) -> list[Artifact]:
    what = f"spectrograms on {address}, {SHARD_SIZE} clips each"
    artifacts = list(run_on_cluster(features_shards, address, batches, what))
    # Workers that note it at the same time would lose each other's notes. They are idle now.
    mark_verified(file for artifact in artifacts for file in artifact.files)
    path_of = {name: path for batch in batches for name, path in batch["clips"]}
    for artifact in artifacts:
        for name, reason in artifact.facts["failures"].items():
            if GONE in reason and os.access(path_of[name], os.R_OK):
                raise AsdError(
                    f"{path_of[name]}: the workers of {address} cannot read it, but this machine can. Recordings "
                    "have to be under the same path on all of them (NFS, for example). Nothing was quarantined"
                )
    return artifacts
