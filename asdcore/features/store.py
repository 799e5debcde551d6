"""The store: arrays by recording, in append-only Parquet shards."""

import json
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.features.shard import Array, Shard, bytes_of, new_shard
from asdcore.storage.files import atomic_write, digest_of_file

Row = dict[str, Array]
"""column: array of one or two dimensions"""

EXTENDS = "variants-"
"""Prefix of the folder of a store that extends the store in its parent folder, whose columns it has, too. Variants
depend on more settings than originals, and can be computed again without them.
"""
VERIFIED = "verified.json"
"""File with name: size and modification time of the shards whose content matched the digest in their name."""


Place = tuple[Shard, int]
"""a shard, and the row in it"""

MOST_OPEN = 256
"""Shards that a store keeps open: an operating system allows a process 1024 files or more."""


class Store:
    """Arrays by recording.

    Args:
        folder: of the shards; need not exist yet.

    Raises:
        AsdError: a shard is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        originals = originals_of(folder)
        self._base = Store(originals) if originals != folder else None
        self._open: deque[Shard] = deque()
        self._rows: dict[str, Place] = {}
        """of this folder"""
        shards = [Shard(path) for path in _shards(folder)]
        for shard in shards:
            for row, recording in enumerate(shard.recordings):
                self._rows.setdefault(recording, (shard, row))
        self._places: dict[str, dict[str, Place]] = dict(self._base._places) if self._base else {}
        """column: recording: place"""
        for shard in shards:
            self._places |= dict.fromkeys(shard.columns, self._rows)

    @property
    def recordings(self) -> list[str]:
        """Digests of those with all columns, in the order of the shards."""
        if self._base is None:
            return list(self._rows)
        return [recording for recording in self._rows if recording in self._base._rows]

    @property
    def columns(self) -> list[str]:
        """The names of the arrays that its shards have."""
        return list(self._places)

    def missing(self, recordings: Iterable[str], column: str | None = None) -> list[str]:
        """Those of ``recordings`` that lack ``column``, or any column if None, in their order."""
        if column is not None:
            rows = self._places.get(column, {})
            return [recording for recording in recordings if recording not in rows]
        complete = set(self.recordings)
        return [recording for recording in recordings if recording not in complete]

    def read(self, recording: str, column: str) -> NDArray[np.float32]:
        """One array of a recording, float32, in its original shape.

        Raises:
            AsdError: no such recording, or its shard is damaged.
        """
        shard, row = self._opened(recording, column)
        return np.ascontiguousarray(shard.read(row, column).T, np.float32)

    def crops(self, arrays: Sequence[tuple[str, str]], starts: NDArray[np.float64], out: NDArray[np.float16]) -> None:
        """Fill ``out``, (n, frames, n_mels), with a crop of each spectrogram, as it is stored.

        Args:
            arrays: (recording, column) of each; float16, all with the same n_mels.
            starts: 0: the first possible start, 1: the last.
            out: filled with the crops. Only their frames are read, except when blocks are first read and verified. A
                spectrogram with fewer frames is repeated.

        Raises:
            AsdError: as `read`.
            ValueError: the length of ``out`` differs from that of ``arrays``, or it is not float16.
            TypeError: ``out`` is not contiguous.
        """
        if out.dtype != np.float16 or len(out) != len(arrays):
            raise ValueError(f"{len(out)} crops of {out.dtype} for {len(arrays)} float16 spectrograms")
        memory = bytes_of(out)
        size, offset, frames = len(memory) // len(out), 0, out.shape[1]
        for (recording, column), start in zip(arrays, starts.tolist(), strict=True):
            shard, row = self._opened(recording, column)
            shard.crop(row, column, start, frames, memory[offset : offset + size])
            offset += size

    def n_frames(self, recording: str, column: str) -> int:
        """The number of frames of a spectrogram."""
        shard, row = self._place(recording, column)
        return shard.n_frames(row, column)

    def n_mels(self, recording: str, column: str) -> int:
        """The number of mel bands of a spectrogram."""
        return self._place(recording, column)[0].columns[column].height

    def n_bytes(self, recording: str, column: str) -> int:
        """The size of an array in its file, in bytes."""
        shard, row = self._place(recording, column)
        return shard.n_bytes(row, column)

    def _place(self, recording: str, column: str) -> Place:
        try:
            return self._places[column][recording]
        except KeyError as error:
            raise AsdError(f"{self.folder}: no row of recording {recording}; run the features stage again") from error

    def _opened(self, recording: str, column: str) -> Place:
        """As `_place`, for an array that is read next."""
        place = self._place(recording, column)
        if place[0].file is None:
            self._open.append(place[0])
            if len(self._open) > MOST_OPEN:
                self._open.popleft().close()
        return place


def originals_of(folder: Path) -> Path:
    """The folder of the store that a store of variants extends; for any other store, ``folder`` itself."""
    return folder.parent if folder.name.startswith(EXTENDS) else folder


def write_shard(folder: Path, rows: Iterable[tuple[str, Row]]) -> Path | None:
    """Write (recording, arrays) pairs as one shard of ``folder`` atomically; return its path.

    Without rows, no shard is written: None. The store must have one writer; if there are several, they use `new_shard`,
    and one of them `mark_verified`.
    """
    with new_shard(folder) as shard:
        for recording, arrays in rows:
            shard.add(recording, arrays)
    mark_verified([shard.path] if shard.path else [])
    return shard.path


def damaged_shards(folder: Path, *, trust: bool = True) -> list[Path]:
    """The shards whose content does not have the digest in their name.

    Args:
        folder: of a store.
        trust: skip shards whose size and modification time have not changed since they were last verified. Silent
            corruption on disk is detected by the checksums when they are read.
    """
    verified = _verified(folder) if trust else {}
    changed = [path for path in _shards(folder) if verified.get(path.name) != _state(path)]
    damaged = [path for path in changed if digest_of_file(path)[:16] not in path.name]
    if len(changed) > len(damaged):
        mark_verified(set(changed) - set(damaged))
    return damaged


def drop_damaged(folder: Path, *, trust: bool = True) -> list[Path]:
    """Delete the `damaged_shards` and return them. They are computed again."""
    damaged = damaged_shards(folder, trust=trust)
    for path in damaged:
        path.unlink()
    return damaged


def mark_verified(shards: Iterable[Path]) -> None:
    """Record that newly written shards match the digests in their names. Their store must have one writer."""
    by_folder: dict[Path, dict[str, list[int]]] = {}
    for path in shards:
        by_folder.setdefault(path.parent, {})[path.name] = _state(path)
    for folder, states in by_folder.items():
        existing = {path.name for path in _shards(folder)}
        verified = {name: state for name, state in (_verified(folder) | states).items() if name in existing}
        with atomic_write(folder / VERIFIED) as temporary:
            temporary.write_text(json.dumps(verified, sort_keys=True))


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*.parquet"))


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _verified(folder: Path) -> dict[str, list[int]]:
    try:
        verified: dict[str, list[int]] = json.loads((folder / VERIFIED).read_text())
    except (FileNotFoundError, ValueError):
        return {}  # Then every shard is read.
    return verified
