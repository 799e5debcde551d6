"""A watched folder."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from watchfiles import watch

from asdcore.datasets.simulate import SAMPLE_RATE, waveform
from asdcore.monitoring.incidents import incidents, open_incidents
from asdcore.recordings import changes
from asdcore.recordings.catalog import Catalog, Ingested
from asdcore.recordings.changes import changed_files
from asdcore.recordings.manifest import MANIFEST
from asdcore.recordings.names import find_recordings
from asdcore.recordings.paths import printable
from asdcore.settings import RecordingSettings, Settings
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home
from flows.arrivals import arrivals
from flows.ingest import ingest
from flows.retrain import retrain
from flows.watching import watch_folder
from tasks.recordings import Ingest, ingest_recordings

pytestmark = [pytest.mark.flow, pytest.mark.slow]

SETTINGS = RecordingSettings()
QUIET = 0.3
Step = tuple[Callable[[], object], str]
"""what is done to the folder, and what watch says then, as a regular expression"""


def record(path: Path, seed: int, machine: str = "simFan") -> Path:
    """A normal recording of a simulated machine; each seed is another one."""
    samples = waveform(machine, domain="source", label="normal", rng=np.random.default_rng(seed), seconds=1.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, SAMPLE_RATE, format="WAV")
    return path


def copied(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(source, target))


@pytest.fixture(scope="module")
def plant(
    prefect_api: str, small_machines: Path, small_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Home:
    """A home with a champion for simFan."""
    place = Home.at(tmp_path_factory.mktemp("plant"))
    training = small_settings.training.model_copy(update={"encoder": "base"})
    normality = small_settings.normality.model_copy(update={"false_alarm_rate": 0.1, "scorers": ("spectrum",)})
    settings = small_settings.model_copy(update={"training": training, "normality": normality})
    retrain(recordings=small_machines / "simFan", settings=settings, home=place.root)
    return place


@pytest.fixture
def home(plant: Home, tmp_path: Path) -> Home:
    """Its champion, in a home of the test's own; nothing is in the table of recordings."""
    place = Home.at(tmp_path / "home")
    place.root.mkdir()
    shutil.copy(plant.root / "mlflow.db", place.root)
    return place


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "TICK", 0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The watched one."""
    place = tmp_path / "arriving"
    place.mkdir()
    return place


def watched(folder: Path, home: Home, *steps: Step, poll: bool = False) -> str:
    """What watch says until all of this has been done to its folder, and it is ended with Ctrl-C."""
    said, failed = list[str](), list[str]()

    def act() -> None:
        for number, (do, expected) in enumerate(steps):
            before = len(said)
            do()
            until = time.monotonic() + 120
            while not re.search(expected, "\n".join(said[before if number else 0 :]), re.DOTALL):
                if time.monotonic() > until:
                    failed.append(f"step {number}: not said: {expected}")
                    break
                time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)

    acting = threading.Thread(target=act)
    acting.start()
    with pytest.raises(KeyboardInterrupt):
        watch_folder(folder, home, SETTINGS, QUIET, 1000, poll, said.append)
    acting.join()
    text = "\n".join(said)
    assert not failed, f"{failed}\n{text}"
    return text


def nothing() -> None:
    """What lies in the folder is enough."""


def labels(home: Home) -> dict[str, tuple[str, str, str]]:
    """Name of a file in the table: split, label, and who has settled it."""
    rows = Catalog(home.recordings).recordings
    rows = rows.assign(labelled_by=rows["labelled_by"].fillna(""))
    columns = (rows[name] for name in ("path", "split", "label", "labelled_by"))
    return {Path(path).name: (split, label, by) for path, split, label, by in zip(*columns, strict=True)}


def judged(home: Home) -> set[str]:
    """Names of the files that the champion has judged."""
    return {name for name, (_, _, by) in labels(home).items() if by.startswith("detector ")}


# Conflicts


@pytest.mark.situation(
    "the same bytes arrive in the folders of two machines",
    before="watch ended with exit code 1, and again after every restart",
    after="both are quarantined, each with the name of the other; the rest is judged, and watch goes on",
)
def test_the_same_bytes_in_two_machines_folders(folder: Path, home: Home) -> None:
    first = record(folder / "simFan" / "a.wav", 1)
    second = copied(first, folder / "simValve" / "a.wav")
    record(folder / "simFan" / "b.wav", 2)
    said = watched(
        folder,
        home,
        (nothing, r"3 files: 1 new recording, 2 quarantined.*simFan: 1 normal|pending"),
        (lambda: record(folder / "simFan" / "c.wav", 3), r"1 file: 1 new"),
        (first.unlink, ""),
    )
    assert f"{first}: the same sound is given as two things: here (simFan, train, unknown) and as {second}" in said
    assert f"{second}: the same sound is given as two things" in said
    assert {"b.wav"} <= judged(home) and "a.wav" not in labels(home)
    # The next start finds one of them alone.
    watched(folder, home, (nothing, "1 file: 1 new recording, 0 quarantined"))
    assert "a.wav" in labels(home)


def ingested(home: Home, place: Path) -> Ingested:
    return Catalog(home.recordings).ingest(find_recordings(place), SETTINGS)


CONFLICT = pytest.mark.situation(
    "`asd ingest` of one sound as a training and a test recording, of two machines, or with two labels",
    before="the whole ingest was refused, exit code 1, nothing was added",
    after="these files are quarantined, each with the name of the other, and the rest is added; the table keeps what "
    "it has, and once one of the files is gone the other one is added",
)
TRAIN = "fan/train/section_00_source_train_normal_0000_a_1.wav"
TEST = "fan/test/section_00_source_test_{}_0000_a_1.wav"


@CONFLICT
@pytest.mark.parametrize(
    "names",
    [
        (TRAIN, TEST.format("normal")),
        (TRAIN, "pump/train/section_00_source_train_normal_0000_a_1.wav"),
        (TEST.format("normal"), TEST.format("anomaly")),
        (TEST.format("normal"), TEST.format("anomaly"), "fan/test/section_00_0000.wav"),
    ],
)
def test_one_content_as_two_things(folder: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    home = Home.at(tmp_path / "home")
    first = record(folder / names[0], 1)
    others = [copied(first, folder / name) for name in names[1:]]
    good = record(folder / "fan/train/section_00_source_train_normal_0001_a_1.wav", 2)
    done = ingested(home, folder)
    assert set(done.quarantined) == {str(first), *map(str, others)} and done.machines == ["fan"]
    assert str(first) in done.quarantined[str(others[0])] and str(others[0]) in done.quarantined[str(first)]
    assert set(labels(home)) == {good.name}
    for other in others:
        other.unlink()
    assert ingested(home, folder).quarantined == {} and set(labels(home)) == {good.name, first.name}
    assert str(first) not in set(Catalog(home.recordings).quarantined["path"])
    # What the table has stands.
    again = [copied(first, folder / name) for name in names[1:]]
    done = ingested(home, folder)
    expected = [path for path in again if "section_00_0000" not in path.name]
    assert set(done.quarantined) == set(map(str, expected))
    assert set(labels(home)) == {good.name, first.name}


@pytest.mark.situation(
    "`asd ingest` of a labelled file and an unlabelled copy of it",
    before="not tried",
    after="one recording with its label",
)
def test_a_labelled_copy_beside_an_unlabelled_one(folder: Path, tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    arrived = record(folder / "watched/fan/x.wav", 1)
    ingest_recordings(folder / "watched", home, SETTINGS, arrived=[arrived])
    labelled = copied(arrived, folder / "set" / TEST.format("anomaly"))
    assert ingested(home, folder / "set").quarantined == {}
    assert labels(home) == {labelled.name: ("test", "anomaly", "")}
    # And it stays so when the unlabelled file comes again.
    os.utime(arrived, (1, 1))
    done = ingest_recordings(folder / "watched", home, SETTINGS, arrived=[arrived])
    assert done["quarantined"] == {} and labels(home) == {labelled.name: ("test", "anomaly", "")}


@pytest.mark.situation(
    "the name of a copy contradicts the label that a person has given to the recording",
    before="not tried; by the code: the whole ingest was refused",
    after="the person's label stays, and the copy counts as a duplicate",
)
def test_a_persons_label_stands_above_the_name_of_a_copy(folder: Path, tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    first = record(folder / "one" / TEST.format("normal"), 1)
    ingested(home, folder / "one")
    Catalog(home.recordings).label({digest_of_file(first): "anomaly"}, "anna")
    copied(first, folder / "two" / TEST.format("normal").replace("0000", "0001"))
    done = ingested(home, folder / "two")
    assert done.quarantined == {} and labels(home) == {first.name: ("test", "anomaly", "anna")}


@pytest.mark.situation(
    "a manifest lists a file twice, as recordings of two machines",
    before="not tried; by the code: the whole ingest was refused",
    after="the file is quarantined; what the table says about it stands",
)
def test_a_file_that_a_manifest_lists_twice(folder: Path, tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    record(folder / "a.wav", 1)
    record(folder / "b.wav", 2)
    manifest = folder / "manifest.csv"
    manifest.write_text("path,machine\na.wav,fan\na.wav,pump\nb.wav,fan\n")
    assert set(ingested(home, folder).quarantined) == {str(folder / "a.wav")} and set(labels(home)) == {"b.wav"}
    manifest.write_text("path,machine\na.wav,fan\nb.wav,fan\n")
    assert ingested(home, folder).quarantined == {} and set(labels(home)) == {"a.wav", "b.wav"}
    manifest.write_text("path,machine\na.wav,fan\na.wav,pump\nb.wav,fan\n")
    assert set(ingested(home, folder).quarantined) == {str(folder / "a.wav")}
    assert set(labels(home)) == {"a.wav", "b.wav"} and set(Catalog(home.recordings).recordings["machine"]) == {"fan"}


@pytest.mark.situation(
    "a manifest lists a file twice, once as normal and once as anomalous, or for training and for testing",
    before="not tried",
    after="the file is quarantined, at every ingest in the same way; what the table says about it stands",
)
@pytest.mark.parametrize("second", ["train,anomaly", "test,normal", "test,anomaly"])
def test_a_file_of_which_a_manifest_says_two_things(folder: Path, tmp_path: Path, second: str) -> None:
    home = Home.at(tmp_path / "home")
    file = record(folder / "a.wav", 1)
    manifest = folder / "manifest.csv"
    twice = f"path,machine,split,label\na.wav,fan,train,normal\na.wav,fan,{second}\n"
    manifest.write_text(twice)
    for _ in range(2):
        done = ingested(home, folder)
        assert (done.added, set(done.quarantined), labels(home)) == (0, {str(file)}, {})
        assert len(list(home.recordings.glob("part-*"))) == 1
    manifest.write_text("path,machine,split,label\na.wav,fan,test,normal\n")
    ingested(home, folder)
    manifest.write_text(twice)
    assert set(ingested(home, folder).quarantined) == {str(file)}
    assert labels(home) == {"a.wav": ("test", "normal", "")}


# Half of something


@pytest.mark.situation(
    "manifest.csv is half-written, or lacks a file that lies beside it",
    before="watch ended with exit code 1; a file that was not listed was never mentioned",
    after="reported once, an incident is opened, and what the manifest lists is judged when it is complete; files "
    "that it does not list are counted and named, and judged when it lists them",
)
def test_a_manifest_that_is_half_written(folder: Path, home: Home) -> None:
    record(folder / "a.wav", 1)
    record(folder / "b.wav", 2)
    manifest = folder / "manifest.csv"
    manifest.write_bytes("path,machine,place\na.wav,simFan,Mü".encode()[:-1])
    os.utime(manifest, (1, 1))
    said = watched(
        folder,
        home,
        (nothing, r"ingest failed: .*manifest\.csv: not a CSV file in UTF-8"),
        (lambda: manifest.write_text("path,machine,place\na.wav,simFan,Mü\n", encoding="utf-8"), r"works again"),
        (lambda: manifest.write_text("path,machine\na.wav,simFan\nb.wav,simFan\n"), r"1 file: 1 new.*simFan: "),
    )
    assert said.count("ingest failed") == 1
    assert re.search(r"2 files: 1 new recording, 0 quarantined, 1 left out", said)
    assert said.count(f"  {folder / 'b.wav'}: not listed in {manifest}") == 1
    assert judged(home) == {"a.wav", "b.wav"}
    assert [(one.subject, one.is_open) for one in incidents(home)] == [("ingest", False)]


@pytest.mark.situation(
    "attributes_00.csv of a machine is half-written",
    before="watch ended with exit code 1",
    after="the recordings of this machine are quarantined with the reason until it is complete; all others are judged",
)
def test_attributes_that_are_half_written(folder: Path, home: Home) -> None:
    record(folder / "simFan" / "a.wav", 1)
    record(folder / "other" / "train" / "section_00_source_train_normal_0001_a_1.wav", 2)
    table = folder / "other" / "attributes_00.csv"
    table.write_bytes(b"file_name,d1p,d1v\na,b,\xc3")
    said = watched(
        folder,
        home,
        (nothing, r"2 files: 1 new recording, 1 quarantined.*simFan: "),
        (lambda: table.write_text("file_name,d1p,d1v\n"), r"1 file: 1 new recording, 0 quarantined"),
    )
    assert "attributes_00.csv: not a CSV file in UTF-8" in said and judged(home) == {"a.wav"}


@pytest.mark.situation(
    "a folder has only `._a.wav`",
    before="watch ended with exit code 1",
    after="hidden files are left out; what arrives later is judged",
)
def test_a_folder_with_hidden_files_only(folder: Path, home: Home) -> None:
    hidden = folder / "simFan" / "._a.wav"
    hidden.parent.mkdir()
    hidden.write_bytes(b"\0\5\x16\7")

    def later() -> None:
        time.sleep(2)
        record(folder / "simFan" / "a.wav", 1)

    said = watched(folder, home, (later, r"1 file: 1 new recording, 0 quarantined"))
    assert "failed" not in said and "._a" not in said


@pytest.mark.situation(
    "a file name that is not UTF-8",
    before="watch ended with exit code 1: UnicodeEncodeError",
    after="watch goes on, and all other recordings are judged",
)
def test_a_name_that_is_not_utf8(folder: Path, home: Home) -> None:
    def latin_1() -> None:
        wav = record(folder / "simFan" / "a.wav", 2)
        wav.rename(wav.with_name(os.fsdecode(b"L\xfcfter.wav")))

    record(folder / "simFan" / "b.wav", 1)
    said = watched(
        folder,
        home,
        (latin_1, r"simFan: "),
        (lambda: record(folder / "simFan" / "c.wav", 3), r"1 file: .*simFan: "),
    )
    assert "failed" not in said and judged(home) >= {"b.wav", "c.wav"}


@pytest.mark.situation(
    "no champion yet",
    before="watch ended with exit code 1",
    after="recordings are ingested, watch says once that they wait, and judges them when there is a champion",
)
def test_no_champion_yet(folder: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.watching.SECONDS_BETWEEN_MESSAGES", 1.0)
    registry = home.root / "mlflow.db"
    registry.rename(away := home.root / "away")
    record(folder / "simFan" / "a.wav", 1)
    said = watched(
        folder,
        home,
        (nothing, r"1 new recording.*1 recordings wait for a champion"),
        (lambda: record(folder / "simFan" / "b.wav", 2), r"1 new recording"),
        (lambda: away.rename(registry), r"simFan: "),
    )
    assert said.count("wait for a champion") == 1 and judged(home) == {"a.wav", "b.wav"}
    assert open_incidents(home) == []


@pytest.mark.situation(
    "an ingest fails, whatever the reason (here: a damaged part of the table of recordings)",
    before="watch ended with exit code 1",
    after="reported once, counted in an incident, tried again after growing pauses; what arrived meanwhile is judged "
    "then",
)
def test_an_ingest_that_fails(folder: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.attempts.FIRST_PAUSE", 1.0)
    damaged = home.recordings / "part-000000-00000000.parquet"

    def damage() -> None:
        damaged.parent.mkdir()
        damaged.write_bytes(b"PAR1")
        record(folder / "simFan" / "a.wav", 1)

    def mend() -> None:
        until = time.monotonic() + 30
        while open_incidents(home)[0].recordings < 2:
            assert time.monotonic() < until
            time.sleep(0.1)
        damaged.unlink()

    said = watched(folder, home, (damage, r"ingest failed: .*damaged"), (mend, r"ingest works again.*simFan: "))
    assert said.count("ingest failed") == 1 and judged(home) == {"a.wav"}
    assert incidents(home)[0].recordings >= 2 and not incidents(home)[0].is_open


@pytest.mark.situation(
    "watch is killed between the ingest and the judgement",
    before="what was ingested was not judged until another recording arrived",
    after="what was ingested is judged at the next start",
)
def test_a_crash_between_ingest_and_judgement(folder: Path, home: Home) -> None:
    file = record(folder / "simFan" / "a.wav", 1)
    ingest(folder, SETTINGS, arrived=[file], home=home.root)
    assert judged(home) == set()
    watched(folder, home, (nothing, r"simFan: "))
    assert judged(home) == {"a.wav"}


@pytest.mark.situation(
    "a recording is deleted between its ingest and its judgement",
    before="not tried",
    after="counted as not scored; all others are judged",
)
def test_a_recording_that_is_deleted_before_it_is_judged(folder: Path, home: Home) -> None:
    gone, there = (record(folder / "simFan" / f"{name}.wav", seed) for seed, name in enumerate(("a", "b")))
    ingest(folder, SETTINGS, arrived=[gone, there], home=home.root)
    gone.unlink()
    assert arrivals(home=home.root)["machines"]["simFan"]["not scored"] == 1 and judged(home) == {"b.wav"}


@pytest.mark.situation(
    "a file was replaced under its name while watch was down (a ring buffer), also by one of the same size and time",
    before="the new one was never judged",
    after="it is judged once, as soon as watch starts; files that have not changed are not read",
)
def test_a_file_that_was_replaced_while_watch_was_down(folder: Path, home: Home) -> None:
    for name, seed in (("1", 1), ("2", 2)):
        os.utime(record(folder / "simFan" / f"{name}.wav", seed), (1, 1))
    watched(folder, home, (nothing, r"2 files: 2 new.*simFan: "))
    before = digest_of_file(folder / "simFan" / "1.wav")
    os.utime(record(folder / "simFan" / "1.wav", 3), (1, 1))
    said = watched(folder, home, (nothing, r"1 file: 1 new recording.*simFan: "))
    assert "2 files" not in said
    rows = Catalog(home.recordings).recordings
    assert before not in set(rows["recording"]) and len(rows) == 2 and judged(home) == {"1.wav", "2.wav"}


@pytest.mark.situation(
    "a recorder renames a.wav to a.1.wav and records a new a.wav",
    before="not tried",
    after="the new one is judged, and the score of the old one stays",
)
def test_names_that_rotate(folder: Path, tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    old = record(folder / "fan" / "a.wav", 1)
    arrived(folder, home, old)
    Catalog(home.recordings).label({digest_of_file(old): "normal"}, "detector 1")
    old.rename(older := folder / "fan" / "a.1.wav")
    record(old, 2)
    assert arrived(folder, home, older)["added"] == 0
    assert arrived(folder, home, old)["added"] == 1
    assert labels(home) == {"a.1.wav": ("train", "normal", "detector 1"), "a.wav": ("train", "unknown", "")}


@pytest.mark.slow
@pytest.mark.situation(
    "`asd watch` as a process: two machines with the same bytes and a hidden file at its start, then SIGTERM",
    before="it ended by itself with exit code 1",
    after="it runs until SIGTERM, which ends it within seconds",
)
def test_asd_watch_as_a_process(folder: Path, home: Home, prefect_api: str, tmp_path: Path) -> None:
    copied(record(folder / "simFan" / "a.wav", 1), folder / "simValve" / "a.wav")
    (folder / "simFan" / "._b.wav").write_bytes(b"\0")
    log = tmp_path / "log"
    command = [sys.executable, "-m", "flows.cli", "watch", str(folder), "--quiet", "1", "--home", str(home.root)]
    environment = os.environ | {"PREFECT_API_URL": prefect_api, "COLUMNS": "200"}

    def said(pattern: str) -> None:
        until = time.monotonic() + 120
        while not re.search(pattern, log.read_text()):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)

    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        said(r"2 files: 0 new recordings, 2 quarantined")
        record(folder / "simFan" / "c.wav", 2)
        said(r"1 file: 1 new recording, 0 quarantined")
        process.terminate()
        assert process.wait(20) in (-signal.SIGTERM, 128 + signal.SIGTERM, 0)
    finally:
        process.kill()
        process.wait()


# What is looked at


def looked_at(folder: Path, do: Callable[[], object], wanted: set[Path], poll: bool = False) -> list[str]:
    """Do something once the folder is watched, until all wanted files have been given; what was said."""
    said: list[str] = []
    files = changed_files(folder, poll, said.append)
    before = next(files) | {folder / MANIFEST}
    next(files)
    do()
    until = time.monotonic() + 30
    missing = set(wanted)
    while missing:
        assert time.monotonic() < until, f"not seen: {missing}"
        given = next(files)
        assert given <= wanted | before, given
        missing -= given
    files.close()
    return said


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All files are looked through every second where nothing says when."""
    monkeypatch.setattr(changes, "POLL", 1.0)
    yield


@pytest.mark.situation(
    "a folder is moved in, or renamed inside",
    before="its files were not judged until a restart",
    after="they are judged as if they had been copied",
)
def test_a_folder_that_is_moved(folder: Path, tmp_path: Path) -> None:
    record(tmp_path / "out" / "day" / "a.wav", 1)
    moved, renamed = folder / "day", folder / "new" / "day"
    looked_at(folder, lambda: (tmp_path / "out" / "day").rename(moved), {moved / "a.wav"})
    renamed.parent.mkdir()
    looked_at(folder, lambda: moved.rename(renamed), {renamed / "a.wav"})


LINKS = pytest.mark.situation(
    "a link to a file or to a folder",
    before="a linked file: 0 new recordings; a linked folder: ignored",
    after="the files are judged under their names in the watched folder, including those that arrive later",
)


@LINKS
def test_a_link(folder: Path, tmp_path: Path) -> None:
    file, more = record(tmp_path / "far" / "a.wav", 1), record(tmp_path / "away" / "b.wav", 2)
    looked_at(folder, lambda: (folder / "l.wav").symlink_to(file), {folder / "l.wav"})

    def link() -> None:
        (folder / "more").symlink_to(more.parent)

    looked_at(folder, link, {folder / "more" / "b.wav"})
    looked_at(folder, lambda: record(tmp_path / "away" / "c.wav", 3), {folder / "more" / "c.wav"})


@LINKS
def test_a_linked_file_is_ingested(folder: Path, tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    (folder / "fan").mkdir()
    (link := folder / "fan" / "l.wav").symlink_to(record(tmp_path / "far" / "a.wav", 1))
    assert ingest_recordings(folder, home, SETTINGS, arrived=[link])["added"] == 1
    assert set(labels(home)) == {"l.wav"}


@pytest.mark.situation(
    "a folder is linked, and later recordings arrive behind the link",
    before="ignored",
    after="they are noticed at once",
)
def test_what_arrives_behind_a_new_link(folder: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()

    def link_and_record() -> None:
        (folder / "more").symlink_to(far)
        time.sleep(4)
        record(far / "a.wav", 1)

    looked_at(folder, link_and_record, {folder / "more" / "a.wav"})


@pytest.mark.situation(
    "a network share sends no events",
    before="not tried; by the code: `--poll` read the state of every file three times a second",
    after="`--poll` scans all files every five seconds, or less often if that takes long",
)
@pytest.mark.usefixtures("soon")
def test_a_folder_without_events(folder: Path) -> None:
    assert looked_at(folder, lambda: record(folder / "fan" / "a.wav", 1), {folder / "fan" / "a.wav"}, poll=True) == []


@pytest.mark.situation(
    "the share is unmounted for a while",
    before="not tried",
    after="watch says so, goes on, and scans everything when it is there again",
)
@pytest.mark.usefixtures("soon")
def test_a_folder_that_is_away_for_a_while(folder: Path) -> None:
    away = folder.with_name("away")

    def unmount() -> None:
        record(folder / "a.wav", 1)
        folder.rename(away)

        def mount() -> None:
            time.sleep(3)
            away.rename(folder)

        threading.Thread(target=mount).start()

    said = looked_at(folder, unmount, {folder / "a.wav"}, poll=True)
    assert said == [f"{folder} is not there at the moment", f"{folder} is there again"]


@pytest.mark.situation(
    "the limit of inotify is reached",
    before="watch ended with exit code 1",
    after="watch says so, and scans all files every few seconds",
)
@pytest.mark.usefixtures("soon")
def test_the_limit_of_events(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def without_descriptors(*arguments: object, **options: object) -> Iterator[object]:
        # The kernel refuses the first descriptor of the watcher, as it does when all watches are in use.
        taken = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 1
        held = [os.open("/dev/null", os.O_RDONLY) for _ in range(taken)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, hard))
        try:
            yield next(watch(*arguments, **options))  # type: ignore[arg-type]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in held:
                os.close(descriptor)

    monkeypatch.setattr(changes, "watch", without_descriptors)
    (said,) = looked_at(folder, lambda: record(folder / "fan" / "a.wav", 1), {folder / "fan" / "a.wav"})
    assert "sends no events (" in said and "every few seconds" in said


@pytest.mark.situation(
    "an event gets lost",
    before="not tried; by the code: the file was not judged until a restart",
    after="all files are scanned every ten minutes",
)
def test_a_lost_event(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "RESCAN", 3.0)

    def deaf(*arguments: object, **options: object) -> Iterator[set[object]]:
        while True:
            time.sleep(0.2)
            yield set()

    monkeypatch.setattr(changes, "watch", deaf)
    assert looked_at(folder, lambda: record(folder / "a.wav", 1), {folder / "a.wav"}) == []


@pytest.mark.situation(
    "rsync's `.a.wav.X1y2Z3`, browsers' `b.wav.part` and `c.wav.crdownload`",
    before="the same, right",
    after="left out until they have their final names",
)
def test_temporary_names(folder: Path) -> None:
    names = {".a.wav.X1y2Z3": "a.wav", "b.wav.part": "b.wav", "c.wav.crdownload": "c.wav"}

    def download() -> None:
        for number, (temporary, name) in enumerate(names.items()):
            record(folder / temporary, number)
            time.sleep(0.5)
            (folder / temporary).rename(folder / name)

    looked_at(folder, download, {folder / name for name in names.values()})


@pytest.mark.situation(
    "an m4a file, as phones record it, arrives",
    before="not tried; by the code: never mentioned",
    after="named, with the reason and what to do; the rest is judged",
)
def test_a_file_of_a_phone(folder: Path, home: Home) -> None:
    def arrive() -> None:
        (folder / "simFan").mkdir()
        (folder / "simFan" / "b.m4a").write_bytes(b"recorded by a phone")
        record(folder / "simFan" / "a.wav", 1)

    said = watched(folder, home, (arrive, r"b\.m4a: \.m4a cannot be read: convert it.*simFan: "))
    assert "1 left out" in said and judged(home) == {"a.wav"}


@pytest.mark.situation(
    "Safari's folder `a.wav.download`, in which a.wav is while it is being downloaded, and a NAS's `#recycle`",
    before="not tried; by the code: the first was a machine called a.wav.download",
    after="left out; a.wav is judged when it is in its final place",
)
def test_a_folder_of_a_download(folder: Path) -> None:
    def download() -> None:
        part = record(folder / "fan" / "a.wav.download" / "a.wav", 1)
        record(folder / "#recycle" / "b.wav", 2)
        time.sleep(1.5)
        part.rename(folder / "fan" / "a.wav")

    looked_at(folder, download, {folder / "fan" / "a.wav"})


# What a place says of an arrival


def arrived(folder: Path, home: Home, *files: Path) -> Ingest:
    return ingest_recordings(folder, home, SETTINGS, arrived=[printable(file) for file in files])


@pytest.mark.situation(
    "files with names of DCASE test sets, or in a folder `test`, arrive",
    before="stored as test recordings with the label in their name, or quarantined; never judged",
    after="judged like all arrivals: no label in a name is trusted; `asd ingest` of the folder takes the labels",
)
@pytest.mark.parametrize(
    "name",
    [
        "fan/test/section_00_source_test_normal_0001_a_1.wav",
        "fan/test/section_00_source_test_anomaly_0001_a_1.wav",
        "fan/train/section_00_source_train_anomaly_0001_a_1.wav",
        "fan/test/new.wav",
        "fan/abnormal 0815.wav",
        "fan/test/anomaly_id_00_00000001.wav",
    ],
)
def test_names_of_test_sets(folder: Path, tmp_path: Path, name: str) -> None:
    home = Home.at(tmp_path / "home")
    file = record(folder / name, 1)
    assert arrived(folder, home, file)["quarantined"] == {}
    assert labels(home) == {file.name: ("train", "unknown", "")}
    assert set(Catalog(home.recordings).recordings["machine"]) == {"fan"}


@pytest.mark.situation(
    "a test set that was ingested lies in the watched folder, and its files are touched",
    before="not tried",
    after="they stay test recordings with their labels",
)
def test_a_test_set_that_is_known(folder: Path, tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    file = record(folder / "fan/test/section_00_source_test_anomaly_0001_a_1.wav", 1)
    train = record(folder / "fan/train/section_00_source_train_normal_0001_a_1.wav", 2)
    ingested(home, folder)
    expected = {file.name: ("test", "anomaly", ""), train.name: ("train", "normal", "")}
    before = sorted(home.recordings.iterdir())
    assert arrived(folder, home, file, train)["added"] == 0
    assert labels(home) == expected and sorted(home.recordings.iterdir()) == before
    # The folder is renamed: they are the same recordings.
    (folder / "fan/test").rename(folder / "fan/source_test")
    assert arrived(folder, home, folder / "fan/source_test" / file.name)["added"] == 0
    assert labels(home) == expected
    row = Catalog(home.recordings).recordings.set_index("label").loc["anomaly"]
    assert row["path"] == str(folder / "fan/source_test" / file.name) and row["session"] == ""


@pytest.mark.situation(
    "a test set arrives, and is ingested with `asd ingest` afterwards",
    before="not tried",
    after="its labels are taken; the detector's earlier verdicts no longer count",
)
def test_a_test_set_that_arrives_and_is_ingested_then(folder: Path, tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    file = record(folder / "fan/test/section_00_source_test_anomaly_0001_a_1.wav", 1)
    arrived(folder, home, file)
    Catalog(home.recordings).label({digest_of_file(file): "normal"}, "detector 1")
    ingested(home, folder)
    assert labels(home) == {file.name: ("test", "anomaly", "")}


@pytest.mark.situation(
    "`asd ingest` of a folder with a manifest that does not list a file",
    before="the file was never mentioned",
    after="it is counted and named",
)
def test_a_file_that_the_manifest_does_not_list(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.cli.app import app

    record(folder / "a.wav", 1)
    extra = record(folder / "later" / "b.wav", 2)
    (folder / "manifest.csv").write_text("path,machine\na.wav,fan\n")
    app(["ingest", str(folder), "--home", str(tmp_path / "home")], standalone_mode=False)
    said = "".join(capsys.readouterr()).replace("\n", "")
    assert f"not listed in the manifest: {extra}" in said
