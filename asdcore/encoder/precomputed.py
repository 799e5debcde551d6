"""Embeddings that were computed elsewhere, read from a Parquet table."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from asdcore.encoder.frozen import FrozenEncoder, Sound
from asdcore.errors import AsdError
from asdcore.recordings.audio import BadRecording
from asdcore.storage.files import digest_of

_FORMAT = (
    "it needs the columns path (of the recording; relative to this file) or recording (SHA-256 of its content), "
    "embedding (a list of numbers), and clip, counted from 1, if recordings are cut into clips"
)


class PrecomputedEmbeddings(FrozenEncoder):
    """Embeddings that are looked up in a Parquet table instead of being computed.

    One row per recording or clip: ``path`` or ``recording`` (SHA-256 of the file's content), ``embedding`` (a list of d
    numbers), and for recordings that are cut ``clip``, counted from 1. Rows of new recordings may be added at any time.
    The file's metadata may have the entry ``encoder``, the name and revision of what made them: with other metadata or
    another d it is another encoder.

    Args:
        source: the file.

    Raises:
        AsdError: no such file, no Parquet table, or a column is missing or wrong.
    """

    def __init__(self, source: Path | None = None) -> None:
        super().__init__(source)
        if source is None:
            raise AsdError("the encoder embeddings needs source: the Parquet file of the embeddings")
        try:
            table = pq.read_table(source)
        except (OSError, pa.ArrowException) as error:
            raise AsdError(f"{source}: cannot be read as a Parquet table of embeddings ({error})") from error
        names = set(table.column_names)
        if "embedding" not in names or not names & {"path", "recording"}:
            raise AsdError(f"{source}: has the columns {', '.join(table.column_names)}; {_FORMAT}")
        self._vectors = _matrix(table["embedding"], source)
        clips = table["clip"].to_pylist() if "clip" in names else [1] * len(table)
        self._row: dict[tuple[str, int], int] = {}
        for column in ("recording", "path"):
            for row, value in enumerate(table[column].to_pylist() if column in names else []):
                known = str((source.parent / value).resolve()) if column == "path" and value else value
                if known:
                    self._row[known, int(clips[row] or 1)] = row
        about = (table.schema.metadata or {}).get(b"encoder", b"").decode(errors="replace")
        self.revision = about
        self.digest = digest_of("embeddings", about, str(self._vectors.shape[1]))

    def embedding_of(self, sound: Sound) -> NDArray[np.float32]:
        """The row of this clip.

        Raises:
            BadRecording: there is none.
        """
        keys = [(sound.clip.recording, sound.clip.number)]
        keys += [(str(sound.path.resolve()), sound.clip.number)] if sound.path else []
        for key in keys:
            if key in self._row:
                vector: NDArray[np.float32] = self._vectors[self._row[key]]
                return vector
        part = f", clip {sound.clip.number} of {sound.clip.count}" if sound.clip.count > 1 else ""
        raise BadRecording(f"no embedding of it{part} in {self.source}: add a row for it")


def _matrix(column: pa.ChunkedArray, source: Path) -> NDArray[np.float32]:
    """(n, d).

    Raises:
        AsdError: not lists of numbers, or not of one length.
    """
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise AsdError(f"{source}: the column embedding is of type {kind}, not lists of numbers")
    rows = column.to_pylist()
    lengths = {len(row or ()) for row in rows}
    if len(lengths) != 1 or 0 in lengths:
        raise AsdError(
            f"{source}: embeddings have {sorted(lengths)} values; all need the same number, and at least one"
        )
    try:
        return np.array(rows, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise AsdError(f"{source}: the column embedding is of type {kind}, not lists of numbers") from error
