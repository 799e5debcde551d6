"""Compute shards of spectrograms of many clips in parallel processes."""

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
from asdcore.recordings.clips import Clip, clip_named, recording_of
from asdcore.recordings.paths import on_disk
from asdcore.settings import Settings
from asdcore.storage.files import digest_of, digest_of_file

SHARD_SIZE = 128
"""Clips in a shard, the work of one process: about 10 MB of originals and 60 MB of variants for 10 s each."""

GONE = "it could be read when it was ingested"
"""Part of the reason for a missing spectrogram: the recording's file is missing."""

Clips = Sequence[tuple[str, str]]
"""(name, path of the recording) of each"""


def features_digest(settings: Settings, code_version: str, *, variants: bool = True) -> str:
    """16 hexadecimal digits that identify all that variants, or originals, depend on; names the store's folder."""
    audio = settings.recordings
    augmentation = settings.augmentation.digest() if variants else "no variants"
    return digest_of(str(audio.sample_rate), str(audio.channel), settings.mel.digest(), augmentation, code_version)


def missing_parts(
    originals: Path, variants: Path | None, clips: Sequence[str]
) -> dict[tuple[Path | None, Path | None], list[str]]:
    """The missing features: (originals, variants) folders, as `compute_features` takes them, and the clips to add.

    Args:
        originals: folder of the store of the originals.
        variants: folder of the store of the variants; None: not requested.
        clips: their names.
    """
    parts: dict[tuple[Path | None, Path | None], list[str]] = {}
    store = Store(variants or originals)
    lack_original = set(store.missing(clips, "original"))
    lack_variants = set(store.missing(clips, VARIANTS[0]))
    for clip in clips:
        stores = (originals if clip in lack_original else None, variants if clip in lack_variants else None)
        if stores != (None, None):
            parts.setdefault(stores, []).append(clip)
    return parts


def compute_features(
    originals: Path | None, variants: Path | None, clips: Clips, settings: Settings
) -> tuple[list[Path], dict[str, str]]:
    """Write the spectrograms of ``clips`` as shards, with one process per core and one shard at a time in each.

    Args:
        originals: folder of the store to add the originals to; None: they exist.
        variants: folder of the store to add the six variants to; None: not requested, or they exist.
        clips: those without a row; those of one recording follow each other.
        settings: see `Settings`; `recordings`, `mel` and `augmentation` matter.

    Returns:
        The shards, and for each clip that could not be read or must not be used, name: reason.
    """
    pieces = [clips[start : start + SHARD_SIZE] for start in range(0, len(clips), SHARD_SIZE)]
    # joblib limits the BLAS threads of each process to its fraction of the cores.
    done = Parallel(n_jobs=min(cpu_count(), max(len(pieces), 1)), return_as="generator")(
        delayed(compute_shard)(originals, variants, piece, settings) for piece in pieces
    )
    shards: list[Path] = []
    failures: dict[str, str] = {}
    for written, failed in progress(done, f"spectrograms, {SHARD_SIZE} clips each", total=len(pieces)):
        mark_verified(written)
        shards += written
        failures |= failed
    return shards, failures


def compute_shard(
    originals: Path | None, variants: Path | None, clips: Clips, settings: Settings
) -> tuple[list[Path], dict[str, str]]:
    """As `compute_features`, for one shard in this process; one clip in memory at a time."""
    failures: dict[str, str] = {}
    checked, why_not = "", ""
    with ExitStack() as stack:
        shards = [(folder, stack.enter_context(new_shard(folder))) for folder in (originals, variants) if folder]
        for name, path in clips:
            if path != checked:
                # Just before it is decoded, and once for all clips of a recording.
                checked, why_not = path, _why_not(recording_of(name), Path(path))
            columns = why_not or _spectrograms_of(clip_named(name), Path(path), settings, variants is not None)
            if isinstance(columns, str):
                failures[name] = columns
                continue
            original = {"original": columns.pop("original")}
            for folder, shard in shards:
                shard.add(name, original if folder == originals else columns)
    return [shard.path for _, shard in shards if shard.path], failures


def _why_not(digest: str, path: Path) -> str:
    """Why a file is not the recording with this digest; empty if it is."""
    try:
        same = digest_of_file(on_disk(path)) == digest
    except OSError as error:
        return f"unreadable: {error.strerror} ({GONE})"
    return "" if same else "changed: the content of the file differs from when it was ingested; ingest it again"


def _spectrograms_of(clip: Clip, path: Path, settings: Settings, variants: bool) -> Row | str:
    """Columns of one clip as float16, or the reason why there is none."""
    try:
        waveform = decode(path, settings.recordings, clip).samples
    except OSError as error:
        return f"unreadable: {error.strerror} ({GONE})"
    except BadRecording as reason:
        return str(reason)
    augmentation = settings.augmentation if variants else None
    computed = spectrograms(waveform, clip.name, settings.recordings.sample_rate, settings.mel, augmentation)
    return {column: values.astype(np.float16) for column, values in computed.items()}
