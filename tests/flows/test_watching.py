"""When a file has arrived, and what is tried again."""

import errno
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from asdcore.monitoring.incidents import open_incidents
from asdcore.recordings.arriving import Arriving, known_states
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.changes import changed_files
from asdcore.recordings.rows import stat_of
from asdcore.settings import RecordingSettings
from asdcore.storage.home import Home
from flows.attempts import Attempts
from flows.watching import Watcher
from tasks.recordings import ingest_recordings


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_file_has_arrived_when_it_has_not_changed_for_a_while_and_only_once(tmp_path: Path, clock: Clock) -> None:
    file, arriving = tmp_path / "a.wav", Arriving(10, clock=clock)
    file.write_bytes(b"begin")
    arriving.look([file])
    assert arriving.arrived() == [] and arriving.growing
    for content in (b"beginning", b"beginning and more"):
        clock.now += 9
        file.write_bytes(content)
        arriving.look([file])
        assert arriving.arrived() == []
    clock.now += 9
    assert arriving.arrived() == []
    clock.now += 1
    assert arriving.arrived() == [file]
    arriving.handled([file])
    clock.now += 100
    arriving.look([file])
    assert arriving.arrived() == [] and not arriving.growing


def test_a_file_that_has_changed_without_an_event_has_not_arrived(tmp_path: Path, clock: Clock) -> None:
    file, arriving = tmp_path / "a.wav", Arriving(10, clock=clock)
    file.write_bytes(b"begin")
    arriving.look([file])
    file.write_bytes(b"beginning")
    clock.now += 10
    assert arriving.arrived() == []
    clock.now += 10
    assert arriving.arrived() == [file]


def test_a_file_that_grows_again_after_it_had_arrived_arrives_again(tmp_path: Path, clock: Clock) -> None:
    file, arriving = tmp_path / "a.wav", Arriving(1, clock=clock)
    for content in (b"first", b"second", b"the third"):
        file.write_bytes(content)
        arriving.look([file])
        arriving.arrived()
        clock.now += 1
        assert arriving.arrived() == [file]
        if content == b"first":
            arriving.handled([file])


def test_a_file_that_is_gone_before_it_was_whole_is_forgotten(tmp_path: Path, clock: Clock) -> None:
    file, arriving = tmp_path / "a.wav", Arriving(1, clock=clock)
    file.write_bytes(b"begin")
    arriving.look([file])
    file.unlink()
    clock.now += 5
    assert arriving.arrived() == []


def test_a_file_that_could_not_be_used_is_given_again_after_growing_pauses_and_at_once_when_something_has_changed(
    tmp_path: Path, clock: Clock
) -> None:
    file, arriving = tmp_path / "a.wav", Arriving(1, clock=clock)
    file.write_bytes(b"begin")
    arriving.look([file])
    clock.now += 1
    for pause in (60, 120, 240):
        assert arriving.arrived() == [file]
        arriving.again([file], 60)
        arriving.handled([file])
        clock.now += pause - 1
        assert arriving.arrived() == []
        clock.now += 1
    assert arriving.arrived() == [file]
    arriving.again([file], 60)
    arriving.hurry()
    assert arriving.arrived() == [file]
    arriving.again([file], 60)
    file.write_bytes(b"whole")
    os.utime(file, (1, 1))
    arriving.look([file])
    clock.now += 1
    assert arriving.arrived() == [file]
    arriving.again([file], 60)
    clock.now += 60
    assert arriving.arrived() == [file]


def test_no_more_files_are_given_than_were_asked_for(tmp_path: Path, clock: Clock) -> None:
    files, arriving = [tmp_path / f"{number}.wav" for number in range(5)], Arriving(1, clock=clock)
    for file in files:
        file.write_bytes(b"whole")
    arriving.look(files)
    clock.now += 1
    assert [len(arriving.arrived(2)) for _ in range(4)] == [2, 2, 1, 0]


def test_a_file_that_an_older_version_has_read_is_new_if_it_has_changed_since(tmp_path: Path, clock: Clock) -> None:
    old, changed, same, gone = (tmp_path / f"{name}.wav" for name in ("old", "changed", "same", "gone"))
    for file in (old, changed, same):
        file.write_bytes(b"whole")
    later, earlier = pd.Timestamp("2100-01-01", tz="UTC"), pd.Timestamp("2000-01-01", tz="UTC")
    state = stat_of(same)
    rows = [(old, None, later), (changed, None, earlier), (same, state, earlier), (gone, None, later)]
    rows.append((Path("/elsewhere/a.wav"), None, later))
    rows.append((half := tmp_path / "half.wav", "5 1", later))
    half.write_bytes(b"whole")
    table = pd.DataFrame([(str(path), *rest) for path, *rest in rows], columns=["path", "stat", "ingested_at"])
    states = known_states(table, tmp_path)
    assert set(states) == {str(old), str(changed), str(same), str(half)}
    arriving = Arriving(1, states, clock)
    arriving.look([old, changed, same, half])
    clock.now += 1
    assert arriving.arrived() == [changed]


def test_a_new_file_of_the_same_size_and_time_is_noticed(tmp_path: Path, clock: Clock) -> None:
    """Recorders without a clock begin again with the same name, and copies keep the time."""
    file = tmp_path / "REC0001.WAV"
    for content in (b"first", b"other"):
        file.write_bytes(content)
        os.utime(file, (315_532_800, 315_532_800))
        time.sleep(0.02)  # Times of files have steps of some milliseconds.
        if content == b"first":
            arriving = Arriving(1, {str(file): stat_of(file)}, clock)
    arriving.look([file])
    clock.now += 1
    assert arriving.arrived() == [file]


def test_what_fails_is_told_once_counted_in_an_incident_and_tried_again_after_growing_pauses_until_it_works(
    tmp_path: Path, clock: Clock
) -> None:
    home, said = Home.at(tmp_path / "home"), list[str]()
    attempts = Attempts("ingest", home, said.append, clock)

    def fail() -> None:
        with attempts.attempt():
            raise ZeroDivisionError("no disk")

    for pause in (10, 20, 40):
        assert attempts.due()
        fail()
        clock.now += pause - 1
        assert not attempts.due()
        clock.now += 1
    assert len(said) == 1 and said[0].startswith("ingest failed: unexpected ZeroDivisionError: no disk")
    (incident,) = open_incidents(home)
    assert (incident.subject, incident.recordings) == ("ingest", 3)
    assert "no disk (failed 3 times)" in incident.sentence
    for _ in range(10):
        fail()
    clock.now += 600
    assert attempts.due()
    with attempts.attempt():
        pass
    assert said[1:] == ["ingest works again"] and open_incidents(home) == []
    with attempts.attempt(expected=True):
        raise ZeroDivisionError
    assert not attempts.due() and len(said) == 2 and open_incidents(home) == []
    attempts.now()
    assert attempts.due()


def test_a_failure_that_is_expected_again_and_again_is_told_in_the_end(tmp_path: Path, clock: Clock) -> None:
    home, said = Home.at(tmp_path / "home"), list[str]()
    attempts = Attempts("ingest", home, said.append, clock)

    def fail_for_a_minute() -> None:
        for _ in range(7):
            with attempts.attempt(expected=True):
                raise ZeroDivisionError("no disk")
            clock.now += 10

    with attempts.attempt(expected=True):
        raise ZeroDivisionError("no disk")
    with attempts.attempt():
        pass
    assert said == []
    fail_for_a_minute()
    assert len(said) == 1 and "no disk" in said[0] and len(open_incidents(home)) == 1


def test_tables_that_say_nothing_of_recordings_are_not_looked_at(tmp_path: Path) -> None:
    """The log of a sensor grows all the time: it would make every failure one of a table that is being written."""
    (tmp_path / "pump" / "train").mkdir(parents=True)
    changes = changed_files(tmp_path, False, lambda _: None)
    next(changes)
    tables = [tmp_path / "manifest.csv", tmp_path / "pump" / "attributes_00.csv"]
    for file in (*tables, tmp_path / "temperature.csv", tmp_path / "pump" / "manifest.csv"):
        file.write_text("path,machine\n")
    seen = set[Path]()
    until = time.monotonic() + 10
    while not seen.issuperset(tables) and time.monotonic() < until:
        seen |= next(changes)
    assert seen == {*tables}


def test_files_that_a_manifest_did_not_list_are_tried_again_when_it_is_gone(tmp_path: Path) -> None:
    file, manifest = tmp_path / "in" / "pump" / "a.wav", tmp_path / "in" / "manifest.csv"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"sound")
    manifest.write_text("path,machine\n")
    watcher = Watcher(tmp_path / "in", Home.at(tmp_path / "home"), RecordingSettings(), 0, 50, print)
    watcher.look({file})
    assert watcher.files.arrived() == [file]
    watcher.files.again([file], 3600)
    watcher.look(set())
    assert watcher.files.arrived() == []
    manifest.unlink()
    watcher.look(set())
    assert watcher.files.arrived() == [file]


def record(path: Path, seed: int) -> Path:
    """A new recording of two seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(32_000), 16_000)
    return path


def test_a_recording_that_arrives_does_not_make_a_machine_of_a_folder_that_seems_to_say_a_label(tmp_path: Path) -> None:
    """Otherwise the next ingest of all would take the recordings of pump_ng for normal ones."""
    place, home, settings = tmp_path / "in", Home.at(tmp_path / "home"), RecordingSettings()
    record(place / "pump_ok" / "a.wav", 1)
    faulty = record(place / "pump_ng" / "b.wav", 2)
    for arrived in ([faulty], None):
        done = ingest_recordings(place, home, settings, arrived=arrived)
        assert list(done["quarantined"]) == [str(faulty)]
    assert set(Catalog(home.recordings).recordings["machine"]) == {"pump_ok"}


@pytest.mark.usefixtures("prefect_api")
def test_what_arrives_in_a_folder_that_can_not_be_listed_for_a_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home.at(tmp_path / "home")
    record(tmp_path / "in" / "fan" / "a.wav", 1)
    file = record(tmp_path / "in" / "pump" / "b.wav", 2)
    scandir = os.scandir

    def shaky(path: str) -> object:
        if str(path).endswith("pump"):
            raise OSError(errno.EIO, "Input/output error", path)
        return scandir(path)

    watcher = Watcher(tmp_path / "in", home, RecordingSettings(), 0, 50, print)
    watcher.look({file})
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", shaky)
        watcher.take()
    assert Catalog(home.recordings).recordings.empty
    watcher.files.hurry()
    watcher.take()
    assert list(Catalog(home.recordings).recordings["path"]) == [str(file)]
