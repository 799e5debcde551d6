import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile

from asdcore.errors import AsdError
from asdcore.recordings import rows
from asdcore.recordings.audio import Measured
from asdcore.recordings.catalog import SCHEMA, Catalog, Ingested
from asdcore.recordings.names import find_recordings
from asdcore.recordings.training import require_training, training_recordings
from asdcore.settings import RecordingSettings
from asdcore.storage.files import digest_of_file

Recorder = Callable[..., Path]


def ingest(home: Path, place: Path) -> Ingested:
    return Catalog(home).ingest(find_recordings(place), RecordingSettings())


def parts(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.glob("*")} if home.exists() else {}


def table(home: Path) -> pd.DataFrame:
    return Catalog(home).recordings


def descriptions(home: Path) -> set[tuple[str, ...]]:
    """What each usable recording is said to be, wherever its file is."""
    columns = ["recording", "machine", "section", "domain", "split", "label"]
    return set(table(home)[columns].itertuples(index=False, name=None))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home" / "recordings"


@pytest.fixture
def place(tmp_path: Path, record: Recorder) -> Path:
    """Two machines: fan in the DCASE layout, pump in a plain folder."""
    folder = tmp_path / "place"
    record(folder / "fan" / "train" / "section_00_source_train_normal_0000_m-n_W.wav", 1)
    record(folder / "fan" / "train" / "section_00_target_train_normal_0001_m-n_X.wav", 2)
    record(folder / "fan" / "test" / "section_00_source_test_anomaly_0000_m-n_W.wav", 3)
    record(folder / "pump" / "monday.flac", 4)
    return folder


def test_the_table_says_what_is_known_of_each_recording(home: Path, place: Path) -> None:
    done = ingest(home, place)
    assert (done.added, done.known, done.duplicates, done.quarantined) == (4, 0, 0, {})
    assert done.machines == ["fan", "pump"]
    rows = table(home).set_index("path")
    row = rows.loc[str(place / "fan" / "train" / "section_00_target_train_normal_0001_m-n_X.wav")]
    assert row["recording"] == digest_of_file(Path(str(row.name)))
    assert (row["machine"], row["section"], row["domain"]) == ("fan", "00", "target")
    assert (row["split"], row["label"], row["reason"]) == ("train", "normal", "")
    assert json.loads(row["attributes"]) == {"m-n": "X"}
    assert (row["seconds"], row["sample_rate"], row["channels"], row["treatment"]) == (1.0, 16_000, 1, "")


def test_a_part_is_plain_parquet_with_the_columns_of_the_schema(home: Path, place: Path) -> None:
    ingest(home, place)
    (part,) = home.iterdir()
    assert part.match("part-000000-*.parquet")  # Two machines that share a home never write the same part.
    assert pq.read_schema(part).equals(SCHEMA)


def test_ingesting_again_adds_nothing(home: Path, place: Path) -> None:
    ingest(home, place)
    before = parts(home)
    done = ingest(home, place)
    assert (done.added, done.known, done.duplicates) == (0, 4, 0)
    assert done.machines == ["fan", "pump"]
    assert parts(home) == before


def test_a_new_recording_only_adds_a_part(home: Path, place: Path, record: Recorder) -> None:
    ingest(home, place)
    before = parts(home)
    record(place / "pump" / "tuesday.wav", 5)
    done = ingest(home, place)
    assert (done.added, done.known) == (1, 4)
    after = parts(home)
    assert len(after) == 2
    assert before.items() <= after.items()
    (new,) = set(after) - set(before)
    assert len(pq.read_table(home / new)) == 1


def test_files_of_the_user_are_only_read(home: Path, place: Path) -> None:
    (place / "pump" / "broken.wav").write_text("no sound")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in place.rglob("*") if path.is_file()}
    ingest(home, place)
    ingest(home, place)
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in place.rglob("*") if path.is_file()}
    assert after == before


def test_one_content_under_two_names_is_one_recording(home: Path, place: Path) -> None:
    shutil.copy(place / "pump" / "monday.flac", place / "pump" / "copy of monday.flac")
    done = ingest(home, place)
    assert (done.added, done.duplicates) == (4, 1)
    assert len(table(home)) == 4
    before = parts(home)
    again = ingest(home, place)
    assert (again.added, again.known, again.duplicates) == (0, 4, 1)
    assert parts(home) == before


@pytest.mark.parametrize("two_ingests", [False, True])
@pytest.mark.parametrize(
    "copy",
    [
        "fan/test/section_00_source_test_normal_0009_m-n_W.wav",  # a training recording in the test split
        "blower/monday.wav",  # one recording of two machines
    ],
)
def test_one_content_as_two_things_is_quarantined_and_what_is_in_the_table_stands(
    home: Path, place: Path, tmp_path: Path, copy: str, two_ingests: bool
) -> None:
    original = place / "fan" / "train" / "section_00_source_train_normal_0000_m-n_W.wav"
    target = (tmp_path / "later" if two_ingests else place) / copy
    if two_ingests:
        ingest(home, place)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(original, target)
    done = ingest(home, tmp_path / "later" if two_ingests else place)
    # Where nothing is known yet, nobody can tell which of the two is right.
    assert set(done.quarantined) == ({str(target)} if two_ingests else {str(original), str(target)})
    assert str(original) in done.quarantined[str(target)] and "two things" in done.quarantined[str(target)]
    assert len(table(home)) == (4 if two_ingests else 3)
    assert (str(original) in set(table(home)["path"])) == two_ingests
    before = parts(home)
    ingest(home, tmp_path / "later" if two_ingests else place)
    assert parts(home) == before


def test_one_content_as_normal_and_as_anomaly_is_quarantined(home: Path, place: Path) -> None:
    test = place / "fan" / "test"
    shutil.copy(test / "section_00_source_test_anomaly_0000_m-n_W.wav", test / "section_00_source_test_normal_0000.wav")
    assert len(ingest(home, place).quarantined) == 2 and "anomaly" not in set(table(home)["label"])


def test_a_moved_file_is_found_at_its_new_place(home: Path, place: Path) -> None:
    # A row in quarantine has no sample rate: the numbers of the others must not suffer from it.
    (place / "pump" / "broken.wav").write_text("no sound")
    ingest(home, place)
    before = descriptions(home)
    moved = (place / "pump" / "monday.flac").rename(place / "pump" / "renamed.flac")
    done = ingest(home, place)
    assert (done.added, done.known) == (0, 4)
    row = table(home).set_index("path").loc[str(moved)]
    assert (row["seconds"], row["sample_rate"], row["channels"]) == (1.0, 16_000, 1)
    assert len(table(home)) == 4
    assert descriptions(home) == before


def test_a_file_moved_from_train_to_test_is_a_test_recording(home: Path, place: Path) -> None:
    ingest(home, place)
    source = place / "fan" / "train" / "section_00_source_train_normal_0000_m-n_W.wav"
    source.rename(place / "fan" / "test" / "section_00_source_test_normal_0000_m-n_W.wav")
    ingest(home, place)
    assert list(table(home).query("machine == 'fan'")["split"].sort_values()) == ["test", "test", "train"]


def test_a_replaced_file_is_a_new_recording_and_the_old_one_is_gone(home: Path, place: Path, record: Recorder) -> None:
    ingest(home, place)
    old = digest_of_file(place / "pump" / "monday.flac")
    record(place / "pump" / "monday.flac", 77)
    done = ingest(home, place)
    assert done.added == 1
    recordings = set(table(home)["recording"])
    assert old not in recordings
    assert digest_of_file(place / "pump" / "monday.flac") in recordings
    assert len(recordings) == 4


def test_a_file_that_can_not_be_used_is_quarantined_with_its_reason_and_the_rest_goes_on(
    home: Path, place: Path
) -> None:
    text, empty = place / "pump" / "text.wav", place / "pump" / "zero.wav"
    text.write_text("no sound at all, just words")
    empty.touch()
    named = shutil.copy(place / "pump" / "monday.flac", place / "pump" / "abnormal.flac")
    gone = place / "pump" / "gone.wav"
    gone.symlink_to(place / "nowhere.wav")
    done = ingest(home, place)
    assert done.added == 4
    assert set(done.quarantined) == {str(path) for path in (text, empty, named, gone)}
    quarantined = Catalog(home).quarantined.set_index("path")["reason"]
    assert quarantined[str(empty)] == "empty: the file has 0 bytes"
    assert quarantined[str(text)].startswith("unreadable")
    assert quarantined[str(gone)].startswith("unreadable: No such file")
    assert quarantined[str(named)].startswith("unparsable name")
    before = parts(home)
    ingest(home, place)
    assert parts(home) == before


def test_a_mended_file_leaves_the_quarantine_and_a_broken_one_enters_it(
    home: Path, place: Path, record: Recorder
) -> None:
    wav = place / "pump" / "tuesday.wav"
    for broken in (True, False, True):
        if broken:
            wav.write_text("no sound")
        else:
            record(wav, 9)
        ingest(home, place)
        catalog = Catalog(home)
        assert (str(wav) in set(catalog.quarantined["path"])) == broken
        assert (str(wav) in set(catalog.recordings["path"])) != broken


def test_a_recording_taken_out_of_use_comes_back_with_the_next_ingest(home: Path, place: Path) -> None:
    ingest(home, place)
    catalog = Catalog(home)
    gone = catalog.recordings.iloc[0]
    catalog.quarantine({gone["recording"]: "changed: another content"})
    assert gone["recording"] not in set(catalog.recordings["recording"])
    assert list(catalog.quarantined["reason"]) == ["changed: another content"]
    assert len(catalog.recordings) == 3
    ingest(home, place)
    assert gone["recording"] in set(table(home)["recording"])
    assert Catalog(home).quarantined.empty


@pytest.mark.parametrize("unlabelled_first", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_a_label_that_becomes_known_is_kept(
    home: Path, tmp_path: Path, record: Recorder, unlabelled_first: bool, together: bool
) -> None:
    names = ["section_00_0000.wav", "section_00_source_test_anomaly_0000_m-n_W.wav"]
    for folder, name in zip(("1", "2"), names if unlabelled_first else names[::-1], strict=True):
        record(tmp_path / "place" / folder / "fan" / "test" / name, 6)
        if not together:
            ingest(home, tmp_path / "place")
    if together:
        ingest(home, tmp_path / "place")
    assert list(table(home)["label"]) == ["anomaly"]
    assert list(table(home)["domain"]) == ["source"]


def test_a_corrected_manifest_corrects_the_table(home: Path, tmp_path: Path, record: Recorder) -> None:
    for seed, name in enumerate(("a", "b")):
        record(tmp_path / f"{name}.wav", seed)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,machine,split,domain,label,speed\na.wav,pmup,train,source,normal,1\nb.wav,pump,,,,1\n")
    ingest(home, tmp_path)
    manifest.write_text("path,machine,split,domain,label,speed\na.wav,pump,test,target,anomaly,2\nb.wav,pump,,,,1\n")
    done = ingest(home, tmp_path)
    assert (done.added, done.known) == (0, 2)
    a = table(home).set_index("path").loc[str(tmp_path / "a.wav")]
    assert (a["machine"], a["split"], a["domain"], a["label"]) == ("pump", "test", "target", "anomaly")
    assert json.loads(a["attributes"]) == {"speed": "2"}
    before = parts(home)
    ingest(home, tmp_path)
    assert parts(home) == before


def test_what_a_killed_writer_left_is_not_read(home: Path, place: Path) -> None:
    ingest(home, place)
    whole = next(home.glob("part-000000-*.parquet")).read_bytes()
    (home / ".part-000001.parquet.0123abcd.partial").write_bytes(whole[: len(whole) // 2])
    assert len(table(home)) == 4


def test_what_comes_after_the_clock_was_set_back_is_still_the_newest(
    home: Path, place: Path, record: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(home, place)
    before = table(home)["ingested_at"].max()

    class LastYear(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) - timedelta(days=365)

    monkeypatch.setattr("asdcore.recordings.catalog.datetime", LastYear)
    new = record(place / "pump" / "tuesday.flac", 5)
    ingest(home, place)
    Catalog(home).label({digest_of_file(place / "pump" / "monday.flac"): "unknown"}, "anna")
    rows = table(home).sort_values("ingested_at")
    assert rows["path"].tolist()[-2:] == [str(new), str(place / "pump" / "monday.flac")]
    assert rows["ingested_at"].iloc[-2] > before
    assert rows["label"].iloc[-1] == "unknown"
    assert ingest(home, place).added == 0


def test_a_damaged_part_is_an_error_that_names_it(home: Path, place: Path) -> None:
    ingest(home, place)
    (part,) = home.glob("part-000000-*.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(AsdError, match=r"part-000000-.*\.parquet: damaged"):
        Catalog(home)


def test_a_recording_is_what_the_manifest_that_came_last_says(home: Path, tmp_path: Path, record: Recorder) -> None:
    record(tmp_path / "a.wav")
    for machine, domain, section in (("pump", "", ""), ("fan", "source", ""), ("fan", "target", "01")):
        (tmp_path / "manifest.csv").write_text(f"path,machine,domain,section\na.wav,{machine},{domain},{section}\n")
        ingest(home, tmp_path)
        row = table(home).iloc[0]
        assert (row["machine"], row["domain"], row["section"]) == (machine, domain or "source", section or "00")


def test_only_normal_recordings_of_the_train_split_train(home: Path, place: Path) -> None:
    ingest(home, place)
    names = [Path(path).name.split("_m-n")[0] for path in training_recordings(table(home))["path"]]
    assert sorted(names) == [
        "monday.flac",
        "section_00_source_train_normal_0000",
        "section_00_target_train_normal_0001",
    ]


def test_a_machine_with_too_few_training_recordings_is_named_with_its_number(
    home: Path, place: Path, record: Recorder
) -> None:
    record(place / "saw" / "test" / "section_00_source_test_normal_0000.wav", 8)
    ingest(home, place)
    require_training(table(home).query("machine == 'fan'"), 2)
    with pytest.raises(AsdError, match="pump has 1, saw has 0; a machine needs 2") as error:
        require_training(table(home), 2)
    assert "fan" not in str(error.value)


def test_machines_are_chosen_by_name_and_an_unknown_one_is_an_error(home: Path, place: Path) -> None:
    ingest(home, place)
    catalog = Catalog(home)
    assert set(catalog.of_machines(["pump"])["machine"]) == {"pump"}
    assert len(catalog.of_machines(None)) == 4
    with pytest.raises(AsdError, match="no recording of machine pmup; there are recordings of fan, pump"):
        catalog.of_machines(["pmup"])


def stereo(path: Path, seed: int = 0, seconds: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(seed).standard_normal((round(16_000 * seconds), 2))
    soundfile.write(path, samples, 16_000)
    return path


def take(home: Path, place: Path, **settings: Any) -> Ingested:
    return Catalog(home).ingest(find_recordings(place), RecordingSettings(**settings))


def test_another_channel_is_taken_of_known_recordings_too(home: Path, tmp_path: Path) -> None:
    path = stereo(tmp_path / "place" / "pump" / "a.wav")
    for settings, treatment in (({}, "channel 1 of 2"), ({"channel": 1}, "channel 2 of 2")):
        take(home, path.parent, **settings)
        assert list(table(home)["treatment"]) == [treatment]
    before = parts(home)
    done = take(home, path.parent, channel=1, minimum_training_recordings=50)
    assert (done.added, done.known) == (0, 1)
    assert parts(home) == before


def test_a_known_recording_that_other_settings_refuse_is_quarantined_until_they_take_it(
    home: Path, place: Path
) -> None:
    copy = Path(shutil.copy(place / "pump" / "monday.flac", place / "pump" / "copy.flac"))
    ingest(home, place)
    for _ in range(2):
        done = take(home, place, minimum_seconds=2)
        assert (done.added, len(done.quarantined)) == (0, 5)
        catalog = Catalog(home)
        assert catalog.recordings.empty
        assert str(copy) in set(catalog.quarantined["path"])
        assert set(catalog.quarantined["reason"]) == {"too short: 1.000 s, the minimum is 2 s"}
        assert len(list(home.iterdir())) == 2
    ingest(home, place)
    assert len(table(home)) == 4
    assert Catalog(home).quarantined.empty
    before = parts(home)
    ingest(home, place)
    assert parts(home) == before


def test_a_copy_elsewhere_that_is_refused_takes_the_content_out_of_use(home: Path, place: Path, tmp_path: Path) -> None:
    ingest(home, place / "pump")
    (tmp_path / "later" / "pump").mkdir(parents=True)
    copy = shutil.copy(place / "pump" / "monday.flac", tmp_path / "later" / "pump" / "copy.flac")
    take(home, tmp_path / "later", minimum_seconds=2)
    assert table(home).empty
    assert list(Catalog(home).quarantined["path"]) == [str(copy)]


def test_a_copy_elsewhere_with_other_settings_changes_the_facts_and_not_the_place(home: Path, tmp_path: Path) -> None:
    path = stereo(tmp_path / "place" / "pump" / "a.wav")
    ingest(home, path.parent)
    (tmp_path / "later" / "pump").mkdir(parents=True)
    shutil.copy(path, tmp_path / "later" / "pump" / "b.wav")
    for _ in range(2):
        done = take(home, tmp_path / "later", channel="mean")
        assert (done.added, done.known) == (0, 1)
        (row,) = table(home).to_dict("records")
        assert (row["path"], row["treatment"]) == (str(path), "mean of 2 channels")
        assert len(list(home.iterdir())) == 2


def test_parts_of_a_version_without_the_column_of_settings_are_read_and_judged_anew_once(
    home: Path, place: Path
) -> None:
    ingest(home, place)
    (part,) = home.glob("part-000000-*.parquet")
    pq.write_table(pq.read_table(part).drop_columns(["settings"]), part)
    before = descriptions(home)
    assert table(home)["settings"].isna().all() and len(table(home)) == 4
    for _ in range(2):
        done = ingest(home, place)
        assert (done.added, done.known) == (0, 4)
        assert table(home)["settings"].notna().all()
        assert len(list(home.iterdir())) == 2
    assert descriptions(home) == before


def test_an_empty_home_is_an_empty_table(home: Path) -> None:
    catalog = Catalog(home)
    assert catalog.recordings.empty
    assert catalog.quarantined.empty
    assert list(catalog.recordings.columns) == SCHEMA.names
    assert not home.exists()


def test_real_recordings_of_seven_machines(home: Path, sample_data: Path) -> None:
    done = ingest(home, sample_data / "dcase2023-sample")
    assert (done.added, done.quarantined, len(done.machines)) == (28, {}, 7)
    assert table(home)["seconds"].between(10, 12).all()
    done = ingest(home, sample_data / "odd-inputs")
    assert (done.added, done.quarantined) == (3, {})


def test_a_file_that_is_replaced_while_it_is_read_is_not_a_mixture_of_both(
    home: Path, place: Path, record: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = place / "pump" / "monday.flac"
    other = record(tmp_path / "other.flac", 5)
    examine = rows.examine

    def slowly(path: Path, settings: RecordingSettings) -> Measured:
        if path == file and other.exists():
            other.replace(file)
        return examine(path, settings)

    monkeypatch.setattr(rows, "examine", slowly)
    assert ingest(home, place).quarantined == {str(file): "changed while it was being read: ingest it again"}
    assert ingest(home, place).quarantined == {}
    ((digest,),) = table(home).query("machine == 'pump'")[["recording"]].to_numpy().tolist()
    assert digest == digest_of_file(file)


def test_ctrl_c_does_not_wait_for_a_recording_that_is_being_read(
    home: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "examine", lambda path, settings: time.sleep(3))
    threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ingest(home, place)
    assert time.monotonic() - begun < 2
