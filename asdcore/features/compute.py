"""Many recordings to shards of spectrograms, in parallel processes."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from joblib import Parallel, cpu_count, delayed

from asdcore.features.augmentation import spectrograms
from asdcore.features.store import Row, write_shard
from asdcore.home import digest_of
from asdcore.progress import progress
from asdcore.recordings.audio import BadRecording, decode
from asdcore.settings import Settings

SHARD_SIZE = 256
"""Recordings in a shard: about 140 MB for recordings of 10 s."""
FEW = 16
"""So many recordings are done before other processes would have started."""


def features_digest(settings: Settings, code_version: str, *, variants: bool = True) -> str:
    """16 digits that change with whatever changes a spectrogram: what the folder of a store is named after."""
    audio = settings.recordings
    augmentation = settings.augmentation.digest() if variants else "no variants"
    return digest_of(str(audio.sample_rate), str(audio.channel), settings.mel.digest(), augmentation, code_version)


def compute_shard(
    folder: Path, recordings: Sequence[tuple[str, str]], settings: Settings, *, variants: bool = True
) -> tuple[Path | None, dict[str, str]]:
    """Write the spectrograms of (digest, path) pairs as one shard of ``folder``: originals, and their six variants.

    Returns:
        The shard, or None if no recording could be read; and why those that are not in it could not: digest: reason.
    """
    failures: dict[str, str] = {}

    def rows() -> Iterator[tuple[str, Row]]:
        jobs = 1 if len(recordings) < FEW else cpu_count()
        # joblib pins each process to the BLAS threads that are its share of the cores: here, one.
        results = Parallel(n_jobs=jobs, return_as="generator")(
            delayed(_spectrograms_of_file)(digest, path, settings, variants) for digest, path in recordings
        )
        done = progress(results, "spectrograms", total=len(recordings))
        for (digest, _), result in zip(recordings, done, strict=True):
            if isinstance(result, str):
                failures[digest] = result
            else:
                yield digest, result

    shard = write_shard(folder, rows())
    return shard, failures


def _spectrograms_of_file(digest: str, path: str, settings: Settings, variants: bool) -> Row | str:
    """Columns of one recording as float16, or the reason why there are none."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return f"unreadable: {error.strerror} (it could be read when it was ingested)"
    if hashlib.sha256(content).hexdigest() != digest:
        return "changed: the file has another content than when it was ingested; ingest it again"
    try:
        waveform = decode(content, settings.recordings).samples
    except BadRecording as reason:
        return str(reason)
    augmentation = settings.augmentation if variants else None
    made = spectrograms(waveform, digest, settings.recordings.sample_rate, settings.mel, augmentation)
    return {column: values.astype(np.float16) for column, values in made.items()}
