import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from asdcore.errors import AsdError
from asdcore.features import store as store_module
from asdcore.features.shard import new_shard
from asdcore.features.store import EXTENDS, VERIFIED, Row, Store, drop_damaged, write_shard
from asdcore.storage.files import digest_of_file, sweep_partial

FRAMES = {"a": 20, "b": 31, "c": 7, "d": 12}


def row(recording: str) -> Row:
    rng = np.random.default_rng(ord(recording))
    return {
        "original": rng.normal(-40, 10, (16, FRAMES[recording])).astype(np.float16),
        "mask_500": rng.normal(-40, 10, (16, FRAMES[recording])).astype(np.float16),
        "h": rng.normal(size=8).astype(np.float32),
    }


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = write_shard(tmp_path / "store", ((recording, row(recording)) for recording in "abc"))
    assert path is not None
    return path


def flip_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


def position_of(path: Path, recording: str, column: str) -> int:
    """A byte in the middle of the pages that hold this one array."""
    file = pq.ParquetFile(path)
    group = file.metadata.row_group("abc".index(recording))
    chunk = next(
        group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema.split(".")[0] == column
    )
    return int(chunk.data_page_offset + chunk.total_compressed_size // 2)


def test_arrays_come_back_as_they_were_written(shard: Path) -> None:
    store = Store(shard.parent)
    assert set(store.recordings) == set("abc")
    for recording in "cab":
        for column, values in row(recording).items():
            got = store.read(recording, column)
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got, values.astype(np.float32))


def test_a_shard_is_plain_parquet_with_one_row_group_a_recording(shard: Path) -> None:
    file = pq.ParquetFile(shard)
    assert file.schema_arrow.names == ["recording", "original", "mask_500", "h", "checksums"]
    assert file.metadata.num_row_groups == 3
    cells = file.read_row_group(1, columns=["original", "h"]).to_pylist()[0]
    np.testing.assert_array_equal(np.frombuffer(cells["original"], "float16").reshape(-1, 16).T, row("b")["original"])
    np.testing.assert_array_equal(np.frombuffer(cells["h"], "float32"), row("b")["h"])


def test_only_the_named_array_of_the_named_recording_is_read(shard: Path) -> None:
    # Checksums are verified on reading: had any other array been touched, this read would fail.
    for recording in "abc":
        for column in ("original", "mask_500", "h"):
            if (recording, column) != ("b", "original"):
                flip_byte(shard, position_of(shard, recording, column))
    store = Store(shard.parent)
    np.testing.assert_array_equal(store.read("b", "original"), row("b")["original"].astype(np.float32))
    with pytest.raises(AsdError, match="damaged"):
        store.read("b", "mask_500")


def test_missing_keeps_the_order_and_leaves_out_what_is_there(shard: Path) -> None:
    assert Store(shard.parent).missing(["z", "a", "y", "b"]) == ["z", "y"]
    assert Store(shard.parent / "nowhere").missing(["b", "a"]) == ["b", "a"]


def test_an_absent_recording_is_an_error_with_its_remedy(shard: Path) -> None:
    with pytest.raises(AsdError, match="no row of recording z; run the features stage again"):
        Store(shard.parent).read("z", "original")


def test_a_later_shard_only_adds(shard: Path) -> None:
    before = shard.read_bytes()
    later = write_shard(shard.parent, [("d", row("a"))])
    assert later is not None
    assert later != shard
    assert shard.read_bytes() == before
    store = Store(shard.parent)
    assert set(store.recordings) == set("abcd")
    np.testing.assert_array_equal(store.read("d", "h"), row("a")["h"])


def test_a_shard_is_named_after_its_content(shard: Path, tmp_path: Path) -> None:
    assert shard.name == f"shard-{digest_of_file(shard)[:16]}.parquet"
    again = write_shard(tmp_path / "elsewhere", ((recording, row(recording)) for recording in "abc"))
    assert again is not None
    assert again.name == shard.name
    assert {path.name for path in shard.parent.iterdir()} == {shard.name, VERIFIED}


def test_no_row_no_shard(tmp_path: Path) -> None:
    assert write_shard(tmp_path, iter(())) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after", [0, 2])
def test_rows_that_fail_on_the_way_leave_no_shard(tmp_path: Path, after: int) -> None:
    def rows() -> Iterator[tuple[str, Row]]:
        for recording in "abc"[:after]:
            yield recording, row(recording)
        raise RuntimeError("the worker died")

    with pytest.raises(RuntimeError, match="the worker died"):
        write_shard(tmp_path, rows())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied"])
def test_a_damaged_shard_is_dropped_and_the_others_stay(shard: Path, damage: str) -> None:
    other = write_shard(shard.parent, [("d", row("a"))])
    assert other is not None
    assert drop_damaged(shard.parent) == []
    if damage == "flipped":
        flip_byte(shard, position_of(shard, "a", "original"))
    else:
        shard.write_bytes(shard.read_bytes()[:-100] if damage == "cut" else b"")
    assert drop_damaged(shard.parent) == [shard]
    assert list(shard.parent.glob("*.parquet")) == [other]
    assert Store(shard.parent).missing("abcd") == ["a", "b", "c"]


def test_a_shard_is_read_once_to_be_verified_and_again_when_it_has_changed_or_is_not_trusted(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(store_module, "digest_of_file", lambda path: read.append(path.name) or digest_of_file(path))
    assert drop_damaged(shard.parent) == []
    assert read == []  # It has just been written.
    with new_shard(shard.parent) as other:
        other.add("d", row("a"))
    shard.touch()
    for _ in range(2):
        assert drop_damaged(shard.parent) == []
        assert sorted(read) == sorted([shard.name, other.path.name])
    # Decay leaves no trace but in the content.
    before = shard.stat()
    flip_byte(shard, position_of(shard, "b", "original"))
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert drop_damaged(shard.parent) == []
    assert drop_damaged(shard.parent, trust=False) == [shard]


def test_a_damaged_note_of_what_is_verified_costs_a_reading_and_nothing_else(shard: Path) -> None:
    (shard.parent / VERIFIED).write_text("{")
    assert drop_damaged(shard.parent) == []
    flip_byte(shard, position_of(shard, "b", "original"))
    assert drop_damaged(shard.parent) == [shard]


def test_a_store_of_variants_has_the_columns_of_the_store_in_whose_folder_it_stands(tmp_path: Path) -> None:
    originals, variants = tmp_path / "o", tmp_path / "o" / f"{EXTENDS}1"
    write_shard(originals, [(name, {"original": row(name)["original"]}) for name in "abc"])
    write_shard(variants, [(name, {"mask_500": row(name)["mask_500"]}) for name in "cbd"])
    store = Store(variants)
    for column in ("original", "mask_500"):
        np.testing.assert_array_equal(store.read("b", column), row("b")[column].astype(np.float32))
    assert set(store.recordings) == {"b", "c"}
    assert store.missing("abcde") == ["a", "d", "e"]
    assert store.missing("abcde", "original") == ["d", "e"]
    assert store.missing("abcde", "mask_500") == ["a", "e"]
    assert set(Store(originals).recordings) == set("abc")
    with pytest.raises(AsdError, match="no row of recording d"):
        store.read("d", "original")


def test_a_crop_can_start_anywhere_and_never_leaves_the_recording(tmp_path: Path) -> None:
    write_shard(tmp_path, [("a", {"original": np.arange(10, dtype=np.float16)[None]})])
    store = Store(tmp_path)

    def crop(frames: int, start: float) -> list[int]:
        out = np.empty((1, frames, 1), np.float16)
        store.crops([("a", "original")], np.array([start]), out)
        return [int(value) for value in out[0, :, 0]]

    assert {crop(4, start)[0] for start in np.linspace(0, 1, 200)} == set(range(7))
    for start in (0.0, 0.5, float(np.nextafter(1.0, 0.0)), 1.0):
        assert crop(9, start) in (list(range(9)), list(range(1, 10)))
        assert crop(10, start) == list(range(10))
        assert crop(11, start) == [*range(10), 0]
        assert crop(25, start) == [*range(10), *range(10), *range(5)]


def test_a_store_keeps_few_files_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MOST_OPEN", 2)
    for name in "abcd":
        write_shard(tmp_path, [(name, row(name))])
    store = Store(tmp_path)
    for name in "abcdabcd":
        np.testing.assert_array_equal(store.read(name, "h"), row(name)["h"])
        assert sum(shard.file is not None for shard, _ in store._rows.values()) <= 2


@pytest.fixture
def long_shard(tmp_path: Path) -> Path:
    """A spectrogram of 313 frames of 128 bands, and a vector."""
    rng = np.random.default_rng(0)
    arrays: Row = {"original": rng.normal(-40, 10, (128, 313)).astype(np.float16), "h": np.ones(8, np.float32)}
    path = write_shard(tmp_path / "long", [("a", arrays)])
    assert path is not None
    return path


@pytest.mark.parametrize("frames", [32, 33, 34, 40, 48, 128, 313])
def test_reading_a_crop_takes_at_most_twice_its_bytes_to_check_them_and_then_no_more_than_them(
    long_shard: Path, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    taken: list[int] = []

    def counting(descriptor: int, buffers: list[memoryview], position: int) -> int:
        taken.append(sum(buffer.nbytes for buffer in buffers))
        return preadv(descriptor, buffers, position)

    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", counting)
    whole = Store(long_shard.parent).read("a", "original").T
    crop = np.empty((1, frames, 128), np.float16)
    for start in np.linspace(0, 1, 29):
        store = Store(long_shard.parent)
        for at_most in (2, 1):
            taken.clear()
            store.crops([("a", "original")], np.array([start]), crop)
            checksums = 4 * 20 if at_most == 2 else 0
            assert crop.nbytes <= sum(taken) <= at_most * crop.nbytes + checksums
            first = min(int(start * (313 - frames + 1)), 313 - frames)
            np.testing.assert_array_equal(crop[0], whole[first : first + frames].astype(np.float16))


def test_a_crop_is_an_error_where_its_bytes_are_damaged_and_right_elsewhere(long_shard: Path) -> None:
    whole = Store(long_shard.parent).read("a", "original").T
    flip_byte(long_shard, position_of(long_shard, "a", "original"))  # within frame 156
    crop = np.empty((1, 100, 128), np.float16)
    store = Store(long_shard.parent)
    store.crops([("a", "original")], np.array([0.0]), crop)
    np.testing.assert_array_equal(crop[0], whole[:100].astype(np.float16))
    for start in (0.5, 0.6, 0.5):
        with pytest.raises(AsdError, match=f"{long_shard.name}: damaged"):
            store.crops([("a", "original")], np.array([start]), crop)


@pytest.fixture
def rows_of_blocks(tmp_path: Path) -> tuple[Path, dict[str, Row]]:
    """A shard of three recordings, two columns each, of some blocks each."""
    rng = np.random.default_rng(0)
    names = ("original", "mask_500")
    rows = {
        recording: {name: rng.normal(-40, 10, (128, frames)).astype(np.float16) for name in names}
        for recording, frames in (("a", 100), ("b", 61), ("c", 120))
    }
    path = write_shard(tmp_path / "blocks", rows.items())
    assert path is not None
    return path, rows


def test_overlapping_crops_are_right_whatever_has_been_read_before(
    rows_of_blocks: tuple[Path, dict[str, Row]],
) -> None:
    path, rows = rows_of_blocks
    store, rng = Store(path.parent), np.random.default_rng(1)
    for _ in range(300):
        recording, column = str(rng.choice(list(rows))), str(rng.choice(["original", "mask_500"]))
        frames, start = int(rng.integers(1, 150)), float(rng.random())
        crop = np.empty((1, frames, 128), np.float16)
        store.crops([(recording, column)], np.array([start]), crop)
        whole = rows[recording][column].T
        first = max(min(int(start * (len(whole) - frames + 1)), len(whole) - frames), 0)
        np.testing.assert_array_equal(crop[0], np.take(whole, first + np.arange(frames), axis=0, mode="wrap"))


@pytest.mark.parametrize("recording", "abc")
def test_each_array_has_checksums_of_its_own(rows_of_blocks: tuple[Path, dict[str, Row]], recording: str) -> None:
    path, rows = rows_of_blocks
    flip_byte(path, position_of(path, recording, "mask_500"))
    store, longer = Store(path.parent), np.empty((1, 150, 128), np.float16)
    with pytest.raises(AsdError, match="damaged"):
        store.crops([(recording, "mask_500")], np.zeros(1), longer)
    for other, columns in rows.items():
        for column, values in columns.items():
            if (other, column) != (recording, "mask_500"):
                np.testing.assert_array_equal(store.read(other, column), values)


def test_room_for_crops_that_does_not_fit_is_an_error(long_shard: Path) -> None:
    store = Store(long_shard.parent)
    for room in (np.empty((2, 8, 128), np.float16), np.empty((1, 8, 64), np.float32), np.empty((1, 8, 64), np.float16)):
        with pytest.raises(ValueError, match=r"for 1 float16|bytes, not"):
            store.crops([("a", "original")], np.zeros(1), room)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="contiguous"):
        store.crops([("a", "original")], np.zeros(1), np.empty((1, 128, 8), np.float16).transpose(0, 2, 1))


def test_a_shard_of_another_version_is_an_error_with_its_remedy(shard: Path) -> None:
    table = pq.read_table(shard)
    pq.write_table(table.replace_schema_metadata({"recordings": "a b c"}), shard)
    with pytest.raises(AsdError, match=r"written by another version of asd\. Delete its folder"):
        Store(shard.parent)


def test_asking_how_long_arrays_are_opens_no_file(shard: Path) -> None:
    store = Store(shard.parent)
    assert [store.n_frames(recording, "original") for recording in "abc"] == [20, 31, 7]
    assert store.n_bytes("b", "original") == 31 * 16 * 2
    assert store._rows["a"][0].file is None and not store._open


def test_damaged_checksums_are_an_error_on_reading(shard: Path) -> None:
    metadata = pq.ParquetFile(shard).metadata.row_group(0)
    chunk = metadata.column(metadata.num_columns - 1)
    flip_byte(shard, chunk.data_page_offset + chunk.total_compressed_size - 1)  # The last checksum is that of h.
    store = Store(shard.parent)
    np.testing.assert_array_equal(store.read("a", "original"), row("a")["original"].astype(np.float32))
    with pytest.raises(AsdError, match=f"{shard.name}: damaged"):
        store.read("a", "h")


@pytest.mark.parametrize("column", ["original", "h"])
def test_a_flipped_bit_is_an_error_on_reading_not_a_wrong_value(shard: Path, column: str) -> None:
    flip_byte(shard, position_of(shard, "a", column))
    store = Store(shard.parent)
    with pytest.raises(AsdError, match=f"{shard.name}: damaged"):
        store.read("a", column)
    np.testing.assert_array_equal(store.read("b", column), row("b")[column].astype(np.float32))


def test_a_cut_shard_is_an_error_that_names_it(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(AsdError, match=f"{shard.name}: damaged"):
        Store(shard.parent)


def test_what_a_killed_writer_left_is_not_read_and_is_swept(shard: Path) -> None:
    (shard.parent / ".shard-01234567.partial").write_bytes(shard.read_bytes()[:100])
    assert len(Store(shard.parent).recordings) == 3
    assert sweep_partial(shard.parent) == 1
    assert {path.name for path in shard.parent.iterdir()} == {shard.name, VERIFIED}
