"""Find features that are no longer needed; delete them only on request."""

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from asdcore.features.shard import Shard
from asdcore.features.store import EXTENDS, Row, damaged_shards, drop_damaged, originals_of, write_shard


@dataclass(frozen=True)
class Orphans:
    """What can be deleted."""

    stores: list[Path]
    """folders of settings, or of code versions, that are no longer in use"""
    shards: dict[Path, list[str]]
    """in the other stores: recordings that are no longer known, by shard"""
    damaged: list[Path]
    """shards whose content does not match their digest"""
    partials: list[Path]
    """temporary files of killed writers"""

    def __bool__(self) -> bool:
        return bool(self.stores or self.shards or self.damaged or self.partials)

    size: int
    """bytes that deleting them frees; of a shard with rows that stay, the fraction of the others"""


def find_orphans(features: Path, claimed: Collection[Path], known: Collection[str], *, verify: bool = False) -> Orphans:
    """Find what is no longer needed. Nothing is changed.

    Args:
        features: the folder of all stores of features.
        claimed: folders of the stores that stay; the stores that they extend stay, too.
        known: digests of the recordings that stay.
        verify: read every shard that stays, also those that seem unchanged since they were last checked.
    """
    used = {*claimed, *map(originals_of, claimed)}
    folders = [folder for folder in sorted(features.glob("*/")) if not folder.name.startswith(".")]
    stores = [folder for folder in folders if folder not in used]
    inner = [variants for folder in folders if folder in used for variants in sorted(folder.glob(f"{EXTENDS}*/"))]
    stores += [variants for variants in inner if variants not in used]
    stay = [folder for folder in [*folders, *inner] if folder in used]
    damaged = [shard for folder in stay for shard in damaged_shards(folder, trust=not verify)]
    known_recordings, shards = set(known), {}
    for path in (path for folder in stay for path in sorted(folder.glob("shard-*.parquet")) if path not in damaged):
        unknown = [recording for recording in Shard(path).recordings if recording not in known_recordings]
        if unknown:
            shards[path] = unknown
    partials = [path for path in sorted(features.rglob(".*.partial")) if not set(path.parents) & set(stores)]
    files_size = sum(file.stat().st_size for path in (*stores, *damaged, *partials) for file in _files(path))
    rows_size = sum(
        path.stat().st_size * len(unknown) // len(Shard(path).recordings) for path, unknown in shards.items()
    )
    return Orphans(stores, shards, damaged, partials, files_size + rows_size)


def delete_orphans(orphans: Orphans) -> None:
    """Delete them; requires the home's lock. A shard with rows that stay is rewritten with only those."""
    for path, unknown in orphans.shards.items():
        write_shard(path.parent, _rows_without(Shard(path), set(unknown)))
        path.unlink()
    for folder in {path.parent for path in orphans.damaged}:
        drop_damaged(folder, trust=False)
    for leftover in [*orphans.stores, *orphans.partials]:
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def _rows_without(shard: Shard, unknown: Collection[str]) -> Iterator[tuple[str, Row]]:
    for row, recording in enumerate(shard.recordings):
        if recording not in unknown:
            yield recording, {column: shard.read(row, column).T for column in shard.columns}


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
