from pathlib import Path

import numpy as np
import pytest

from asdcore.features.cleanup import delete_orphans, find_orphans
from asdcore.features.store import EXTENDS, Row, Store, write_shard


def row(name: str) -> Row:
    return {"original": np.full((4, 5), ord(name), np.float16), "h": np.full(3, ord(name), np.float32)}


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"}


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """Two stores; each has recordings a, b, c in a shard, d in another, and variants of them by two settings."""
    for name in ("now", "once"):
        for folder in (tmp_path / name, tmp_path / name / f"{EXTENDS}1", tmp_path / name / f"{EXTENDS}2"):
            write_shard(folder, [(recording, row(recording)) for recording in "abc"])
            write_shard(folder, [("d", row("d"))])
    return tmp_path


def test_stores_that_nobody_claims_can_go_and_the_store_below_a_claimed_one_stays(features: Path) -> None:
    before = files(features)
    claimed = [features / "now" / f"{EXTENDS}1"]
    orphans = find_orphans(features, claimed, "abcd")
    assert orphans.stores == [features / "once", features / "now" / f"{EXTENDS}2"]
    assert (orphans.shards, orphans.damaged, orphans.partials) == ({}, [], [])
    gone = {path for path in before if any(store in path.parents for store in orphans.stores)}
    assert 0 < sum(len(before[path]) for path in gone) <= orphans.size
    assert files(features) == before  # Finding changes nothing.
    delete_orphans(orphans)
    assert files(features) == {path: content for path, content in before.items() if path not in gone}
    again = find_orphans(features, claimed, "abcd")
    assert (again.stores, again.size) == ([], 0)


def test_recordings_that_are_not_known_leave_and_the_others_stay_as_they_are(features: Path) -> None:
    now, variants = features / "now", features / "now" / f"{EXTENDS}1"
    orphans = find_orphans(features, [variants, now / f"{EXTENDS}2", features / "once"], "ac")
    shards = [path for path in orphans.shards if path.parent == now]
    assert sorted(tuple(orphans.shards[path]) for path in shards) == [("b",), ("d",)]
    delete_orphans(orphans)
    store = Store(variants)
    assert sorted(store.recordings) == ["a", "c"]
    for recording in "ac":
        np.testing.assert_array_equal(store.read(recording, "original"), row(recording)["original"])
        np.testing.assert_array_equal(store.read(recording, "h"), row(recording)["h"])
    assert len(list(now.glob("shard-*"))) == 1


def test_damaged_shards_and_what_killed_writers_left_are_found(features: Path) -> None:
    claimed = [features / "now", features / "once"]
    (features / "now" / ".shard-1.partial").write_bytes(b"half")
    (features / "once" / f"{EXTENDS}1" / ".shard-2.partial").write_bytes(b"goes with its folder")
    shard = max((features / "now").glob("shard-*"), key=lambda path: path.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-10])
    orphans = find_orphans(features, claimed, "abcd")
    assert (orphans.damaged, orphans.partials) == ([shard], [features / "now" / ".shard-1.partial"])
    delete_orphans(orphans)
    assert find_orphans(features, claimed, "abcd").size == 0
    assert Store(features / "now").recordings == ["d"]
