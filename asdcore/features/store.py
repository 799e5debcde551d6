"""The Parquet store: one row a recording, one column a kind of array, in shards that are only ever added to.

A row group holds one row, so that reading any recording decodes that recording and no other.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.home import digest_of_file, whole_file

Row = dict[str, NDArray[np.float16] | NDArray[np.float32]]
"""column: array of one or two dimensions"""


@dataclass(frozen=True)
class Place:
    """Where a recording stands: which shard, which row."""

    shard: Path
    row: int


class Store:
    """Arrays by recording, in Parquet shards.

    Args:
        folder: where the shards are; need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, pq.ParquetFile] = {}
        self.places: dict[str, Place] = {}
        """recording digest: place"""
        for shard in sorted(folder.glob("shard-*.parquet")):
            try:
                column = pq.read_table(shard, columns=["recording"])["recording"]
            except (pa.ArrowInvalid, OSError) as error:
                raise _damaged(shard, error) from error
            for row, recording in enumerate(column.to_pylist()):
                self.places.setdefault(recording, Place(shard, row))

    def missing(self, recordings: Iterable[str]) -> list[str]:
        """Those of ``recordings`` that have no row, in their order."""
        return [recording for recording in recordings if recording not in self.places]

    def read(self, recording: str, column: str) -> NDArray[np.float32]:
        """One array of a recording, float32, in the shape that it was written with.

        Raises:
            AsdError: no such recording, or its shard is damaged.
        """
        place = self.places.get(recording)
        if place is None:
            raise AsdError(f"{self.folder}: no row of recording {recording}; run the features stage again")
        try:
            file = self._file(place.shard)
            values = file.read_row_group(place.row, columns=[column]).column(0).chunk(0).flatten()
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(place.shard, error) from error
        rows = (file.schema_arrow.field(column).metadata or {}).get(b"rows")
        array: NDArray[np.float32] = values.to_numpy(zero_copy_only=False).astype(np.float32)
        return array.reshape(int(rows), -1) if rows else array

    def _file(self, shard: Path) -> pq.ParquetFile:
        if shard not in self._files:
            self._files[shard] = pq.ParquetFile(shard, page_checksum_verification=True)
        return self._files[shard]


def write_shard(folder: Path, rows: Iterable[tuple[str, Row]]) -> Path | None:
    """Write (recording, arrays) pairs as one shard of ``folder``, whole or not at all; return its path.

    No row, no shard: None.

    Rows are written as they come, so that memory holds one. All have the same columns; two-dimensional columns have the
    same number of rows throughout. The shard is named after the digest of its content, which `drop_damaged` checks.
    """
    unnamed = folder / f".shard-{uuid.uuid4().hex[:8]}.partial"
    with whole_file(unnamed) as temporary:
        temporary.touch()
        writer: pq.ParquetWriter | None = None
        try:
            for recording, arrays in rows:
                table = _table(recording, arrays)
                writer = writer or pq.ParquetWriter(
                    temporary,
                    table.schema,
                    compression="none",
                    use_dictionary=False,
                    write_statistics=False,
                    write_page_checksum=True,
                )
                writer.write_table(table)
        finally:
            if writer:
                writer.close()
    if writer is None:
        unnamed.unlink()
        return None
    return unnamed.rename(folder / f"shard-{digest_of_file(unnamed)[:16]}.parquet")


def drop_damaged(folder: Path) -> list[Path]:
    """Delete each shard whose content does not have the digest in its name; return them. They are made again."""
    damaged = [path for path in sorted(folder.glob("shard-*.parquet")) if digest_of_file(path)[:16] not in path.name]
    for path in damaged:
        path.unlink()
    return damaged


def _damaged(shard: Path, error: Exception) -> AsdError:
    return AsdError(f"{shard}: damaged ({error}). Run the same command again: it is made anew")


def _table(recording: str, arrays: Row) -> pa.Table:
    fields, columns = [pa.field("recording", pa.string())], [pa.array([recording])]
    for name, values in arrays.items():
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        columns.append(pa.LargeListArray.from_arrays(pa.array([0, len(flat)], pa.int64()), flat))
        fields.append(
            pa.field(name, columns[-1].type, metadata={"rows": str(len(values))} if values.ndim == 2 else None)
        )
    return pa.table(columns, schema=pa.schema(fields))
