"""Who says what a recording is, and what a later ingest may change of it."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from asdcore.errors import AsdError
from asdcore.recordings.catalog import SCHEMA, Catalog
from asdcore.recordings.labels import labels_of
from asdcore.recordings.names import find_recordings
from asdcore.recordings.training import pending_review, training_recordings
from asdcore.settings import RecordingSettings
from tests.asdcore.conftest import Recorder

SETTINGS = RecordingSettings()


@pytest.fixture
def place(tmp_path: Path, record: Callable[..., Path]) -> Path:
    folder = tmp_path / "place" / "pump"
    for index, name in enumerate(("monday", "tuesday", "wednesday")):
        record(folder / f"{name}.wav", index)
    return folder.parent


@pytest.fixture
def catalog(tmp_path: Path, place: Path) -> Catalog:
    """Three recordings that arrived, and that nobody has looked at."""
    catalog = Catalog(tmp_path / "home")
    catalog.ingest([replace(one, label="unknown") for one in find_recordings(place)], SETTINGS)
    return catalog


def digest_of(catalog: Catalog, name: str) -> str:
    rows = catalog.recordings
    return str(rows.loc[rows["path"].str.endswith(name), "recording"].item())


def test_what_nobody_has_looked_at_does_not_train_until_it_is_labelled(catalog: Catalog) -> None:
    assert len(pending_review(catalog.recordings)) == 3 and training_recordings(catalog.recordings).empty
    catalog.label({digest_of(catalog, "monday.wav"): "normal", digest_of(catalog, "tuesday.wav"): "anomaly"}, "anna")
    (trained,) = training_recordings(catalog.recordings).to_dict("records")
    assert trained["path"].endswith("monday.wav") and trained["labelled_by"] == "anna"
    assert pd.Timestamp.now("UTC") - trained["labelled_at"] < pd.Timedelta("1min")
    assert [Path(path).name for path in pending_review(catalog.recordings)["path"]] == ["wednesday.wav"]


def test_an_ingest_of_the_folder_says_they_are_normal_but_for_those_that_were_settled(
    catalog: Catalog, place: Path
) -> None:
    catalog.label({digest_of(catalog, "tuesday.wav"): "anomaly"}, "anna")
    catalog.label({digest_of(catalog, "wednesday.wav"): "unknown"}, "detector 3")
    catalog.ingest(find_recordings(place), SETTINGS)
    labels = {Path(row["path"]).stem: row["label"] for row in catalog.recordings.to_dict("records")}
    assert labels == {"monday": "normal", "tuesday": "anomaly", "wednesday": "unknown"}


def test_a_settled_label_moves_with_its_file_and_stays_with_other_settings(catalog: Catalog, place: Path) -> None:
    tuesday = digest_of(catalog, "tuesday.wav")
    catalog.label({tuesday: "anomaly"}, "anna")
    shutil.move(place / "pump", place / "elsewhere")
    (place / "elsewhere").rename(place.parent / "pump")
    catalog.ingest(find_recordings(place.parent / "pump"), RecordingSettings(silence_dbfs=-70.0))
    row = catalog.recordings.set_index("recording").loc[tuesday]
    assert (row["label"], row["labelled_by"], row["path"]) == (
        "anomaly",
        "anna",
        str(place.parent / "pump/tuesday.wav"),
    )


def test_the_label_of_a_file_that_was_replaced_is_that_of_its_copy_when_it_comes(
    catalog: Catalog, place: Path, tmp_path: Path, record: Callable[..., Path]
) -> None:
    monday = place / "pump" / "monday.wav"
    digest = digest_of(catalog, "monday.wav")
    catalog.label({digest: "anomaly"}, "anna")
    copy = tmp_path / "kept.wav"
    shutil.copy(monday, copy)
    record(monday, 99)
    catalog.ingest(find_recordings(place), SETTINGS)
    assert digest not in set(catalog.recordings["recording"])
    shutil.move(copy, place / "pump" / "copy.wav")
    catalog.ingest(find_recordings(place), SETTINGS)
    row = catalog.recordings.set_index("recording").loc[digest]
    assert (row["label"], row["labelled_by"]) == ("anomaly", "anna")


def test_the_last_word_holds(catalog: Catalog) -> None:
    tuesday = digest_of(catalog, "tuesday.wav")
    for label, by in (("unknown", "detector 3"), ("normal", "anna"), ("anomaly", "bert")):
        catalog.label({tuesday: label}, by)
    row = Catalog(catalog.folder).recordings.set_index("recording").loc[tuesday]
    assert (row["label"], row["labelled_by"]) == ("anomaly", "bert")


def test_a_wrong_label_and_an_unknown_recording_are_refused_and_nothing_is_written(catalog: Catalog) -> None:
    before = list(catalog.folder.iterdir())
    with pytest.raises(AsdError, match="label 'odd' is none of normal, anomaly, unknown"):
        catalog.label({digest_of(catalog, "monday.wav"): "odd"}, "anna")
    with pytest.raises(AsdError, match="1 recordings are not in the table, abc first"):
        catalog.label({"abc": "normal"}, "anna")
    assert list(catalog.folder.iterdir()) == before


def test_parts_of_older_versions_know_no_labels_and_are_read(catalog: Catalog, tmp_path: Path) -> None:
    (part,) = catalog.folder.glob("part-*.parquet")
    old = pq.read_table(part, schema=SCHEMA).drop_columns(["labelled_by", "labelled_at"])
    (tmp_path / "old").mkdir()
    pq.write_table(old, tmp_path / "old" / part.name)
    read = Catalog(tmp_path / "old")
    assert read.recordings["labelled_by"].isna().all()
    read.label({digest_of(read, "monday.wav"): "normal"}, "anna")
    assert len(training_recordings(read.recordings)) == 1


def test_recordings_are_named_by_file_folder_digest_or_csv(catalog: Catalog, place: Path, tmp_path: Path) -> None:
    monday, tuesday = digest_of(catalog, "monday.wav"), digest_of(catalog, "tuesday.wav")
    pump = place / "pump"
    assert labels_of(catalog, [str(pump / "monday.wav")], "normal") == {monday: "normal"}
    assert labels_of(catalog, [monday[:8], tuesday], "anomaly") == {monday: "anomaly", tuesday: "anomaly"}
    assert len(labels_of(catalog, [str(place)], "normal")) == 3
    table = place / "labels.csv"
    table.write_text(f"recording,label\npump/monday.wav,normal\n{tuesday[:12]},anomaly\n")
    assert labels_of(catalog, [str(table)], None) == {monday: "normal", tuesday: "anomaly"}
    gone = str(pump / "monday.wav")
    shutil.move(gone, tmp_path / "elsewhere.wav")
    assert labels_of(catalog, [gone], "normal") == {monday: "normal"}


@pytest.mark.parametrize(
    ("what", "label", "said"),
    [
        (["pump/friday.wav"], "normal", "friday.wav: no recording of the table; `asd ingest` it first"),
        (["abc"], "normal", "abc: no recording of the table"),
        (["{monday}"], None, "label None is none of normal, anomaly, unknown; give --as normal"),
        (["{place}/wrong.csv"], "normal", "no column recording"),
        (["{place}/twice.csv"], None, "has two labels: normal and anomaly"),
    ],
)
def test_what_names_no_recording_or_has_no_label_is_refused(
    catalog: Catalog, place: Path, what: list[str], label: str | None, said: str
) -> None:
    (place / "wrong.csv").write_text("file,label\na.wav,normal\n")
    (place / "twice.csv").write_text("recording,label\npump/monday.wav,normal\npump/monday.wav,anomaly\n")
    named = [name.format(monday=digest_of(catalog, "monday.wav"), place=place) for name in what]
    with pytest.raises(AsdError, match=said):
        labels_of(catalog, named, label)


def test_a_label_holds_after_another_recording_had_the_path(tmp_path: Path, record: Recorder) -> None:
    """Recorders give their files the names of earlier ones, and somebody may have kept the earlier one elsewhere."""
    slot, archive = tmp_path / "pump" / "slot.wav", tmp_path / "archive" / "pump" / "kept.wav"
    catalog = Catalog(tmp_path / "table")
    record(slot, 1)
    catalog.ingest(find_recordings(tmp_path / "pump"), RecordingSettings())
    catalog.label(dict.fromkeys(catalog.recordings["recording"], "anomaly"), "anna")
    archive.parent.mkdir(parents=True)
    slot.rename(archive)
    record(slot, 2)
    catalog.ingest(find_recordings(tmp_path / "pump"), RecordingSettings())
    assert catalog.recordings["label"].tolist() == ["normal"]

    catalog.ingest(find_recordings(tmp_path / "archive"), RecordingSettings())
    labels = dict(zip(catalog.recordings["path"], catalog.recordings["label"], strict=True))
    assert labels == {str(slot): "normal", str(archive): "anomaly"}


def test_a_name_that_is_not_utf8_is_told_as_it_is_written_everywhere(catalog: Catalog) -> None:
    with pytest.raises(AsdError, match=r"^L\\xfcfter.wav: no recording of the table"):
        labels_of(catalog, [os.fsdecode(b"L\xfcfter.wav")], "normal")
