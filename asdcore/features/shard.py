"""One Parquet file of a store: written row by row, read by the byte.

A row group holds one row, and a cell is one uncompressed page with a checksum: the values of an array stand in the file
one after the other, and whoever reads a span of frames touches the bytes of that span and no others. Any Parquet reader
opens a shard. A cell is the bytes of an array, ``float16`` or ``float32`` as its field's metadata says; a spectrogram
stands there frame by frame: ``np.frombuffer(cell, "float16").reshape(-1, n_mels)``.
"""

import os
import uuid
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.home import digest_of_file, whole_file

Array = NDArray[np.float16] | NDArray[np.float32]

LENGTH = 4
"""Bytes before the value of a cell that say how long it is."""


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
    return max(min(int(start * (n_frames - frames + 1)), n_frames - frames), 0)


class Shard:
    """The arrays of a Parquet file that `NewShard` has written.

    Raises:
        AsdError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            metadata = pq.read_metadata(path)
            self.recordings: list[str] = metadata.metadata[b"recordings"].decode().split()
            """digests, row by row"""
            rows = [metadata.row_group(row) for row in range(metadata.num_row_groups)]
            cells = [[row.column(i) for i in range(1, row.num_columns)] for row in rows]
            schema = metadata.schema.to_arrow_schema()
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            raise damaged(path, error) from error
        starts = [cell.data_page_offset for row in cells for cell in row]
        ends = (cell.data_page_offset + cell.total_compressed_size for row in cells for cell in row)
        self._starts = array("q", starts)
        """of the page; of its value, once that has been verified"""
        self._ends = array("q", ends)
        self._verified = bytearray(len(starts))
        self.columns = {field.name: Column(i, *_kind(field)) for i, field in enumerate(list(schema)[1:])}
        """by name"""
        self._width = len(self.columns)
        self.file: OpenFile | None = None
        """there while it is open"""

    def n_bytes(self, row: int, column: str) -> int:
        """How much of the file an array takes."""
        cell = row * self._width + self.columns[column].index
        return int(self._ends[cell] - self._starts[cell])

    def n_frames(self, row: int, column: str) -> int:
        """The number of frames of a spectrogram."""
        start, end, kind = self._cell(row, column)
        return (end - start) // kind.frame_bytes

    def read(self, row: int, column: str) -> Array:
        """An array as it is stored: (n_frames, n_mels) of a spectrogram, (n,) of a vector.

        Raises:
            AsdError: it is damaged.
        """
        start, end, kind = self._cell(row, column)
        values: Array = np.empty((end - start) // kind.dtype.itemsize, kind.dtype)
        self._read(start, values)
        return values.reshape(-1, kind.height) if kind.height else values

    def crop(self, row: int, column: str, start: float, out: Array) -> None:
        """Fill ``out``, (frames, n_mels), with a crop of a spectrogram; see `Store.crops`. No other frame is read.

        Raises:
            AsdError: it is damaged.
        """
        place, end, kind = self._cell(row, column)
        if out.dtype is not kind.dtype and out.dtype != kind.dtype:
            raise TypeError(f"{column} is {kind.dtype}, not {out.dtype}")
        frames, n_frames = len(out), (end - place) // kind.frame_bytes
        if n_frames >= frames:
            self._read(place + first_frame(n_frames, frames, start) * kind.frame_bytes, out)
            return
        self._read(place, out[:n_frames])
        for first in range(n_frames, frames, n_frames):
            out[first : first + n_frames] = out[: min(n_frames, frames - first)]

    def close(self) -> None:
        """Free the descriptor. The next reading opens the file again."""
        self.file = None

    def _read(self, position: int, out: Array | NDArray[np.uint8]) -> None:
        try:
            # A reader in another thread keeps its file although it is closed here.
            file = self.file = self.file or OpenFile(self.path)
            if os.preadv(file.descriptor, [out.data], position) != out.nbytes:
                raise EOFError("the file ends too early")
        except (OSError, EOFError) as error:
            raise damaged(self.path, error) from error

    def _cell(self, row: int, column: str) -> tuple[int, int, "Column"]:
        """Where the value starts and ends, and its kind.

        The checksum of an array is verified when any of it is read first.
        """
        kind = self.columns[column]
        cell = row * self._width + kind.index
        start, end = self._starts[cell], self._ends[cell]
        if not self._verified[cell]:
            start = self._verify(cell)
        return start, end, kind

    def _verify(self, cell: int) -> int:
        start, end = int(self._starts[cell]), int(self._ends[cell])
        page = np.empty(end - start, np.uint8)
        self._read(start, page)
        try:
            start = end + _value_of_page(page.data)
        except ValueError as error:
            raise damaged(self.path, error) from error
        self._starts[cell], self._verified[cell] = start, True
        return start


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
        self._temporary = temporary
        self._writer: pq.ParquetWriter | None = None
        self._recordings: list[str] = []

    def add(self, recording: str, arrays: dict[str, Array]) -> None:
        """One more row. All rows have the same columns; a spectrogram, (n_mels, n_frames), always the same n_mels."""
        table = _table(recording, arrays)
        self._writer = self._writer or pq.ParquetWriter(
            self._temporary,
            table.schema,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )
        self._writer.write_table(table)
        self._recordings.append(recording)

    def close(self) -> None:
        if self._writer:
            self._writer.add_key_value_metadata({"recordings": " ".join(self._recordings)})
            self._writer.close()


@contextmanager
def new_shard(folder: Path) -> Iterator[NewShard]:
    """Write a shard of ``folder``, whole or not at all. Rows are written as they come: memory holds one.

    The shard is named after the digest of its content, which `drop_damaged` checks.
    """
    unnamed = folder / f".shard-{uuid.uuid4().hex[:8]}.partial"
    with whole_file(unnamed) as temporary:
        temporary.touch()
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
    return AsdError(f"{shard}: damaged ({error}). Run the same command again: it is made anew")


def _table(recording: str, arrays: dict[str, Array]) -> pa.Table:
    fields, columns = [pa.field("recording", pa.string(), nullable=False)], [pa.array([recording])]
    for name, values in arrays.items():
        shape = {"dtype": str(values.dtype), "height": str(len(values) if values.ndim == 2 else 0)}
        fields.append(pa.field(name, pa.binary(), nullable=False, metadata=shape))
        columns.append(pa.array([values.T.tobytes()], pa.binary()))
    return pa.table(columns, schema=pa.schema(fields))


def _kind(field: pa.Field) -> tuple[np.dtype[np.generic], int]:
    return np.dtype(field.metadata[b"dtype"].decode()), int(field.metadata[b"height"])


def _value_of_page(page: memoryview) -> int:
    """Where the only value of an intact page starts, counted from the page's end: a negative number.

    The header is Thrift's compact protocol: kind, size, compressed size and CRC-32 are its first four fields, integers.

    Raises:
        ValueError: the page is not intact.
    """
    numbers, position = [], 0
    for _ in range(4):
        if bytes(page[position : position + 1]) != b"\x15":
            raise ValueError("page header unreadable")
        number, shift, position = 0, 0, position + 1
        while position < len(page):
            number |= (page[position] & 0x7F) << shift
            shift, position = shift + 7, position + 1
            if page[position - 1] < 0x80:
                break
        numbers.append((number >> 1) ^ -(number & 1))
    size, checksum = numbers[2], numbers[3] & 0xFFFFFFFF
    body = page[len(page) - size :]
    if not LENGTH <= size < len(page) or zlib.crc32(body) != checksum:
        raise ValueError("checksum does not agree")
    if int.from_bytes(body[:LENGTH], "little") != size - LENGTH:
        raise ValueError("not one value a page")
    return LENGTH - size
