"""The store: arrays by recording, in Parquet shards that are only ever added to."""

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
"""A store whose folder's name starts so has the columns of the store, too, in whose folder it stands: variants, which
depend on more settings than originals do, are made again without them.
"""
VERIFIED = "verified.json"
"""name: size and time of change of the shards that had the digest in their name when it was checked"""


Place = tuple[Shard, int]
"""a shard, and the row in it"""

MOST_OPEN = 256
"""Shards that a store keeps open: an operating system allows a process 1024 files or more."""


class Store:
    """Arrays by recording.

    Args:
        folder: where the shards are; need not exist yet.

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
        there = list(self._rows)
        return there if self._base is None else [recording for recording in there if recording in self._base._rows]

    @property
    def columns(self) -> list[str]:
        """The names of the arrays that its shards have."""
        return list(self._places)

    def missing(self, recordings: Iterable[str], column: str | None = None) -> list[str]:
        """Those of ``recordings`` that lack ``column``, or any column if None, in their order."""
        if column is not None:
            rows = self._places.get(column, {})
            return [recording for recording in recordings if recording not in rows]
        there = set(self.recordings)
        return [recording for recording in recordings if recording not in there]

    def read(self, recording: str, column: str) -> NDArray[np.float32]:
        """One array of a recording, float32, in the shape that it was written with.

        Raises:
            AsdError: no such recording, or its shard is damaged.
        """
        shard, row = self._opened(recording, column)
        return np.ascontiguousarray(shard.read(row, column).T, np.float32)

    def crops(self, arrays: Sequence[tuple[str, str]], starts: NDArray[np.float64], out: NDArray[np.float16]) -> None:
        """Fill ``out``, (n, frames, n_mels), with a crop of each spectrogram, as it is stored.

        Args:
            arrays: (recording, column) of each; float16, all with the same n_mels.
            starts: 0: from the first possible frame on, 1: from the last.
            out: no frame outside of the crops is read, but when blocks of their file are read first, to be checked. A
                spectrogram with fewer frames repeats.

        Raises:
            AsdError: as `read`.
            ValueError: ``out`` has not room for as many crops of float16.
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
        """How many frames a spectrogram has."""
        shard, row = self._place(recording, column)
        return shard.n_frames(row, column)

    def n_mels(self, recording: str, column: str) -> int:
        """How many bands a spectrogram has."""
        return self._place(recording, column)[0].columns[column].height

    def n_bytes(self, recording: str, column: str) -> int:
        """How much of its file an array takes."""
        shard, row = self._place(recording, column)
        return shard.n_bytes(row, column)

    def _place(self, recording: str, column: str) -> Place:
        try:
            return self._places[column][recording]
        except KeyError as error:
            raise AsdError(f"{self.folder}: no row of recording {recording}; run the features stage again") from error

    def _opened(self, recording: str, column: str) -> Place:
        """The same, of an array that is read next."""
        place = self._place(recording, column)
        if place[0].file is None:
            self._open.append(place[0])
            if len(self._open) > MOST_OPEN:
                self._open.popleft().close()
        return place


def originals_of(folder: Path) -> Path:
    """The folder of the store that a store of variants extends; of any other store its own."""
    return folder.parent if folder.name.startswith(EXTENDS) else folder


def write_shard(folder: Path, rows: Iterable[tuple[str, Row]]) -> Path | None:
    """Write (recording, arrays) pairs as one shard of ``folder``, whole or not at all; return its path.

    No row, no shard: None. The store has one writer; several use `new_shard`, and one `mark_verified`.
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
        trust: a shard with the size and time of change that it had when it was last checked is not read again. What
            decays on the disk without a trace shows when it is read, by its checksum.
    """
    known = _verified(folder) if trust else {}
    changed = [path for path in _shards(folder) if known.get(path.name) != _state(path)]
    damaged = [path for path in changed if digest_of_file(path)[:16] not in path.name]
    if len(changed) > len(damaged):
        mark_verified(set(changed) - set(damaged))
    return damaged


def drop_damaged(folder: Path, *, trust: bool = True) -> list[Path]:
    """Delete the `damaged_shards` and return them. They are made again."""
    damaged = damaged_shards(folder, trust=trust)
    for path in damaged:
        path.unlink()
    return damaged


def mark_verified(shards: Iterable[Path]) -> None:
    """Note that shards have the digests in their names: they were just written. Their store has one writer."""
    by_folder: dict[Path, dict[str, list[int]]] = {}
    for path in shards:
        by_folder.setdefault(path.parent, {})[path.name] = _state(path)
    for folder, states in by_folder.items():
        there = {path.name for path in _shards(folder)}
        known = {name: state for name, state in (_verified(folder) | states).items() if name in there}
        with atomic_write(folder / VERIFIED) as temporary:
            temporary.write_text(json.dumps(known, sort_keys=True))


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*.parquet"))


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _verified(folder: Path) -> dict[str, list[int]]:
    try:
        known: dict[str, list[int]] = json.loads((folder / VERIFIED).read_text())
    except (FileNotFoundError, ValueError):
        return {}  # Then every shard is read.
    return known
