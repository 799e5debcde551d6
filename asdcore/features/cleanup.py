"""What in the folder of features nobody needs any more: found first, deleted only when asked."""

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from asdcore.features.shard import Shard
from asdcore.features.store import EXTENDS, Row, damaged_shards, drop_damaged, originals_of, write_shard


@dataclass(frozen=True)
class Orphans:
    """What can go."""

    stores: list[Path]
    """folders of settings, or of versions of the code, that are not claimed"""
    shards: dict[Path, list[str]]
    """in the other stores: recordings that are not known any more, by shard"""
    damaged: list[Path]
    """shards that have another content than they were written with"""
    partials: list[Path]
    """left by writers that were killed"""

    def __bool__(self) -> bool:
        return bool(self.stores or self.shards or self.damaged or self.partials)

    size: int
    """bytes that deleting them frees; of a shard with rows that stay, its share"""


def find_orphans(features: Path, claimed: Collection[Path], known: Collection[str], *, verify: bool = False) -> Orphans:
    """Look for what nobody needs. Nothing is changed.

    Args:
        features: the folder of all stores of features.
        claimed: folders of the stores that stay; the store that one extends stays, too.
        known: digests of the recordings that stay.
        verify: read every shard that stays, also those that seem unchanged since they were last checked.
    """
    kept = {*claimed, *map(originals_of, claimed)}
    folders = [folder for folder in sorted(features.glob("*/")) if not folder.name.startswith(".")]
    stores = [folder for folder in folders if folder not in kept]
    inner = [variants for folder in folders if folder in kept for variants in sorted(folder.glob(f"{EXTENDS}*/"))]
    stores += [variants for variants in inner if variants not in kept]
    stay = [folder for folder in [*folders, *inner] if folder in kept]
    damaged = [shard for folder in stay for shard in damaged_shards(folder, trust=not verify)]
    there, shards = set(known), {}
    for path in (path for folder in stay for path in sorted(folder.glob("shard-*.parquet")) if path not in damaged):
        gone = [recording for recording in Shard(path).recordings if recording not in there]
        if gone:
            shards[path] = gone
    partials = [path for path in sorted(features.rglob(".*.partial")) if not set(path.parents) & set(stores)]
    whole = sum(file.stat().st_size for place in (*stores, *damaged, *partials) for file in _files(place))
    rows = sum(path.stat().st_size * len(gone) // len(Shard(path).recordings) for path, gone in shards.items())
    return Orphans(stores, shards, damaged, partials, whole + rows)


def delete_orphans(orphans: Orphans) -> None:
    """Delete them, under the home's lock. A shard with rows that stay is replaced by one that has only those."""
    for path, gone in orphans.shards.items():
        write_shard(path.parent, _rows_without(Shard(path), set(gone)))
        path.unlink()
    for folder in {path.parent for path in orphans.damaged}:
        drop_damaged(folder, trust=False)
    for place in [*orphans.stores, *orphans.partials]:
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)


def _rows_without(shard: Shard, gone: Collection[str]) -> Iterator[tuple[str, Row]]:
    for row, recording in enumerate(shard.recordings):
        if recording not in gone:
            yield recording, {column: shard.read(row, column).T for column in shard.columns}


def _files(place: Path) -> list[Path]:
    return [file for file in place.rglob("*") if file.is_file()] if place.is_dir() else [place]
