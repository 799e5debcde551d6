"""Compute shards of spectrograms of many recordings in parallel processes."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from joblib import Parallel, cpu_count, delayed

from asdcore.features.augmentation import VARIANTS, spectrograms
from asdcore.features.shard import new_shard
from asdcore.features.store import Row, Store, mark_verified
from asdcore.progress import progress
from asdcore.recordings.audio import BadRecording, decode
from asdcore.settings import Settings
from asdcore.storage.files import digest_of

SHARD_SIZE = 128
"""Recordings in a shard, the work of one process: about 10 MB of originals and 60 MB of variants for 10 s each."""

GONE = "it could be read when it was ingested"
"""Part of the reason for a missing spectrogram: the recording's file is missing."""

Recordings = Sequence[tuple[str, str]]
"""(digest, path) of each"""


def features_digest(settings: Settings, code_version: str, *, variants: bool = True) -> str:
    """16 hexadecimal digits that identify all that variants, or originals, depend on; names the store's folder."""
    audio = settings.recordings
    augmentation = settings.augmentation.digest() if variants else "no variants"
    return digest_of(str(audio.sample_rate), str(audio.channel), settings.mel.digest(), augmentation, code_version)


def missing_parts(
    originals: Path, variants: Path | None, recordings: Sequence[str]
) -> dict[tuple[Path | None, Path | None], list[str]]:
    """The missing features: (originals, variants) folders, as `compute_features` takes them, and the digests to add.

    Args:
        originals: folder of the store of the originals.
        variants: folder of the store of the variants; None: not requested.
        recordings: digests.
    """
    parts: dict[tuple[Path | None, Path | None], list[str]] = {}
    store = Store(variants or originals)
    lack_original = set(store.missing(recordings, "original"))
    lack_variants = set(store.missing(recordings, VARIANTS[0]))
    for recording in recordings:
        stores = (originals if recording in lack_original else None, variants if recording in lack_variants else None)
        if stores != (None, None):
            parts.setdefault(stores, []).append(recording)
    return parts


def compute_features(
    originals: Path | None, variants: Path | None, recordings: Recordings, settings: Settings
) -> tuple[list[Path], dict[str, str]]:
    """Write the spectrograms of ``recordings`` as shards, with one process per core and one shard at a time in each.

    Args:
        originals: folder of the store to add the originals to; None: they exist.
        variants: folder of the store to add the six variants to; None: not requested, or they exist.
        recordings: those without a row.
        settings: see `Settings`; `recordings`, `mel` and `augmentation` matter.

    Returns:
        The shards, and for each recording that could not be read, digest: reason.
    """
    pieces = [recordings[start : start + SHARD_SIZE] for start in range(0, len(recordings), SHARD_SIZE)]
    # joblib limits the BLAS threads of each process to its fraction of the cores.
    done = Parallel(n_jobs=min(cpu_count(), max(len(pieces), 1)), return_as="generator")(
        delayed(compute_shard)(originals, variants, piece, settings) for piece in pieces
    )
    shards: list[Path] = []
    failures: dict[str, str] = {}
    for written, failed in progress(done, f"spectrograms, {SHARD_SIZE} recordings each", total=len(pieces)):
        mark_verified(written)
        shards += written
        failures |= failed
    return shards, failures


def compute_shard(
    originals: Path | None, variants: Path | None, recordings: Recordings, settings: Settings
) -> tuple[list[Path], dict[str, str]]:
    """As `compute_features`, for one shard in this process; one recording in memory at a time."""
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        shards = [(folder, stack.enter_context(new_shard(folder))) for folder in (originals, variants) if folder]
        for digest, path in recordings:
            columns = _spectrograms_of_file(digest, path, settings, variants is not None)
            if isinstance(columns, str):
                failures[digest] = columns
                continue
            original = {"original": columns.pop("original")}
            for folder, shard in shards:
                shard.add(digest, original if folder == originals else columns)
    return [shard.path for _, shard in shards if shard.path], failures


def _spectrograms_of_file(digest: str, path: str, settings: Settings, variants: bool) -> Row | str:
    """Columns of one recording as float16, or the reason why there is none."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return f"unreadable: {error.strerror} ({GONE})"
    if hashlib.sha256(content).hexdigest() != digest:
        return "changed: the content of the file differs from when it was ingested; ingest it again"
    try:
        waveform = decode(content, settings.recordings).samples
    except BadRecording as reason:
        return str(reason)
    augmentation = settings.augmentation if variants else None
    computed = spectrograms(waveform, digest, settings.recordings.sample_rate, settings.mel, augmentation)
    return {column: values.astype(np.float16) for column, values in computed.items()}
