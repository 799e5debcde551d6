"""The stores of Prefect and MLflow, and what is served from them."""

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pandas as pd
import pytest
import requests
import soundfile
from mlflow.store.db.utils import _get_latest_schema_revision
from prefect.logging import disable_run_logger
from typer.testing import CliRunner

from asdcore.datasets.simulate import simulate
from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.features.compute import compute_features
from asdcore.monitoring.comparison import compare
from asdcore.monitoring.following import Rule, begin_following, follow
from asdcore.monitoring.incidents import open_incidents
from asdcore.normality.threshold import Threshold
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.names import find_recordings
from asdcore.settings import NormalitySettings, RecordingSettings, Settings
from asdcore.storage.files import listed
from asdcore.storage.home import Home
from flows.clean import clean
from flows.cli.app import app, main
from tasks.alarms import raised_alarms
from tasks.features import _leave_out
from tasks.mlflow_store import every
from tasks.monitoring import read_history
from tasks.no_answer import NoAnswerError
from tasks.promotion import decided
from tasks.publishing import LOGGED_STEP, log_drift
from tasks.registered import NAME, registered_models, versions_in_file
from tasks.registry import _is_still_registered, champion_version, set_champion, signature
from tasks.results import INDEX, stored_scores
from tasks.tracking import client, tracked_run

pytestmark = pytest.mark.flow


# --- the registry -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with version 1, the champion, and version 2."""
    home = Home.at(tmp_path_factory.mktemp("registry"))
    store = client(home)
    store.create_registered_model(NAME)
    for number in ("1", "2"):
        folder = home.mlartifacts / "models" / number / "artifacts" / "detector"
        folder.mkdir(parents=True)
        (folder / "detector.json").write_text(number)
        store.create_model_version(NAME, folder.parent.as_uri())
    set_champion(home, "1", "the first version")
    return home


@pytest.fixture
def copied(registry: Home, tmp_path: Path) -> Home:
    """A copy of it, to be damaged."""
    shutil.copy(registry.root / "mlflow.db", tmp_path / "mlflow.db")
    return Home.at(tmp_path)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Home, Any]]:
    """A home whose registry is a server that answers everything in one way."""
    answer = SimpleNamespace(code=200, body=b"{}")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer.code)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_POST = do_PATCH = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield Home.at(tmp_path), answer
    server.shutdown()
    server.server_close()


HICCUPS = {
    "an empty answer of a gateway": (200, b"{}"),
    "the page of a login": (200, b"<html>log in</html>"),
    "the 404 of a proxy": (404, b"<html>not found</html>"),
    "the 404 of another server": (404, b'{"detail": "Not Found"}'),
    "a refused request": (400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}'),
    "no permission": (403, b"no"),
    "busy": (503, b"busy"),
}


@pytest.mark.situation(
    "MLflow's store does not answer, or something else answers in its place (a proxy's 404, a login page, `{}`, a "
    "refused request, 403, 503)",
    before='a refused request and the answer `{}` were taken for "there is no champion", so a challenger was '
    "promoted ungated",
    after='only MLflow\'s explicit answer counts as "there is none"; everything else is retried and then fails with '
    "one sentence, and nothing is promoted or registered twice",
)
@pytest.mark.parametrize("hiccup", HICCUPS)
def test_a_hiccup_of_the_registry_is_not_an_empty_registry(answering: tuple[Home, Any], hiccup: str) -> None:
    home, answer = answering
    answer.code, answer.body = HICCUPS[hiccup]
    for ask in (champion_version, registered_models):
        with pytest.raises(NoAnswerError, match=r"http://127\.0\.0\.1:\d+ (does not answer|is not MLflow)"):
            ask(home)
    with pytest.raises(NoAnswerError):
        decided(home, "1", Path("detector"), pd.DataFrame(), Settings())
    if answer.code != 200:
        with home.at_work(), pytest.raises((NoAnswerError, mlflow.MlflowException)):
            _is_still_registered({"version": "1", "run": "r"})


@pytest.mark.situation(
    "a new home: MLflow has no model yet",
    before="the same, right",
    after="there is no champion: the first version becomes it",
)
def test_where_mlflow_says_that_there_is_no_model_there_is_none(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    assert champion_version(home) == "" and registered_models(home) == []


def schema(home: Home, revision: str) -> None:
    with closing(sqlite3.connect(home.root / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", [revision])


OLDER = "f5a4f2784254"
"""a revision of earlier versions of MLflow"""


@pytest.mark.situation(
    "the tables of MLflow's store are of an older version of MLflow than the installed one",
    before="MLflow's own message, with `<database_uri>` for the user to fill in",
    after="one sentence: stop, back up, and run `mlflow db upgrade` with the URI; after that it works",
)
def test_the_store_of_an_older_mlflow_is_upgraded_as_the_message_says(copied: Home) -> None:
    schema(copied, OLDER)
    with pytest.raises(NoAnswerError) as raised:
        champion_version(copied)
    uri = f"sqlite:///{copied.root / 'mlflow.db'}"
    assert f"was written by an older MLflow than the installed one ({mlflow.__version__})" in str(raised.value)
    assert f"back it up, and run `mlflow db upgrade {uri}`" in str(raised.value)


@pytest.mark.slow
@pytest.mark.situation(
    "`mlflow db upgrade` of a store that an older MLflow wrote",
    before="not tried",
    after="versions and champion are there again",
)
def test_after_the_upgrade_everything_is_there(copied: Home) -> None:
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config

    uri = f"sqlite:///{copied.root / 'mlflow.db'}"
    command.downgrade(_get_alembic_config(uri), "-3")
    upgraded = [sys.executable, "-m", "mlflow", "db", "upgrade", uri]
    subprocess.run(upgraded, check=True, capture_output=True, timeout=120)
    with closing(sqlite3.connect(copied.root / "mlflow.db")) as database:
        assert (
            database.execute("SELECT version_num FROM alembic_version").fetchone()[0] == _get_latest_schema_revision()
        )
    assert champion_version(copied) == "1"


@pytest.mark.situation(
    "the tables of MLflow's store are of a newer version of MLflow",
    before="MLflow asked for an upgrade, which cannot work",
    after="one sentence: install that version again",
)
def test_the_store_of_a_newer_mlflow_asks_for_that_version(copied: Home) -> None:
    schema(copied, "ffffffffffff")
    with pytest.raises(NoAnswerError, match=r"written by a newer MLflow .* install that version again"):
        champion_version(copied)


@pytest.mark.situation(
    "`mlflow.db` is damaged",
    before="`asd models`: unexpected DatabaseError, with an SQL statement",
    after="one sentence: restore it from a backup, or move it away; nothing is guessed",
)
def test_a_damaged_registry_is_said_to_be(copied: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)
    (copied.root / "mlflow.db").write_bytes(b"no database" * 500)
    for ask in (champion_version, registered_models):
        with pytest.raises(NoAnswerError, match=r"the file is damaged. Restore it from a backup"):
            ask(copied)


@pytest.fixture
def lock(copied: Home) -> Iterator[sqlite3.Connection]:
    """Another program that keeps the file locked, until it is closed."""
    other = sqlite3.connect(copied.root / "mlflow.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    yield other
    other.close()


@pytest.mark.situation(
    "another program keeps `mlflow.db` locked",
    before="`asd models`: unexpected OperationalError after 20 s, with an SQL statement and a link",
    after="waits, then ends with one sentence that says so, in `asd models` and in every command that asks MLflow",
)
def test_a_locked_registry_is_waited_for_and_then_said(
    copied: Home, lock: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tasks.registered.SECONDS_TO_WAIT", 0.2)
    monkeypatch.setattr("sys.argv", ["asd", "models", "--home", str(copied.root)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 1 and "another program keeps it locked" in said.replace("\n", " ")
    assert "SQL" not in said and "Traceback" not in said and "--debug" not in said


@pytest.mark.situation(
    "another program locks `mlflow.db` for a moment",
    before="the same, right",
    after="the commands wait for it, and ask again",
)
def test_a_registry_that_is_locked_for_a_moment_answers(
    copied: Home, lock: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.mlflow_store.PAUSES", (0.5, 0.5))
    threading.Timer(6, lock.close).start()  # MLflow alone gives up after five seconds, when it first opens the file.
    assert champion_version(copied) == "1"
    assert versions_in_file(copied) is not None


@pytest.mark.situation(
    "more registered versions than a store gives at once",
    before="the first page of 10,000 was listed",
    after="every page is read",
)
def test_every_page_of_versions_is_read(registry: Home) -> None:
    found = every(client(registry).search_model_versions, f"name = '{NAME}'", max_results=1)
    assert sorted(str(one.version) for one in found) == ["1", "2"]


@pytest.mark.situation(
    "`asd clean --yes` while the registry does not answer, or the table of recordings is missing",
    before="features that a registered detector needs could be deleted; with an empty table all features were",
    after="nothing is deleted, since it is not known what is needed",
)
def test_clean_deletes_nothing_while_it_does_not_know_what_is_needed(answering: tuple[Home, Any]) -> None:
    home, answer = answering
    answer.code, answer.body = HICCUPS["busy"]
    kept = home.features / "abc" / "shard-1.parquet"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(AsdError, match="has no recording, so every feature would be deleted"):
        clean(home, Settings(), delete=True, verify=False)
    ingested(home, "0a", "pump/a.wav")
    with pytest.raises(NoAnswerError):
        clean(home, Settings(), delete=True, verify=False)
    assert kept.exists()


@pytest.mark.situation(
    "`asd clean --yes` while the files of a registered version are gone or damaged, or its drive is not mounted",
    before="the version counted as one that needs no features: they could be deleted",
    after="nothing is deleted, and the version is named; only one of an older format, which cannot be used, needs none",
)
def test_clean_deletes_nothing_while_the_files_of_a_version_are_gone(registry: Home, tmp_path: Path) -> None:
    home = Home.at(shutil.copytree(registry.root, tmp_path / "home"))
    ingested(home, "0a", "pump/a.wav")
    kept = home.features / "abc" / "shard-1.parquet"
    kept.parent.mkdir(parents=True)
    kept.touch()
    away = registry.root / "away"
    registry.mlartifacts.rename(away)  # Where the registry of the copy says that they are.
    try:
        description = home.mlartifacts / "models" / "2" / "artifacts" / "detector" / "detector.json"
        (description.parents[3] / "1" / "artifacts" / "detector" / "detector.json").write_text('{"format": 1}')
        for damage in (description.unlink, lambda: description.write_text("{"), lambda: description.write_text("{}")):
            damage()
            with pytest.raises(AsdError, match="not known which features version 2 needs"):
                clean(home, Settings(), delete=True, verify=False)
            assert kept.exists()
        description.write_text('{"format": 1}')
        clean(home, Settings(), delete=True, verify=False)
        assert not kept.exists()
    finally:
        away.rename(registry.mlartifacts)


# --- what is served ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pump(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a detector that knows one machine, and a recording of it."""
    place = tmp_path_factory.mktemp("served")
    simulate(place, machines=["simFan"], source_train=10, target_train=2, test_per_kind=1, seconds=1.0)
    settings = Settings(normality=NormalitySettings(scorers=("spectrum",), false_alarm_rate=0.1))
    Detector.fit(place, settings).save(place / "detector")
    return place / "detector", next((place / "simFan" / "test").glob("*.wav"))


@pytest.fixture(scope="module")
def model(pump: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that a registration logs."""
    import tasks.served_detector as served

    folder = tmp_path_factory.mktemp("model") / "model"
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(served.__file__),
        artifacts={"detector": str(pump[0])},
        signature=signature(),
        pip_requirements=["mlflow"],
    )
    return folder


@pytest.fixture(scope="module")
def ask(model: Path) -> Any:
    """Send rows to MLflow's own scoring server, in this process; the answer as strict JSON."""
    from fastapi.testclient import TestClient
    from mlflow.pyfunc.scoring_server import init

    server = TestClient(init(mlflow.pyfunc.load_model(str(model))), raise_server_exceptions=False)

    def asked(*rows: dict[str, Any]) -> list[dict[str, Any]]:
        body = json.dumps({"dataframe_records": rows})
        answer = server.post("/invocations", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200, answer.text
        return strict(answer.text)

    return asked


def strict(text: str) -> list[dict[str, Any]]:
    """The predictions of an answer that is JSON by the standard: without NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found: list[dict[str, Any]] = json.loads(text, parse_constant=refuse)["predictions"]
    return found


@pytest.fixture(scope="module")
def samples(pump: tuple[Path, Path]) -> list[float]:
    found: list[float] = soundfile.read(pump[1])[0].tolist()
    return found


@pytest.mark.situation(
    '`mlflow models serve`: one of two waveforms has no `sample_rate`, a path beside a waveform, `16000.0`, "16000", '
    "two channels, no machine",
    before="one missing `sample_rate`, a path beside a waveform and two channels failed the whole request",
    after="each row is scored",
)
def test_rows_that_differ_in_their_columns_are_scored(ask: Any, pump: tuple[Path, Path], samples: list[float]) -> None:
    rows = ask(
        {"path": str(pump[1])},
        {"waveform": samples},
        {"waveform": samples, "sample_rate": 16000.0, "machine": "simFan"},
        {"waveform": samples, "sample_rate": "16000"},
        {"waveform": [[sample, sample] for sample in samples], "sample_rate": 16000},
    )
    assert [row["reason"] for row in rows] == [""] * 5
    assert {round(row["score"], 3) for row in rows} == {round(rows[0]["score"], 3)}
    assert {type(row["decision"]) for row in rows} == {float}


BAD_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "a file that is not there": ({"path": "/nowhere/a.wav"}, "unreadable: No such file"),
    "a folder": ({"path": "/"}, "unreadable: Is a directory"),
    "an empty path": ({"path": ""}, "path has to be the name of a file"),
    "a path that is a number": ({"path": 5}, "path has to be the name of a file, not 5"),
    "a path with a zero byte": ({"path": "a\0b"}, "path has to be the name of a file"),
    "nothing": ({}, "a row needs path or waveform"),
    "a machine that is not enrolled": ({"path": "a.wav", "machine": 7}, "machine '7' is not enrolled; this detector"),
    "a text": ({"waveform": "abc"}, "waveform has to be a list of numbers"),
    "texts": ({"waveform": ["a", "b"]}, "waveform has to be a list of numbers"),
    "no samples": ({"waveform": []}, "cannot be scored"),
    "a few samples": ({"waveform": [0.1, 0.2]}, "too short"),
    "silence": ({"waveform": [0.0] * 32_000}, "cannot be scored"),
    "channels of different lengths": ({"waveform": [[0.1], [0.1, 0.2]]}, "waveform has to be a list of numbers"),
    "three dimensions": ({"waveform": [[[0.1]]]}, "one or two dimensions"),
    "samples that are missing": ({"waveform": [None] * 32_000}, "cannot be scored"),
    "no rate": ({"waveform": [0.1] * 9, "sample_rate": 0}, "sample_rate has to be a whole number of Hz, not 0"),
    "half a Hz": ({"waveform": [0.1] * 9, "sample_rate": 16000.5}, "sample_rate has to be a whole number"),
    "a rate in words": ({"waveform": [0.1] * 9, "sample_rate": "high"}, "sample_rate has to be a whole number"),
    "a rate that no recorder has": ({"waveform": [0.1] * 9, "sample_rate": 1e300}, "sample_rate has to be a whole"),
}


@pytest.mark.situation(
    "`mlflow models serve`: a row with a file that is not there, another machine, a wrong shape, rate or type",
    before="a missing file answered `NaN`, which is no JSON; the others failed the whole request, some with a stack "
    "trace",
    after="the row has its `reason`, numbers are `null`, and the other rows are scored",
)
def test_a_row_that_cannot_be_scored_stops_no_other_one(ask: Any, pump: tuple[Path, Path]) -> None:
    good = {"path": str(pump[1])}
    rows = ask(good, *(row for row, _ in BAD_ROWS.values()), good)
    assert rows[0] == rows[-1] and rows[0]["verdict"] and rows[0]["reason"] == ""
    for row, (name, (_, reason)) in zip(rows[1:-1], BAD_ROWS.items(), strict=True):
        assert reason in row["reason"], name
        assert (row["score"], row["p_value"], row["decision"], row["verdict"]) == (None, None, None, ""), name


@pytest.mark.situation(
    "`mlflow models serve`: no row at all", before="the same, right", after="an empty list of predictions"
)
def test_no_row_is_no_prediction(ask: Any) -> None:
    assert ask() == []


@pytest.mark.slow
@pytest.mark.situation(
    "`mlflow models serve`, the real server: a missing file beside a good one",
    before="`NaN`, which is no JSON",
    after="`null` and a reason; the other row is scored",
)
def test_the_real_server_answers_each_row(model: Path, pump: tuple[Path, Path], tmp_path: Path) -> None:
    port = 5900 + os.getpid() % 90
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model), "--env-manager", "local"]
    with (tmp_path / "log").open("w") as log:
        # MLflow starts uvicorn by its name.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command += ["--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"PATH": path})
    try:
        until = time.monotonic() + 240
        while time.monotonic() < until:
            assert server.poll() is None, (tmp_path / "log").read_text()
            try:
                requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).raise_for_status()
                break
            except requests.RequestException:
                time.sleep(0.5)
        rows = [{"path": str(pump[1])}, {"path": "/nowhere/a.wav"}]
        answer = requests.post(f"http://127.0.0.1:{port}/invocations", json={"dataframe_records": rows}, timeout=60)
        good, bad = strict(answer.text)
    finally:
        server.terminate()
        server.wait()
    assert good["verdict"] and bad["score"] is None and "No such file" in bad["reason"]


# --- scores, drift, incidents -----------------------------------------------------------------------------------------


def scored(home: Home, stamp: str, *recordings: str, verdict: str = "anomalous", **other: object) -> Path:
    """A score table as `asd score` leaves it."""
    rows = [
        {"path": f"pump/{name}.wav", "recording": name, "machine": "pump", "score": 9.0, "p_value": 0.001}
        | {"verdict": verdict, "decision": float(verdict == "anomalous"), "in_training": False, "reason": ""}
        | {"triggered_by": "", "clips": 1, "strangest_at": 0.0, "detector": "1"}
        | other
        for name in recordings
    ]
    table = home.scores / f"score-{stamp}-ab12.parquet"
    table.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(table)
    return table


def drift(home: Home, at: pd.Timestamp) -> Path:
    """A drift report as `asd score` leaves it."""
    row: dict[str, Any] = {"machine": "pump", "recordings": 20, "not_scored": 0, "scored": 20, "alarms": 1}
    row |= {"asked": 0.05, "alarms_low": 0.0, "uniform": 0.5, "target_fraction": 0.0, "level_dbfs": -20.0, "at": at}
    row |= {"clipped": 0.0, "seconds": 1.0, "sentences": [], "drifted": False, "detector": "1", "shift_spectrum": 0.1}
    file = home.scores / f"drift-{at:%Y%m%dT%H%M%S%f}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row]).to_parquet(file)
    return file


def ingested(home: Home, recording: str, path: str, machine: str = "pump") -> None:
    described = {"recording": recording, "path": path, "machine": machine, "split": "train", "label": "normal"}
    times = {"reason": "", "ingested_at": pd.Timestamp.now("UTC").to_pydatetime(), "section": "00", "domain": "source"}
    Catalog(home.recordings).append([{**described, **times, "attributes": "{}", "session": ""}])


RULE = Rule(Threshold(0.01), streak=4)


@pytest.mark.situation(
    "`drift over time` in MLflow after more than 200 scoring runs without a server",
    before="only the last 200 were added; the others were silently left out",
    after="every run is there, each with its own step, in order of time",
)
def test_drift_over_time_has_every_run_with_a_step_of_its_own(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    begin = pd.Timestamp("2026-05-01T08:00:00", tz="UTC")
    for n in range(230):  # Two runs in each minute: the step is not the minute alone.
        drift(home, begin + pd.Timedelta(seconds=30 * n))
    log_drift(home)
    drift(home, begin + pd.Timedelta(days=1))
    log_drift(home)
    run = tracked_run(home, "drift", "drift", "drift over time")
    points = client(home).get_metric_history(run, "drift/pump/alarm_share")
    by_step = sorted(points, key=lambda point: point.step)
    assert len(points) == 231 and len({point.step for point in points}) == 231
    assert [point.timestamp for point in by_step] == sorted(point.timestamp for point in points)
    assert client(home).get_run(run).data.tags[LOGGED_STEP] == str(by_step[-1].step) == "1440"


@pytest.mark.situation(
    "a damaged drift report of an earlier scoring run",
    before="`asd score` ended with an unexpected ArrowInvalid after scoring; the alarm was not reported",
    after="reported and set aside, never deleted; the run continues",
)
@pytest.mark.parametrize("content", [b"PAR1 cut off", b"", "another table"])
def test_a_damaged_drift_report_stops_no_scoring_run(
    tmp_path: Path, content: bytes | str, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home.at(tmp_path)
    good = drift(home, pd.Timestamp("2026-05-01", tz="UTC"))
    bad = good.with_name("drift-20260502T080000000000.parquet")
    if isinstance(content, bytes):
        bad.write_bytes(content)
    else:
        pd.DataFrame({"machine": ["pump"]}).to_parquet(bad)
    before = bad.read_bytes()
    assert len(read_history(home)) == 1
    assert f"{bad} is damaged" in capsys.readouterr().err.replace("\n", "")
    (aside,) = home.scores.glob("damaged-*")
    assert aside.read_bytes() == before


@pytest.mark.situation(
    "a damaged score table, for a machine with an alarm rule over several runs",
    before="`asd score` ended with an unexpected ArrowInvalid; nothing was stored",
    after="reported; the rule counts without that run",
)
def test_a_damaged_score_table_hides_no_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home.at(tmp_path)
    scored(home, "20260501T080000", "0a")
    (home.scores / "score-20260502T080000-ab12.parquet").write_bytes(b"PAR1 cut off")
    detector: Any = SimpleNamespace(threshold_of=lambda _: Threshold(0.01, 2, 2))
    now = pd.DataFrame({"machine": ["pump"], "recording": ["0b"], "decision": [1.0], "path": ["b.wav"]})
    now["treatment"] = ""
    alarms, new = raised_alarms(home, detector, now)
    assert (list(alarms), new) == (["pump"], ["pump"])
    assert "the alarm rule ignores it" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.situation(
    "a score table without the column `path`",
    before="`asd results` and the board ended with KeyError",
    after="it is named and left out; the other tables are listed",
)
def test_a_score_table_without_a_path_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home.at(tmp_path)
    scored(home, "20260501T080000", "0a")
    odd = scored(home, "20260502T080000", "0b")
    pd.read_parquet(odd).drop(columns="path").to_parquet(odd)
    assert [row["recording"] for row in stored_scores(home).rows] == ["0a"]
    assert "it has no column path" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.situation(
    "`scores.db` is damaged, at its beginning or in the middle",
    before="at the beginning: silently deleted and made again; in the middle: unexpected DatabaseError",
    after="reported, set aside and made again from the score tables",
)
@pytest.mark.parametrize("where", [0, 4096, 20480])
def test_a_damaged_index_is_set_aside_and_made_again(
    tmp_path: Path, where: int, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home.at(tmp_path)
    names = [f"{n:02x}" for n in range(200)]
    scored(home, "20260501T080000", *names)
    assert len(stored_scores(home).rows) == 200
    file = home.root / INDEX
    content = file.read_bytes()
    file.write_bytes(content[:where] + b"\xff" * 4096 + content[where + 4096 :])
    assert len(stored_scores(home).rows) == 200
    assert "set aside as damaged-" in capsys.readouterr().err.replace("\n", " ")
    (aside,) = home.root.glob(f"damaged-*-{INDEX}")
    assert b"\xff" * 4096 in aside.read_bytes()


@pytest.mark.situation(
    "`incidents.db` is damaged",
    before="no scoring run opened an incident until somebody moved the file away",
    after="the next scoring run says so, sets it aside with its journal and starts a new one, in which its alarms "
    "are counted",
)
@pytest.mark.parametrize("where", [0, 4096])
def test_a_damaged_store_of_incidents_is_set_aside_and_alarms_count(
    tmp_path: Path, where: int, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home.at(tmp_path)
    begin_following(home)
    scored(home, "20260501T080000", "0a")
    follow(home, lambda _: RULE)
    content = home.incidents.read_bytes()
    home.incidents.write_bytes(content[:where] + b"\xff" * 4096 + content[where + 4096 :])
    begin_following(home)
    scored(home, "20260502T080000", "0b")
    follow(home, lambda _: RULE)
    (incident,) = open_incidents(home)
    assert incident.recordings == 1 and incident.worst == "pump/0b.wav"
    assert "was damaged: it was set aside" in capsys.readouterr().err.replace("\n", " ")
    assert list(home.root.glob("damaged-*-incidents.db"))


@pytest.mark.situation(
    "another program keeps `incidents.db` locked",
    before="the message advised to move the file away",
    after="waits, then ends with one sentence that says so; nothing is moved",
)
def test_a_locked_store_of_incidents_is_not_a_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home.at(tmp_path)
    begin_following(home)
    monkeypatch.setattr("asdcore.monitoring.incident_store.SECONDS_TO_WAIT", 0.1)
    with closing(sqlite3.connect(home.incidents, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        begin_following(home)
        with pytest.raises(AsdError, match=r"database is locked. Another program has kept it locked"):
            follow(home, lambda _: RULE)
    assert not list(home.root.glob("damaged-*"))


@pytest.mark.situation(
    "the share does not answer when a score table is read to follow incidents",
    before="the table counted as read: its alarms never opened an incident",
    after="the next scoring run reads it again",
)
def test_a_score_table_that_could_not_be_read_for_a_moment_is_followed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home.at(tmp_path)
    begin_following(home)
    table = scored(home, "20260501T080000", "0a")
    (tmp_path / "away").mkdir()
    hidden = table.rename(tmp_path / "away" / table.name)
    table.symlink_to(table)  # A link to itself answers with an error that says nothing of the content.
    follow(home, lambda _: RULE)
    assert open_incidents(home) == []
    table.unlink()
    hidden.rename(table)
    follow(home, lambda _: RULE)
    assert len(open_incidents(home)) == 1


# --- shares that are away ---------------------------------------------------------------------------------------------


@pytest.mark.situation(
    "the folder of the table of recordings or of the scores is on a share that is not mounted (a dangling link, a "
    "missing folder)",
    before="read as an empty folder: every recording was new again, labels were gone",
    after="an error that says what cannot be known; nothing is written",
)
@pytest.mark.parametrize("away", ["a link to nothing", "a file"])
def test_a_folder_that_is_away_is_not_an_empty_one(tmp_path: Path, away: str) -> None:
    folder = tmp_path / "recordings"
    if away == "a file":
        folder.touch()
    else:
        folder.symlink_to(tmp_path / "share" / "recordings")
    with pytest.raises(AsdError, match="cannot be listed"):
        Catalog(folder)
    with pytest.raises(AsdError, match="Is the drive or the share mounted"):
        listed(folder, "*")
    assert Catalog(tmp_path / "new").recordings.empty


@pytest.mark.situation(
    "a part of the table of recordings cannot be read, or is damaged",
    before="both: the message advised to delete it and to ingest again, which loses its labels",
    after="a disk that does not answer is reported as such; a damaged part is to be restored, or moved away",
)
def test_a_part_that_cannot_be_read_is_not_told_to_be_deleted(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    ingested(home, "0a", "pump/a.wav")
    (part,) = home.recordings.glob("part-*.parquet")
    part.write_bytes(b"PAR1 cut off")
    with pytest.raises(AsdError, match=r"damaged .*Restore it from a backup"):
        Catalog(home.recordings)
    part.unlink()
    part.symlink_to(part)
    with pytest.raises(AsdError, match=r"unreadable .*mounted\?"):
        Catalog(home.recordings)


@pytest.mark.situation(
    "a share stops answering in the middle of an ingest of known recordings",
    before="those that could not be read were quarantined, and no longer used for training",
    after="they are reported, and stay in the table as they were",
)
def test_an_ingest_that_cannot_read_known_recordings_does_not_forget_them(
    pump: tuple[Path, Path], tmp_path: Path
) -> None:
    place = shutil.copytree(pump[1].parent.parent, tmp_path / "share" / "simFan")
    catalog = Catalog(tmp_path / "home" / "recordings")
    catalog.ingest(find_recordings(place), RecordingSettings())
    before = catalog.recordings
    found = find_recordings(place)
    for one in found:
        one.path.unlink()
        one.path.symlink_to(one.path)
    done = catalog.ingest(found, RecordingSettings())
    assert len(done.quarantined) == len(before) and os.strerror(errno.ELOOP) in next(iter(done.quarantined.values()))
    pd.testing.assert_frame_equal(catalog.recordings, before)


@pytest.mark.situation(
    "the share with the recordings is away when features are to be computed (an empty or missing mount)",
    before="all of them were quarantined, and out of use until the next ingest",
    after="left out of this run with a warning; the table of recordings stays as it is",
)
@pytest.mark.parametrize("away", ["missing", "empty"])
def test_features_of_a_share_that_is_away_quarantine_nothing(
    pump: tuple[Path, Path], tmp_path: Path, away: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = shutil.copytree(pump[1].parent.parent, tmp_path / "share" / "simFan")
    home = Home.at(tmp_path / "home")
    catalog = Catalog(home.recordings)
    catalog.ingest(find_recordings(place), RecordingSettings())
    before = catalog.recordings
    shutil.rmtree(place)
    if away == "empty":
        for folder in {Path(path).parent for path in before["path"]}:
            folder.mkdir(parents=True)
    pairs = list(zip(before["recording"], before["path"], strict=True))
    _, failures = compute_features(tmp_path / "features", None, pairs, Settings())
    assert len(failures) == len(before)
    with home.at_work(), disable_run_logger():
        _leave_out(failures, dict(pairs))
    assert "Nothing was quarantined" in capsys.readouterr().err.replace("\n", " ")
    pd.testing.assert_frame_equal(Catalog(home.recordings).recordings, before)


@pytest.mark.situation(
    "the share of one machine is not mounted while the gate compares challenger and champion",
    before="the machine was left out of the comparison: what had been newly learned of it was promoted unjudged",
    after="the gate refuses, and says that the recordings cannot be read",
)
def test_the_gate_promotes_nothing_that_it_could_not_judge(pump: tuple[Path, Path], tmp_path: Path) -> None:
    here, away = (shutil.copytree(pump[1].parent.parent, tmp_path / name / "simFan") for name in ("here", "away"))
    settings = Settings(normality=NormalitySettings(scorers=("spectrum",), false_alarm_rate=0.1))
    fan = Detector.load(pump[0])
    both = fan.with_machine("lost", fan.machines["simFan"], {})
    catalog = Catalog(tmp_path / "home" / "recordings")
    catalog.ingest(find_recordings(here), RecordingSettings())
    known = catalog.recordings
    lost = known.assign(machine="lost", path=known["path"].str.replace(str(here), str(away), regex=False))
    shutil.rmtree(away)
    done = compare(both, both, pd.concat([known, lost], ignore_index=True), settings)
    assert not done["promote"] and "lost: none of the" in done["reasons"][0] and len(done["reasons"]) == 1
    new = lost.assign(
        machine="simFan", recording=[f"{n:064x}" for n in range(len(lost))], label="normal", split="train"
    )
    done = compare(fan, fan, pd.concat([known, new], ignore_index=True), settings)
    assert not done["promote"] and "newly labelled normal cannot be read now" in done["reasons"][0]
    assert compare(fan, fan, known, settings)["promote"]


@pytest.mark.situation(
    "`asd retrain --recordings` or `asd ingest` of an empty folder (a share that is not mounted)",
    before="the same, right",
    after="an error before anything is done: no machine is retired, nothing is promoted",
)
def test_an_empty_folder_of_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    result = CliRunner().invoke(app, ["ingest", str(tmp_path / "mount"), "--home", str(tmp_path / "home")])
    assert isinstance(result.exception, AsdError) and str(tmp_path / "mount") in str(result.exception)


# --- object storage ---------------------------------------------------------------------------------------------------


@pytest.mark.situation(
    "a home in object storage fetches the scores of earlier days or of other machines",
    before="the next scoring run opened incidents for all of them",
    after="what was fetched counts as past; only what is scored here opens incidents",
)
def test_scores_that_were_fetched_open_no_incident(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Home.at("s3://plant/home")
    scored(there, "20260501T080000", "0a")
    there.send()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    home = Home.at("s3://plant/home")
    begin_following(home)
    home.fetch_folder(home.scores)
    assert len(list(home.scores.glob("score-*.parquet"))) == 1
    scored(home, "20260502T080000", "0b")
    home.send()
    follow(home, lambda _: RULE)
    (incident,) = open_incidents(home)
    assert incident.worst == "pump/0b.wav" and incident.recordings == 1


@pytest.mark.situation(
    "the notes of a home in object storage are damaged",
    before="the home was taken for a local one, and nothing was uploaded any more",
    after="reported, set aside and made again, which costs a transfer; a registry that was not yet uploaded is kept "
    "beside it",
)
def test_damaged_notes_do_not_make_a_home_a_local_one(s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home.at("s3://plant/home")
    scored(home, "20260501T080000", "0a")
    home.send()
    (home.root / ".mirror.json").write_text("{")
    with pytest.raises(AsdError, match="damaged"):
        home.send()
    Home.at("s3://plant/home").send()
    assert "set aside" in capsys.readouterr().err.replace("\n", " ")
    assert home.address == "s3://plant/home" and list(home.root.glob("damaged-*"))


@pytest.mark.situation(
    "object storage answers 403, 404 for the bucket, 500, or not at all",
    before="not tried",
    after="one sentence with what to do; never taken for an empty home",
)
@pytest.mark.parametrize(
    ("code", "said"), [(403, "do not permit"), (404, "no bucket"), (500, "refused"), (0, "Is the network up")]
)
def test_no_answer_of_the_bucket_is_not_an_empty_one(
    answering: tuple[Home, Any], s3: Any, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    _, answer = answering
    answer.code, answer.body = code, b""
    address = os.environ["MLFLOW_TRACKING_URI"] if code else "http://127.0.0.1:9"
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("time.sleep", lambda _: None)
    home = Home.at("s3://elsewhere/home")
    with pytest.raises(AsdError, match=said), home.synchronised():
        pytest.fail("the home was opened")
