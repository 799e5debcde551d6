from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from asdcore.recordings.catalog import Catalog
from asdcore.recordings.found import Found
from asdcore.recordings.names import find_recordings
from asdcore.settings import RecordingSettings
from tests.asdcore.conftest import Recorder


def test_a_table_of_an_older_version_takes_no_sound_for_another(tmp_path: Path, record: Recorder) -> None:
    place, table = tmp_path / "recordings", tmp_path / "table"
    for seed in range(3):
        record(place / "pump" / f"{seed}.wav", seed)
    Catalog(table).ingest(find_recordings(place), RecordingSettings())
    (part,) = table.glob("part-*.parquet")
    pq.write_table(pq.read_table(part).drop(["sound", "codec"]), part)

    (place / "pump" / "2.wav").rename(place / "pump" / "moved.wav")
    record(place / "pump" / "3.wav", 3)
    done = Catalog(table).ingest(find_recordings(place), RecordingSettings())
    assert (done.added, done.known, done.duplicates, done.quarantined) == (1, 3, 0, {})
    assert len(Catalog(table).recordings) == 4


def with_comment(file: Path) -> None:
    samples, rate = soundfile.read(file, dtype="int16")
    with soundfile.SoundFile(file, "w", rate, 1, "PCM_16") as target:
        target.comment = "checked"
        target.write(samples)


def of_an_older_version(table: Catalog, found: list[Found], labels: dict[Path, str]) -> Catalog:
    """The table as versions have left it that knew contents, but no sounds; recordings that are ingested one by one."""
    for number, one in enumerate(found):
        alone = Catalog(table.folder / str(number))
        alone.ingest([one], RecordingSettings())
        if one.path in labels:
            alone.label(dict.fromkeys(alone.recordings["recording"], labels[one.path]), "ida")
        for part in sorted(alone.folder.glob("part-*.parquet")):
            rows = pq.read_table(part).drop(["sound", "codec", "stat"])
            settings = pa.array(["older"] * len(rows))
            rows = rows.set_column(rows.schema.get_field_index("settings"), "settings", settings)
            pq.write_table(rows, table.folder / f"part-{number:03d}{part.stem[8:]}.parquet")
    return Catalog(table.folder)


@pytest.mark.parametrize("label", ["normal", "anomaly"])
def test_a_test_recording_whose_file_gets_a_comment_stays_one_when_it_arrives_again(
    tmp_path: Path, record: Recorder, label: str
) -> None:
    file = tmp_path / "pump" / "a.wav"
    record(file, 1)
    table = Catalog(tmp_path / "table")
    table.ingest([Found(file, "pump", split="test", label=label, session="monday")], RecordingSettings())

    with_comment(file)
    table.ingest([Found(file, "pump", label="unknown")], RecordingSettings(), session="arrived")
    (row,) = table.recordings.to_dict("records")
    assert (row["split"], row["label"], row["session"]) == ("test", label, "monday")


def test_a_forgotten_sound_does_not_come_back_with_a_comment(tmp_path: Path, record: Recorder) -> None:
    file = tmp_path / "pump" / "a.wav"
    record(file, 1)
    table = Catalog(tmp_path / "table")
    table.ingest([Found(file, "pump")], RecordingSettings())
    table.forget(table.recordings["recording"], "ida")

    with_comment(file)
    assert table.ingest([Found(file, "pump")], RecordingSettings()).forgotten == [str(file)]
    assert table.recordings.empty


@pytest.mark.parametrize("labelled", ["a.wav", "b.wav"])
def test_a_fault_of_an_older_table_does_not_train_under_its_other_name(
    tmp_path: Path, record: Recorder, labelled: str
) -> None:
    files = [tmp_path / "pump" / name for name in ("a.wav", "b.wav")]
    for file in files:
        record(file, 1)
    with_comment(files[1])
    found = [Found(file, "pump") for file in files]
    table = of_an_older_version(Catalog(tmp_path / "table"), found, {tmp_path / "pump" / labelled: "anomaly"})
    assert len(table.recordings) == 2

    for _ in range(2):
        table.ingest(found, RecordingSettings())
        (row,) = table.recordings.to_dict("records")
        assert (Path(row["path"]).name, row["label"], row["labelled_by"]) == (labelled, "anomaly", "ida")


def test_what_a_person_has_said_of_a_sound_stands_above_its_other_place(tmp_path: Path, record: Recorder) -> None:
    files = [tmp_path / "pump" / name for name in ("a.wav", "b.wav")]
    for file in files:
        record(file, 1)
    with_comment(files[1])
    found = [Found(files[0], "pump"), Found(files[1], "pump", split="test")]
    table = of_an_older_version(Catalog(tmp_path / "table"), found, {files[0]: "anomaly"})

    table.ingest(found, RecordingSettings())
    (row,) = table.recordings.to_dict("records")
    assert (row["path"], row["label"], row["labelled_by"]) == (str(files[0]), "anomaly", "ida")
