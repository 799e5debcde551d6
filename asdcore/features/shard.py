"""One Parquet file of a store: written row by row, read by the byte.

A row group holds one row, and a cell is one uncompressed page with a checksum: the values of an array stand in the file
one after the other, and whoever reads a span of frames touches the bytes of that span and no others. Any Parquet reader
opens a shard. A cell is the bytes of an array, ``float16`` or ``float32`` as its field's metadata says; a spectrogram
stands there frame by frame: ``np.frombuffer(cell, "float16").reshape(-1, n_mels)``.
"""

import os
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
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
        self._ends = np.array([[cell.data_page_offset + cell.total_compressed_size for cell in row] for row in cells])
        self._starts = np.array([[cell.data_page_offset for cell in row] for row in cells])
        """of the page; of its value, once that has been verified"""
        self._verified = np.zeros(self._starts.shape, bool)
        self.columns = {field.name: (i, *_shape(field)) for i, field in enumerate(list(schema)[1:])}
        """name: position, type and height of the arrays; height is n_mels, or 0 of vectors"""
        self._file: _File | None = None

    def n_frames(self, row: int, column: str) -> int:
        """The number of frames of a spectrogram, of values of a vector."""
        start, end, dtype, height = self._cell(row, column)
        return (end - start) // (dtype.itemsize * max(height, 1))

    def read(self, row: int, column: str) -> Array:
        """An array as it is stored: (n_frames, n_mels) of a spectrogram, (n,) of a vector.

        Raises:
            AsdError: it is damaged.
        """
        start, end, dtype, height = self._cell(row, column)
        values: Array = np.empty((end - start) // dtype.itemsize, dtype)
        self._read(start, values.data)
        return values.reshape(-1, height) if height else values

    def read_frames(self, row: int, column: str, first: int, out: Array) -> None:
        """Fill ``out``, (frames, n_mels), with the frames of a spectrogram from ``first`` on; no other frame is read.

        Raises:
            AsdError: it is damaged.
        """
        start, _, dtype, height = self._cell(row, column)
        if out.dtype != dtype:
            raise TypeError(f"{column} is {dtype}, not {out.dtype}")
        self._read(start + first * dtype.itemsize * height, out.data)

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def close(self) -> None:
        """Free the descriptor. The next reading opens the file again."""
        self._file = None

    def _read(self, position: int, out: memoryview) -> None:
        try:
            # A reader in another thread keeps its file although it is closed here.
            file = self._file = self._file or _File(self.path)
            if file.read(position, out) != out.nbytes:
                raise EOFError("the file ends too early")
        except (OSError, EOFError) as error:
            raise damaged(self.path, error) from error

    def _cell(self, row: int, column: str) -> tuple[int, int, np.dtype[np.generic], int]:
        """Where the value starts and ends, its type, and how many values a frame has (0: it has no frames).

        The checksum of an array is verified when any of it is read first.
        """
        i, dtype, height = self.columns[column]
        start, end = int(self._starts[row, i]), int(self._ends[row, i])
        if not self._verified[row, i]:
            page = bytearray(end - start)
            self._read(start, memoryview(page))
            try:
                start = end + _value_of_page(bytes(page))
            except ValueError as error:
                raise damaged(self.path, error) from error
            self._starts[row, i], self._verified[row, i] = start, True
        return start, end, dtype, height


class _File:
    """A file that is closed when nobody reads it any more."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    def read(self, position: int, out: memoryview) -> int:
        return os.preadv(self._descriptor, [out], position)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


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


def _shape(field: pa.Field) -> tuple[np.dtype[np.generic], int]:
    return np.dtype(field.metadata[b"dtype"].decode()), int(field.metadata[b"height"])


def _value_of_page(page: bytes) -> int:
    """Where the only value of an intact page starts, counted from the page's end: a negative number.

    The header is Thrift's compact protocol: kind, size, compressed size and CRC-32 are its first four fields, integers.

    Raises:
        ValueError: the page is not intact.
    """
    numbers, position = [], 0
    for _ in range(4):
        if page[position : position + 1] != b"\x15":
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
