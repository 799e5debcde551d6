"""The features stage: spectrograms of recordings that have none; originals and variants are cached separately."""

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
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
from asdcore.progress import progress
from asdcore.recordings.audio import decode
from asdcore.recordings.catalog import Catalog
from asdcore.settings import Settings
from asdcore.storage.home import Home
from tasks.cluster import cluster_address, run_on_cluster
from tasks.code import code_of_function
from tasks.stage import Artifact, Written, stage
from tasks.store import store_artifact, store_stage
from tasks.warn import warn

AT_ONCE = 1024
"""Recordings of a task on one machine: several shards per core. On a cluster a task is one shard."""


def feature_store(settings: Settings, *, variants: bool = True) -> Artifact:
    """The store of the spectrograms that these settings and this code make."""
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
    recordings: Sequence[tuple[str, str]],
    settings: Settings,
) -> Written:
    """Spectrograms of some hundred (digest, path) pairs, in parallel processes: originals, variants, or both.

    A failure is not remembered: what could not be read then may be readable now (a drive is back, say).
    """
    if not {originals, variants} <= {None, feature_store(settings, variants=False), feature_store(settings)}:
        raise AsdError(
            f"{platform.node()} runs another version of asd than the machine that asks it: install the same version"
        )
    folders = [store.path if store else None for store in (originals, variants)]
    shards, failures = compute_features(folders[0], folders[1], recordings, settings)
    return Written(shards, {"failures": failures})


@store_stage("runs/statistics/{key}")
def spectrum_statistics(recordings: Sequence[str], originals: Artifact) -> Iterator[tuple[str, Row]]:
    """The statistics over time of each spectrogram that scorers without a network use."""
    store = Store(originals.path)
    for recording in progress(recordings, "spectrum statistics"):
        yield recording, dict(time_statistics(store.read(recording, "original")))


def complete_features(recordings: pd.DataFrame, settings: Settings, *, variants: bool = True) -> dict[str, str]:
    """Compute what the store lacks of ``recordings``; those that cannot be read any more are quarantined.

    Returns:
        digest: reason of those; the caller reads the table of recordings again.
    """
    home = Home.current()
    originals = feature_store(settings, variants=False)
    extended = feature_store(settings) if variants else None
    for store in filter(None, (originals, extended)):
        home.fetch_folder(store.path)
        for path in drop_damaged(store.path):
            warn(f"{path} was damaged: its recordings are computed again")
    address = cluster_address()
    at_once = SHARD_SIZE if address else AT_ONCE
    batches: list[dict[str, Any]] = []
    missing = missing_parts(originals.path, extended.path if extended else None, recordings["recording"].tolist())
    for (lacks_original, lacks_variants), digests in missing.items():
        lacking = recordings[recordings["recording"].isin(set(digests))][["recording", "path"]]
        pairs: list[tuple[str, str]] = list(lacking.itertuples(index=False, name=None))
        stores = {"originals": originals if lacks_original else None, "variants": extended if lacks_variants else None}
        for start in range(0, len(pairs), at_once):
            batches.append({"recordings": pairs[start : start + at_once], "settings": settings, **stores})
    done = _on_cluster(address, batches) if address and batches else (features_shards(**batch) for batch in batches)
    failures: dict[str, str] = {}
    for artifact in done:
        failures |= artifact.facts["failures"]
    if failures:
        Catalog(home.recordings).quarantine(failures)
        paths = recordings.set_index("recording")["path"]
        for digest, reason in failures.items():
            warn(f"quarantined: {paths[digest]}: {reason}")
    return failures


def _on_cluster(address: str, batches: list[dict[str, Any]]) -> list[Artifact]:
    what = f"spectrograms on {address}, {SHARD_SIZE} recordings each"
    artifacts = list(run_on_cluster(features_shards, address, batches, what))
    # Workers that note it at the same time would lose each other's notes. They are idle now.
    mark_verified(file for artifact in artifacts for file in artifact.files)
    path_of = {digest: path for batch in batches for digest, path in batch["recordings"]}
    for artifact in artifacts:
        for digest, reason in artifact.facts["failures"].items():
            if GONE in reason and os.access(path_of[digest], os.R_OK):
                raise AsdError(
                    f"{path_of[digest]}: the workers of {address} cannot read it, but this machine can. Recordings "
                    "have to be under the same path on all of them (NFS, for example). Nothing was quarantined"
                )
    return artifacts
