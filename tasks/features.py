"""The features stage: spectrograms of recordings that have none; originals and variants are cached apart."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task

from asdcore.features.compute import compute_features, features_digest, missing_parts
from asdcore.features.store import EXTENDS, drop_damaged
from asdcore.home import Home, digest_of
from asdcore.recordings.catalog import Catalog
from asdcore.settings import Settings
from tasks.caching import CACHED, Result, claim, code_version, run_cached
from tasks.warn import warn

AT_ONCE = 1024
"""Recordings of a task: some shards for each core."""


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
    shards, failures = compute_features(originals, variants, recordings, settings)
    return {"files": claim(home, *shards), "values": {"failures": failures}}


def _without_failures(result: Result) -> bool:
    return not result["values"]["failures"]


def complete_features(
    home: Home, recordings: pd.DataFrame, settings: Settings, *, variants: bool = True
) -> dict[str, str]:
    """Compute what the store lacks of ``recordings``; those that can not be read any more go to quarantine.

    Returns:
        digest: reason of those; the caller reads the table of recordings again.
    """
    originals = feature_store(home, settings, variants=False)
    extended = feature_store(home, settings) if variants else None
    for path in [*drop_damaged(originals), *(drop_damaged(extended) if extended else [])]:
        warn(f"{path} was damaged: its recordings are computed again")
    failures: dict[str, str] = {}
    for lacking, digests in missing_parts(originals, extended, recordings["recording"].tolist()).items():
        todo = recordings[recordings["recording"].isin(set(digests))][["recording", "path"]]
        pairs: list[tuple[str, str]] = list(todo.itertuples(index=False, name=None))
        for start in range(0, len(pairs), AT_ONCE):
            chunk = pairs[start : start + AT_ONCE]
            key = digest_of(*(folder.name if folder else "" for folder in lacking), *(digest for digest, _ in chunk))
            work: dict[str, Any] = {"originals": lacking[0], "variants": lacking[1], "recordings": chunk}
            # What could not be read then may be readable now: a drive is back, a file has been ingested elsewhere.
            result = run_cached(
                features_shards, still_true=_without_failures, key=key, home=home, settings=settings, **work
            )
            failures |= result["values"]["failures"]
    if failures:
        Catalog(home.recordings).quarantine(failures)
        paths = recordings.set_index("recording")["path"]
        for digest, reason in failures.items():
            warn(f"quarantined: {paths[digest]}: {reason}")
    return failures
