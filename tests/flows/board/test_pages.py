"""The board says what state machines are in, shows recordings, and takes labels."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock
from starlette.testclient import TestClient

from asdcore.monitoring.incidents import ANOMALY, open_incidents
from asdcore.recordings.catalog import Catalog
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home
from flows.board.app import application
from tasks.board import Records
from tests.asdcore.notification.conftest import Receiver
from tests.asdcore.reports.conftest import Plant
from tests.asdcore.reports.test_score import Page
from tests.flows.board.conftest import ADDRESS, FROM_HERE, notify_by


def address(home: Home, name: str) -> str:
    """Of the page of a recording, by the name of its file."""
    rows = Records(home).recordings()
    (digest,) = rows.loc[rows["path"].str.endswith(f"/{name}"), "recording"]
    return f"/recordings/{digest}"


def board_of(home: Home) -> TestClient:
    return TestClient(application(Records(home)), base_url=ADDRESS, headers=FROM_HERE)


def test_the_first_page_says_the_state_of_each_machine_its_incident_and_which_detector_is_the_champion(
    board: TestClient,
) -> None:
    page = Page(board.get("/").text)
    assert "Detector version 1 is the champion" in page.text
    assert "incident open" in page.text and "3 anomalous of 3 recordings" in page.text
    assert "The last: gone.wav" in page.text
    assert {"point normal", "point anomalous"} <= {*page.values("g", "class")}
    assert "P-values of the last 4 recordings, the oldest on the left: 3 anomalous, 1 normal" in page.values(
        "svg", "aria-label"
    )


def test_the_page_of_a_machine_lists_what_to_listen_to_first_and_how_reliable_it_is(board: TestClient) -> None:
    text = Page(board.get("/machines/pump").text).text
    _, first, latest = re.split("Listen to first|Latest recordings", text)
    assert "Anomalous or suspect, and not labelled yet: 3" in first
    assert "quiet.wav" not in first and "quiet.wav" in latest


def test_the_page_of_a_recording_has_both_sounds_both_pictures_and_sentences(board: TestClient, home: Home) -> None:
    page = Page(board.get(address(home, "a.wav")).text)
    assert len(page.sounds()) == 2
    assert sum(label.startswith("Spectrogram of") for label in page.values("svg", "aria-label")) == 2
    assert "kHz" in page.text and "most similar normal recording" in page.text


def test_a_recording_whose_file_is_gone_can_still_be_looked_up(board: TestClient, home: Home) -> None:
    answer = board.get(address(home, "gone.wav"))
    assert answer.status_code == 200
    assert "gone.wav no longer exists" in Page(answer.text).text


def test_a_file_that_was_replaced_is_not_shown_for_the_recording_that_was_scored(
    home: Home, plant: Plant, tmp_path: Path
) -> None:
    file = plant.folder / "pump" / "test" / "b.wav"
    kept = shutil.copy(file, tmp_path / "b.wav")
    where = address(home, "b.wav")
    plant.recording("pump/test/b.wav", 999)
    try:
        page = Page(board_of(home).get(where).text)
    finally:
        shutil.copy(kept, file)
    assert "b.wav has changed since it was scored" in page.text and not page.sounds()


def test_a_label_is_written_as_asd_label_would_and_changes_the_state(home: Home, tmp_path: Path) -> None:
    own = Home.at(shutil.copytree(home.root, tmp_path / "home"))
    board = board_of(own)
    for name in ("a.wav", "b.wav"):
        where = address(own, name)
        answer = board.post(f"{where}/label", data={"label": "normal", "by": "Anna\n<b>"}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{where}#label")
    rows = Catalog(own.recordings).recordings.set_index("recording")
    assert rows.loc[where.removeprefix("/recordings/"), ["label", "labelled_by"]].tolist() == ["normal", "Anna <b>"]
    assert "Labelled normal by Anna <b>" in Page(board.get(where).text).text
    assert "1 anomalous, 2 normal of 3 recordings" in Page(board.get("/").text).text


def test_a_label_is_refused_while_another_process_changes_the_table_and_nothing_waits(home: Home) -> None:
    lock = FileLock(home.root / "recordings.lock", is_singleton=False)
    (home.root / "recordings.lock.holder").write_text("process 12")
    before = sorted(home.recordings.iterdir())
    with lock:
        answer = board_of(home).post(f"{address(home, 'a.wav')}/label", data={"label": "normal"})
    assert answer.status_code == 503
    assert "not saved: waiting for process 12" in Page(answer.text).text
    assert sorted(home.recordings.iterdir()) == before


@pytest.mark.parametrize(
    ("path", "data", "status"),
    [
        ("/recordings/{known}/label", {"label": "broken"}, 400),
        ("/recordings/{unknown}/label", {"label": "normal"}, 404),
        ("/recordings/..%2F..%2Fetc%2Fpasswd/label", {"label": "normal"}, 404),
        ("/recordings/{known}/label", {"label": "normal", "by": "x" * 20_000}, 413),
    ],
)
def test_a_form_that_says_nothing_sensible_changes_nothing(
    board: TestClient, home: Home, path: str, data: dict[str, str], status: int
) -> None:
    before = sorted(home.recordings.iterdir())
    known = address(home, "a.wav").removeprefix("/recordings/")
    assert board.post(path.format(known=known, unknown="0" * 64), data=data).status_code == status
    assert sorted(home.recordings.iterdir()) == before


def test_an_incident_is_closed_by_who_says_so_and_told_of(home: Home, tmp_path: Path, receiver: Receiver) -> None:
    own = Home.at(shutil.copytree(home.root, tmp_path / "home"))
    notify_by(receiver, own)
    board = board_of(own)
    (incident,) = [one for one in open_incidents(own) if one.kind == ANOMALY]
    page = Page(board.get("/incidents").text)
    assert f"/incidents/{incident.id}/close" in page.values("form", "action")
    assert address(own, Path(incident.worst).name) in page.values("a", "href")
    text = Page(board.post(f"/incidents/{incident.id}/close", data={"by": "Anna"}).text).text
    assert incident.id not in {one.id for one in open_incidents(own)}
    assert "by Anna" in text.split("Closed")[1]
    (message,) = [json.loads(body) for _, body in receiver.requests if json.loads(body)["event"] == "closed"]
    assert message["incidents"][0]["id"] == incident.id
    assert board.post(f"/incidents/{incident.id}/close", data={}).status_code == 503


def test_names_are_text_whatever_they_are(tmp_path: Path) -> None:
    machine, session = "<img src=x onerror=alert(1)>/../a?b#c", '"><script>alert(2)</script>'
    home = Home.at(tmp_path / "<script>alert(3)</script>")
    home.scores.mkdir(parents=True)
    row = {
        "path": f"/data/{session}/<b>.wav",
        "recording": "0" * 64,
        "machine": machine,
        "score": 1.0,
        "p_value": 0.5,
        "verdict": "normal",
        "decision": 0,
        "triggered_by": "<i>",
        "in_training": False,
        "clips": 1,
        "strangest_at": 0.0,
        "reason": "",
        "detector": "<u>",
    }
    pd.DataFrame([row]).to_parquet(home.scores / "score-20260501T100000-0000.parquet")
    board = board_of(home)
    first = Page(board.get("/").text)
    (link,) = [link for link in first.values("a", "href") if link.startswith("/machines/")]
    for page in (first, Page(board.get(link).text), Page(board.get(f"/recordings/{'0' * 64}").text)):
        assert not {"script", "img", "b", "i", "u"} & {*page.tags}
        assert machine in page.text and "<b>.wav" in page.text


def test_an_empty_home_says_how_to_begin(tmp_path: Path) -> None:
    board = board_of(Home.at(tmp_path / "none"))
    text = Page(board.get("/").text).text
    assert "This home is empty" in text and "asd retrain" in text and "There is no champion" in text
    assert "No incident is open" in Page(board.get("/incidents").text).text
    assert not (tmp_path / "none").exists()


def test_without_a_champion_scores_are_shown_all_the_same(home: Home, tmp_path: Path) -> None:
    own = Home.at(tmp_path)
    shutil.copytree(home.scores, own.scores)
    board = board_of(own)
    text = Page(board.get("/").text).text
    assert "There is no champion" in text and "3 anomalous of 3 recordings" in text
    assert "no registered detector" in Page(board.get(address(own, "a.wav")).text).text


def test_a_detector_that_is_gone_is_named_and_hides_nothing_else(home: Home, tmp_path: Path) -> None:
    own = Home.at(shutil.copytree(home.root, tmp_path / "home", ignore=shutil.ignore_patterns(home.mlartifacts.name)))
    home.mlartifacts.rename(home.root / "away")  # The registry says where it was.
    try:
        text = Page(board_of(own).get("/").text).text
    finally:
        (home.root / "away").rename(home.mlartifacts)
    assert "The champion cannot be read" in text and "3 anomalous of 3 recordings" in text


def test_damaged_incidents_hide_no_machine(home: Home, tmp_path: Path) -> None:
    own = Home.at(shutil.copytree(home.root, tmp_path / "home"))
    own.incidents.write_bytes(b"no database, and longer than the header of one " * 100)
    for path in ("/", "/machines/pump"):
        text = Page(board_of(own).get(path).text).text
        assert str(own.incidents) in text and "3 anomalous of 3 recordings" in text


def test_a_damaged_home_is_said_in_words(home: Home, tmp_path: Path) -> None:
    own = Home.at(shutil.copytree(home.root, tmp_path / "home"))
    part = next(own.recordings.glob("part-*.parquet"))
    part.write_bytes(b"no table")
    answer = board_of(own).get("/")
    assert answer.status_code == 503
    assert f"{part}: damaged" in Page(answer.text).text


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_an_unreadable_home_is_said_in_words(home: Home, tmp_path: Path) -> None:
    own = Home.at(shutil.copytree(home.root, tmp_path / "home"))
    own.recordings.chmod(0)
    answer = board_of(own).get("/")
    own.recordings.chmod(0o700)
    assert answer.status_code == 503


def test_a_run_that_is_stored_while_the_board_is_open_is_seen_at_once_and_deleted_ones_go(
    home: Home, tmp_path: Path
) -> None:
    own = Home.at(tmp_path)
    own.scores.mkdir()
    first, second = sorted(home.scores.glob("score-*.parquet"))
    shutil.copy(first, own.scores)
    board = board_of(own)
    assert "1 normal of 1 recording" in Page(board.get("/").text).text
    copied = shutil.copy(second, own.scores)
    assert "3 anomalous of 3 recordings" in Page(board.get("/").text).text
    (own.scores / first.name).unlink()
    assert "The last: gone.wav" in Page(board.get("/").text).text
    shutil.copy(first, own.scores)  # An earlier one that comes later, as from another computer.
    assert "quiet.wav" in Page(board.get("/machines/pump").text).text
    Path(copied).unlink()
    assert "1 normal of 1 recording" in Page(board.get("/").text).text


def test_no_page_has_a_script_or_loads_anything_from_elsewhere(board: TestClient, home: Home) -> None:
    for path in ("/", "/machines/pump", address(home, "a.wav"), "/incidents", "/nowhere"):
        answer = board.get(path)
        found = Page(answer.text)
        assert not {"script", "iframe", "object", "style"} & {*found.tags}, path
        assert not re.search(r"https?://", html.unescape(answer.text)), path
        assert not [name for _, name, _ in found.attributes if name.startswith("on") or name == "style"], path
        assert "script-src" not in answer.headers["content-security-policy"]
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert board.get("/board.css").headers["content-type"].startswith("text/css")


def test_requests_at_the_same_time_are_all_answered(board: TestClient, home: Home) -> None:
    paths = ["/", "/machines/pump", address(home, "a.wav"), address(home, "b.wav"), "/incidents"] * 2
    codes: list[int] = []
    threads = [threading.Thread(target=lambda path=path: codes.append(board.get(path).status_code)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [200] * len(paths)


def test_the_digest_is_that_of_the_file(home: Home, plant: Plant) -> None:
    assert address(home, "a.wav") == f"/recordings/{digest_of_file(plant.folder / 'pump' / 'test' / 'a.wav')}"


def test_no_page_needs_prefect_or_mlflow(home: Home) -> None:
    paths = ["/", "/machines/pump", "/incidents", address(home, "a.wav")]
    script = (
        "import sys; from starlette.testclient import TestClient\n"
        "from asdcore.storage.home import Home; from tasks.board import Records\n"
        "from flows.board.app import application\n"
        f"board = TestClient(application(Records(Home.at({str(home.root)!r}))), base_url={ADDRESS!r})\n"
        f"print([board.get(path).status_code for path in {paths}], "
        "sorted({name.split('.')[0] for name in sys.modules} & {'prefect', 'mlflow'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[200, 200, 200, 200] []", done.stderr
