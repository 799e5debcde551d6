"""The files of the table of recordings are merged, and nobody notices."""

import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from asdcore.recordings import parts
from asdcore.recordings.catalog import SCHEMA, Catalog
from asdcore.recordings.parts import merge_parts

MANY = 6


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """One of so many parts that they are merged; every other one changes the label of the recording before."""
    monkeypatch.setattr(parts, "MOST_PARTS", MANY - 1)
    catalog = Catalog(tmp_path / "recordings")
    for number in range(MANY):
        row = dict.fromkeys(SCHEMA.names, "") | {"seconds": 1.0, "sample_rate": 16_000, "channels": 1}
        name = f"{number // 2:064d}"
        row |= {"recording": name, "path": f"/plant/{name}.wav", "machine": "pump", "split": "train"}
        row |= {"label": "unknown" if number % 2 else "normal", "labelled_at": None, "forgotten_by": None}
        catalog.append([row | {"ingested_at": pd.Timestamp(number, unit="s", tz="UTC")}])
    return catalog


def names(catalog: Catalog) -> list[str]:
    return sorted(path.name for path in catalog.folder.iterdir())


def test_many_parts_become_one_with_the_same_rows(catalog: Catalog) -> None:
    merge_parts(catalog.folder, SCHEMA)
    assert names(catalog) == [f"part-{MANY - 1:06d}-merged.parquet"]
    merged = Catalog(catalog.folder)
    pd.testing.assert_frame_equal(merged.recordings, catalog.recordings)
    assert pq.read_table(next(catalog.folder.iterdir())).num_rows == MANY


def test_what_is_written_after_a_merge_is_newer_and_few_parts_stay(catalog: Catalog) -> None:
    merge_parts(catalog.folder, SCHEMA)
    merged = Catalog(catalog.folder)
    recording = merged.recordings["recording"].iloc[0]
    merged.label({recording: "anomaly"}, "anna")
    before = names(merged)
    merge_parts(merged.folder, SCHEMA)
    assert names(merged) == before and len(before) == 2
    assert Catalog(merged.folder).recordings.set_index("recording").loc[recording, "label"] == "anomaly"


def test_a_merge_that_is_killed_before_it_has_deleted_the_parts_changes_nothing(
    catalog: Catalog, tmp_path: Path
) -> None:
    copy = shutil.copytree(catalog.folder, tmp_path / "copy")
    merge_parts(catalog.folder, SCHEMA)
    for part in copy.iterdir():
        shutil.copy(part, catalog.folder / part.name)
    pd.testing.assert_frame_equal(Catalog(catalog.folder).recordings, catalog.recordings)
    merge_parts(catalog.folder, SCHEMA)
    pd.testing.assert_frame_equal(Catalog(catalog.folder).recordings, catalog.recordings)


def test_a_reader_whose_parts_are_merged_while_it_reads_them_reads_the_merged_one(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = parts._read_part, []

    def merged_after_the_first(part: Path, schema: object) -> object:
        calls.append(part)
        if len(calls) == 2:
            monkeypatch.setattr(parts, "_read_part", read)
            merge_parts(catalog.folder, SCHEMA)
        return read(part, SCHEMA)

    monkeypatch.setattr(parts, "_read_part", merged_after_the_first)
    pd.testing.assert_frame_equal(Catalog(catalog.folder).recordings, catalog.recordings)
