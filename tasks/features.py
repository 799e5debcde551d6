"""The features stage: one task a shard of spectrograms; only recordings without a row are computed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task

from asdcore.features.compute import SHARD_SIZE, compute_shard, features_digest
from asdcore.features.store import Store, drop_damaged
from asdcore.home import Home, digest_of
from asdcore.recordings.catalog import Catalog
from asdcore.settings import Settings
from tasks.caching import CACHED, Result, claim, code_version, run_cached
from tasks.warn import warn


def feature_store(home: Home, settings: Settings, *, variants: bool = True) -> Path:
    """The folder of the spectrograms that are made with these settings and this code."""
    code = code_version(
        "features/spectrogram.py",
        "features/augmentation.py",
        "features/compute.py",
        "features/store.py",
        "recordings/audio.py",
    )
    return home.features / features_digest(settings, code, variants=variants)


@task(name="features shard", **CACHED)
def features_shard(
    key: str, home: Home, folder: Path, recordings: Sequence[tuple[str, str]], settings: Settings, variants: bool
) -> Result:
    """Spectrograms, and their variants, of some hundred (digest, path) pairs, in parallel processes."""
    shard, failures = compute_shard(folder, recordings, settings, variants=variants)
    return {"files": claim(home, shard) if shard else {}, "values": {"failures": failures}}


def _without_failures(result: Result) -> bool:
    return not result["values"]["failures"]


def complete_features(
    home: Home, recordings: pd.DataFrame, settings: Settings, *, variants: bool = True
) -> dict[str, str]:
    """Compute what the store lacks of ``recordings``; those that can not be read any more go to quarantine.

    Returns:
        digest: reason of those; the caller reads the table of recordings again.
    """
    folder = feature_store(home, settings, variants=variants)
    for path in drop_damaged(folder):
        warn(f"{path} was damaged: its recordings are computed again")
    missing = set(Store(folder).missing(recordings["recording"]))
    todo = recordings[recordings["recording"].isin(missing)][["recording", "path"]]
    pairs: list[tuple[str, str]] = list(todo.itertuples(index=False, name=None))
    failures: dict[str, str] = {}
    for start in range(0, len(pairs), SHARD_SIZE):
        chunk = pairs[start : start + SHARD_SIZE]
        key = digest_of(folder.name, *(digest for digest, _ in chunk))
        work: dict[str, Any] = {"folder": folder, "recordings": chunk, "settings": settings, "variants": variants}
        # What could not be read then may be readable now: a drive is back, a file has been ingested at another place.
        result = run_cached(features_shard, still_true=_without_failures, key=key, home=home, **work)
        failures |= result["values"]["failures"]
    if failures:
        Catalog(home.recordings).quarantine(failures)
        paths = recordings.set_index("recording")["path"]
        for digest, reason in failures.items():
            warn(f"quarantined: {paths[digest]}: {reason}")
    return failures
