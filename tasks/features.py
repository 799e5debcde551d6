"""The features stage: spectrograms of recordings that have none; originals and variants are cached apart."""

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task

from asdcore.errors import AsdError
from asdcore.features.compute import GONE, SHARD_SIZE, compute_features, features_digest, missing_parts
from asdcore.features.store import EXTENDS, drop_damaged, mark_verified
from asdcore.recordings.catalog import Catalog
from asdcore.settings import Settings
from asdcore.storage.files import digest_of
from asdcore.storage.home import Home
from tasks.cluster import cluster_address, run_on_cluster
from tasks.stage import CACHED, Result, claim, code_version, run_cached
from tasks.warn import warn

AT_ONCE = 1024
"""Recordings of a task on one machine: some shards for each core. On a cluster a task is one shard."""


def feature_store(home: Home, settings: Settings, *, variants: bool = True) -> Path:
    """The folder of the spectrograms that are made with these settings and this code."""
    code = ["features/spectrogram.py", "features/shard.py", "features/compute.py", "recordings/audio.py"]
    originals = home.features / features_digest(settings, code_version(*code), variants=False)
    if not variants:
        return originals
    return originals / (EXTENDS + features_digest(settings, code_version("features/augmentation.py", *code)))


def claimed_stores(home: Home, settings: Iterable[Settings]) -> set[Path]:
    """The folders of the spectrograms that a retraining or a benchmark with any of these settings uses."""
    claimed = set()
    for one in settings:
        baseline = one.model_copy(update={"mel": one.autoencoder.mel})
        claimed |= {feature_store(home, one), feature_store(home, baseline, variants=False)}
    return claimed


@task(name="features shards", **CACHED)
def features_shards(
    key: str,
    home: Home,
    originals: Path | None,
    variants: Path | None,
    recordings: Sequence[tuple[str, str]],
    settings: Settings,
) -> Result:
    """Spectrograms of some hundred (digest, path) pairs, in parallel processes: originals, variants, or both."""
    if not {originals, variants} <= {
        None,
        feature_store(home, settings, variants=False),
        feature_store(home, settings),
    }:
        raise AsdError(f"{platform.node()} runs another version of asd than the machine that asks it: install the same")
    shards, failures = compute_features(originals, variants, recordings, settings)
    return {"files": claim(home, *shards), "values": {"failures": failures}}


def _without_failures(result: Result) -> bool:
    return not result["values"]["failures"]


def _on_this_machine(home: Home, works: list[dict[str, Any]]) -> Iterator[Result]:
    for work in works:
        # What could not be read then may be readable now: a drive is back, a file has been ingested elsewhere.
        yield run_cached(features_shards, still_true=_without_failures, home=home, **work)


def _on_cluster(address: str, home: Home, works: list[dict[str, Any]]) -> Iterator[Result]:
    what = f"spectrograms on {address}, {SHARD_SIZE} recordings each"
    results = list(run_on_cluster(features_shards, address, home=home, works=works, what=what))
    # Workers that note it at the same time lose notes of each other. They rest now.
    mark_verified(home.root / path for result in results for path in result["files"])
    path_of = {digest: path for work in works for digest, path in work["recordings"]}
    failures = {digest: why for result in results for digest, why in result["values"]["failures"].items()}
    for digest, why in failures.items():
        if GONE in why and os.access(path_of[digest], os.R_OK):
            raise AsdError(
                f"{path_of[digest]}: the workers of {address} can not read it, but this machine can. Recordings have "
                "to be under the same path on all of them (NFS, for example). Nothing was quarantined"
            )
    yield from results


def complete_features(
    home: Home, recordings: pd.DataFrame, settings: Settings, *, variants: bool = True
) -> dict[str, str]:
    """Compute what the store lacks of ``recordings``; those that can not be read any more go to quarantine.

    Returns:
        digest: reason of those; the caller reads the table of recordings again.
    """
    originals = feature_store(home, settings, variants=False)
    extended = feature_store(home, settings) if variants else None
    for folder in filter(None, (originals, extended)):
        home.fetch_folder(folder)
    for path in [*drop_damaged(originals), *(drop_damaged(extended) if extended else [])]:
        warn(f"{path} was damaged: its recordings are computed again")
    address = cluster_address()
    at_once = SHARD_SIZE if address else AT_ONCE
    works: list[dict[str, Any]] = []
    for lacking, digests in missing_parts(originals, extended, recordings["recording"].tolist()).items():
        todo = recordings[recordings["recording"].isin(set(digests))][["recording", "path"]]
        pairs: list[tuple[str, str]] = list(todo.itertuples(index=False, name=None))
        for start in range(0, len(pairs), at_once):
            chunk = pairs[start : start + at_once]
            key = digest_of(*(folder.name if folder else "" for folder in lacking), *(digest for digest, _ in chunk))
            parts = {"originals": lacking[0], "variants": lacking[1]}
            works.append({"key": key, "recordings": chunk, "settings": settings, **parts})
    failures: dict[str, str] = {}
    for result in _on_cluster(address, home, works) if address and works else _on_this_machine(home, works):
        failures |= result["values"]["failures"]
    if failures:
        Catalog(home.recordings).quarantine(failures)
        paths = recordings.set_index("recording")["path"]
        for digest, reason in failures.items():
            warn(f"quarantined: {paths[digest]}: {reason}")
    return failures
