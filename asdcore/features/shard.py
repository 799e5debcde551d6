"""One Parquet file of a store: written row by row, read by the byte.

A row group holds one row, and a cell is one uncompressed page: the values of an array stand in the file one after the
other, and whoever reads a span of frames touches the bytes of that span and no others. Any Parquet reader opens it. A
cell is the bytes of an array, ``float16`` or ``float32`` as its field's metadata says; a spectrogram stands there frame
by frame: ``np.frombuffer(cell, "float16").reshape(-1, n_mels)``. The last column, ``checksums``, has a CRC-32 (uint32)
of each block of `BLOCK` bytes of the row's cells, one cell after the other.
"""

import os
import uuid
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.storage.files import atomic_write, digest_of_file

Array = NDArray[np.float16] | NDArray[np.float32]

BLOCK = 4096
"""Bytes that are checked together when any of them is read first: 16 frames of 128 float16 bands. A span of two blocks
or more never takes more than twice what it is.
"""
BUFFER = 4 * 2**20
"""Bytes that are written at once. The system keeps what it gets in large pieces in large pages, faster to read from."""
CHECKSUMS = "checksums"
CHECKSUM = np.dtype("<u4")


@dataclass(frozen=True)
class Column:
    """The arrays of one name in a shard."""

    index: int
    dtype: np.dtype[np.generic]
    height: int
    """n_mels of spectrograms, 0 of vectors"""

    @cached_property
    def frame_bytes(self) -> int:
        return self.dtype.itemsize * self.height


def first_frame(n_frames: int, frames: int, start: float) -> int:
    """The first frame of a crop of ``frames`` out of ``n_frames``; ``start``: 0 is the first possible one, 1 the last.

    >>> [first_frame(10, 4, start) for start in (0.0, 0.5, 1.0)]
    [0, 3, 6]
    """
    last = n_frames - frames
    return min(int(start * (last + 1)), last) if last > 0 else 0


class Shard:
    """The arrays of a Parquet file that `NewShard` has written.

    Raises:
        AsdError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            metadata = pq.read_metadata(path)
            if b"lengths" not in (metadata.metadata or {}):
                raise AsdError(f"{path} was written by another version of asd. Delete its folder: it is computed again")
            self.recordings: list[str] = metadata.metadata[b"recordings"].decode().split()
            """digests, row by row"""
            lengths = [int(length) for length in metadata.metadata[b"lengths"].split()]
            rows = [metadata.row_group(row) for row in range(metadata.num_row_groups)]
            cells = [row.column(i) for row in rows for i in range(1, row.num_columns)]
            schema = metadata.schema.to_arrow_schema()
            # Without compression and dictionary the value is the last thing in its chunk.
            ends = [cell.data_page_offset + cell.total_compressed_size for cell in cells]
            starts = [end - length for end, length in zip(ends, lengths, strict=True)]
            if min(lengths, default=0) < 0 or min(starts, default=0) < 0:
                raise ValueError("lengths of its values unreadable")
        except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
            raise damaged(path, error) from error
        self._starts = array("q", starts)
        """of the values"""
        self._lengths = array("q", lengths)
        self.columns = {field.name: Column(i, *_kind(field)) for i, field in enumerate(list(schema)[1:-1])}
        """by name"""
        self._width = len(self.columns) + 1
        self._blocks = array("q", accumulate((-(-length // BLOCK) for length in lengths), initial=0))
        """how many blocks are before those of each cell; those of checksums count and are not used"""
        self._verified = bytearray(self._blocks[-1])
        """of each block"""
        self.file: OpenFile | None = None
        """there while it is open"""

    def n_bytes(self, row: int, column: str) -> int:
        """How long the value of an array is."""
        return self._lengths[row * self._width + self.columns[column].index]

    def n_frames(self, row: int, column: str) -> int:
        """The number of frames of a spectrogram."""
        return self.n_bytes(row, column) // self.columns[column].frame_bytes

    def read(self, row: int, column: str) -> Array:
        """An array as it is stored: (n_frames, n_mels) of a spectrogram, (n,) of a vector.

        Raises:
            AsdError: it is damaged.
        """
        kind = self.columns[column]
        cell = row * self._width + kind.index
        values: Array = np.empty(self._lengths[cell] // kind.dtype.itemsize, kind.dtype)
        self._read(cell, 0, bytes_of(values))
        return values.reshape(-1, kind.height) if kind.height else values

    def crop(self, row: int, column: str, start: float, frames: int, out: memoryview) -> None:
        """Fill ``out``, as many bytes as ``frames`` frames have, with a crop of a spectrogram; see `Store.crops`.

        Raises:
            AsdError: it is damaged.
        """
        kind = self.columns[column]
        cell, frame_bytes = row * self._width + kind.index, kind.frame_bytes
        length, size = self._lengths[cell], frames * frame_bytes
        if size != len(out):
            raise ValueError(f"{frames} frames of {column} are {size} bytes, not {len(out)}")
        if length >= size:
            self._read(cell, first_frame(length // frame_bytes, frames, start) * frame_bytes, out)
            return
        self._read(cell, 0, out[:length])
        for first in range(length, size, length):
            out[first : first + length] = out[: min(length, size - first)]

    def close(self) -> None:
        """Free the descriptor. The next reading opens the file again."""
        self.file = None

    def _read(self, cell: int, offset: int, out: memoryview) -> None:
        """Fill ``out`` with the bytes of a value from ``offset`` on, intact."""
        first, last = offset // BLOCK, -(-(offset + len(out)) // BLOCK)
        before = self._blocks[cell]
        if self._verified.find(0, before + first, before + last) < 0:
            self._take(self._starts[cell] + offset, out)
            return
        taken = memoryview(bytearray(min(last * BLOCK, self._lengths[cell]) - first * BLOCK))
        self._take(self._starts[cell] + first * BLOCK, taken)
        if self._checksums(cell, first, last) != checksums_of(taken):
            raise damaged(self.path, ValueError("checksum does not agree"))
        self._verified[before + first : before + last] = bytes([1]) * (last - first)
        out[:] = taken[offset - first * BLOCK :][: len(out)]

    def _checksums(self, cell: int, first: int, last: int) -> list[int]:
        """Of the blocks of a cell."""
        of_row = cell - cell % self._width
        wanted = np.empty(last - first, CHECKSUM)
        before = self._blocks[cell] - self._blocks[of_row] + first
        self._take(self._starts[of_row + self._width - 1] + before * wanted.itemsize, bytes_of(wanted))
        return list(wanted.tolist())

    def _take(self, position: int, out: memoryview) -> None:
        """Fill ``out`` from the file."""
        try:
            # A reader in another thread keeps its file although it is closed here.
            file = self.file = self.file or OpenFile(self.path)
            if os.preadv(file.descriptor, (out,), position) != len(out):
                raise EOFError("the file ends too early")
        except (OSError, EOFError) as error:
            raise damaged(self.path, error) from error


class OpenFile:
    """A file that is closed when nobody reads it any more."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class NewShard:
    """A shard that is being written; `path` is there when it is whole. No row, no shard: None."""

    def __init__(self, temporary: Path) -> None:
        self.path: Path | None = None
        self._file: pa.NativeFile = pa.output_stream(temporary, compression=None, buffer_size=BUFFER)
        self._writer: pq.ParquetWriter | None = None
        self._recordings: list[str] = []
        self._lengths: list[int] = []

    def add(self, recording: str, arrays: dict[str, Array]) -> None:
        """One more row. All rows have the same columns; a spectrogram, (n_mels, n_frames), always the same n_mels."""
        values = {name: array.T.tobytes() for name, array in arrays.items()}
        checksums = [checksum for value in values.values() for checksum in checksums_of(memoryview(value))]
        values[CHECKSUMS] = np.array(checksums, CHECKSUM).tobytes()
        table = _table(recording, arrays, values)
        self._writer = self._writer or pq.ParquetWriter(
            self._file,
            table.schema,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
        )
        self._writer.write_table(table)
        self._recordings.append(recording)
        self._lengths += [len(value) for value in values.values()]

    def close(self) -> None:
        with self._file:
            if self._writer:
                lengths = " ".join(str(length) for length in self._lengths)
                self._writer.add_key_value_metadata({"recordings": " ".join(self._recordings), "lengths": lengths})
                self._writer.close()


@contextmanager
def new_shard(folder: Path) -> Iterator[NewShard]:
    """Write a shard of ``folder``, whole or not at all. Rows are written as they come: memory holds one.

    The shard is named after the digest of its content, which `drop_damaged` checks.
    """
    unnamed = folder / f".shard-{uuid.uuid4().hex[:8]}.partial"
    with atomic_write(unnamed) as temporary:
        shard = NewShard(temporary)
        try:
            yield shard
        finally:
            shard.close()
    if shard._recordings:
        shard.path = unnamed.rename(folder / f"shard-{digest_of_file(unnamed)[:16]}.parquet")
    else:
        unnamed.unlink()


def damaged(shard: Path, error: Exception) -> AsdError:
    return AsdError(f"{shard}: damaged ({error}). Run the same command again: it is computed again")


def bytes_of(values: NDArray[np.generic]) -> memoryview:
    """The memory of an array; a TypeError if it is not contiguous."""
    return values.data.cast("B")


def checksums_of(value: memoryview) -> list[int]:
    """CRC-32 of each block."""
    return [zlib.crc32(value[start : start + BLOCK]) for start in range(0, len(value), BLOCK)]


def _table(recording: str, arrays: dict[str, Array], values: dict[str, bytes]) -> pa.Table:
    fields = [pa.field("recording", pa.string(), nullable=False)]
    for name, own in arrays.items():
        shape = {"dtype": str(own.dtype), "height": str(len(own) if own.ndim == 2 else 0)}
        fields.append(pa.field(name, pa.binary(), nullable=False, metadata=shape))
    fields.append(pa.field(CHECKSUMS, pa.binary(), nullable=False))
    columns = [pa.array([recording]), *(pa.array([value], pa.binary()) for value in values.values())]
    return pa.table(columns, schema=pa.schema(fields))


def _kind(field: pa.Field) -> tuple[np.dtype[np.generic], int]:
    return np.dtype(field.metadata[b"dtype"].decode()), int(field.metadata[b"height"])
