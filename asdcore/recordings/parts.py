"""The files of the table of recordings: each change writes a small one, and many are merged into one."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from asdcore.errors import AsdError
from asdcore.storage.files import atomic_write, listed, may_be_damaged

MOST_PARTS = 100
"""With more, opening them takes longer than reading: 1.5 ms each, several times for each batch of recordings."""
MERGED = "merged"
"""The end of the name of a merged part. It sorts after the hexadecimal digits of the parts that are in it."""
_ATTEMPTS = 10


def read_parts(folder: Path, schema: pa.Schema) -> tuple[pa.Table, int]:
    """All rows in the order in which they were written, and the number of the next part.

    Args:
        folder: need not exist.
        schema: columns that a part of an older version lacks are null.

    Raises:
        AsdError: a part that is damaged.
    """
    for _ in range(_ATTEMPTS):
        parts = listed(folder, "part-*.parquet")
        try:
            tables = [_read_part(part, schema) for part in parts]
        except FileNotFoundError:
            continue  # Merged in the meantime.
        rows = pa.concat_tables(tables) if tables else schema.empty_table()
        return rows, int(parts[-1].stem.split("-")[1]) + 1 if parts else 0
    raise AsdError(f"{folder}: its files disappear while they are read")


def merge_parts(folder: Path, schema: pa.Schema) -> None:
    """Merge all parts into one if there are more than `MOST_PARTS`. Requires the lock of the table.

    The merged part has the number of the last one. Where the process is killed before all of the others are deleted,
    their rows are there twice: they come before those of the merged part, which hold.

    Raises:
        AsdError: see `read_parts`; the disk is full, and nothing has changed.
    """
    parts = listed(folder, "part-*.parquet")
    if len(parts) <= MOST_PARTS:
        return
    rows = pa.concat_tables([_read_part(part, schema) for part in parts])
    merged = folder / f"part-{parts[-1].stem.split('-')[1]}-{MERGED}.parquet"
    with atomic_write(merged) as temporary:
        pq.write_table(rows, temporary)
    for part in parts:
        if part != merged:
            part.unlink(missing_ok=True)


def _read_part(part: Path, schema: pa.Schema) -> pa.Table:
    try:
        return pq.read_table(part, schema=schema)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, FileNotFoundError) and not os.path.lexists(part):
            raise
        if not may_be_damaged(error):
            raise AsdError(f"{part}: unreadable ({error}). Is the drive or the share mounted?") from error
        raise AsdError(
            f"{part}: damaged ({error}). Restore it from a backup; without one, move it away and ingest the recordings "
            "again: labels in it are lost"
        ) from error
