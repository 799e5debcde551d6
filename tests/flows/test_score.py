"""`asd score`: what it prints, writes and ends with."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from prefect.artifacts import Artifact
from typer.testing import CliRunner

from asdcore.errors import AsdError
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home
from flows.cli.app import app
from flows.score import score
from tasks.monitoring import read_history
from tasks.publishing import LOGGED_UNTIL, log_drift
from tasks.tracking import client, tracked_run

pytestmark = pytest.mark.flow

Asd = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def home(pump_place: Path) -> Path:
    return pump_place / ".asd"


@pytest.fixture(scope="module")
def anomalous(pump_place: Path) -> Path:
    return pump_place / "pump" / "test" / "new.wav"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    (tmp_path / "broken.wav").write_bytes(b"not a sound")
    return tmp_path / "broken.wav"


@pytest.fixture(scope="module")
def normal(pump_place: Path) -> Path:
    return pump_place / "pump" / "test" / "old.wav"


def test_an_anomalous_recording_ends_with_3_and_is_explained_beside_one_that_can_not_be_scored(
    asd: Asd, home: Path, anomalous: Path, broken: Path
) -> None:
    done = asd("score", broken, anomalous, "--explain", "--home", home)
    assert done.returncode == 3, done.stderr
    assert "ANOMALOUS" in done.stdout and "usual deviations" in done.stdout
    assert "  Triggered by " in done.stdout
    (said,) = [line.split("plot: ")[1] for line in done.stdout.splitlines() if "plot: " in line]
    assert Path(said).read_bytes().startswith(b"\x89PNG")
    assert Path(said).parent.parent == home / "scores"


def test_every_run_writes_a_report_beside_its_scores_and_mlflow_keeps_it(
    asd: Asd, home: Path, anomalous: Path, normal: Path
) -> None:
    done = asd("score", anomalous, normal, "--home", home)
    assert done.returncode == 3, done.stderr
    (said,) = [line.removeprefix("Report: ") for line in done.stdout.splitlines() if line.startswith("Report: ")]
    page = Path(said).read_text()
    assert Path(said).parent.with_suffix(".parquet").exists() and Path(said).parent.parent == home / "scores"
    assert "1 anomalous, 1 normal" in page and "Alarm: 1 of 2 recordings anomalous." in page
    assert f"--as anomaly --home {home}" in page
    (kept,) = (home / "mlartifacts").rglob("report.html")
    assert kept.read_text() == page


def test_prefect_links_the_report(home: Path, normal: Path, prefect_api: str) -> None:
    done = score([normal], home=home)
    artifact = Artifact.get("score-report")
    assert artifact is not None and Path(done["report"]).as_uri() in str(artifact.data)


def test_everything_that_was_scored_since_a_time_is_one_report(
    asd: Asd, home: Path, anomalous: Path, normal: Path
) -> None:
    for file in (anomalous, normal):
        assert asd("score", file, "--no-report", "--home", home).returncode in (0, 3)
    done = asd("report", "--since", "1h", "--home", home)
    assert done.returncode == 0, done.stderr
    (said,) = [line.removeprefix("Report: ") for line in done.stdout.splitlines()]
    page = Path(said).read_text()
    assert Path(said).parent == home / "reports" and "1 anomalous, 1 normal" in page


def test_without_a_report_none_is_written(asd: Asd, home: Path, normal: Path) -> None:
    before = {*(home / "scores").rglob("report.html")}
    done = asd("score", normal, "--no-report", "--home", home)
    assert done.returncode == 0, done.stderr
    assert "Report: " not in done.stdout and {*(home / "scores").rglob("report.html")} == before


def test_a_report_that_can_not_be_written_hides_no_alarm(
    home: Path, anomalous: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **options: object) -> str:
        raise ValueError("no such shape")

    monkeypatch.setattr("asdcore.reports.score.score_report", broken)
    done = score([anomalous], home=home)
    assert done["alarms"] and not done["report"]
    assert "done, but without a report: ValueError: no such shape" in capsys.readouterr().err


def test_where_nothing_is_anomalous_it_ends_with_0_and_the_nearest_to_it_is_explained(
    asd: Asd, home: Path, normal: Path
) -> None:
    done = asd("score", normal, "--explain", "--home", home)
    assert done.returncode == 0, done.stderr
    assert "Nothing is anomalous" in done.stdout and "Triggered by" not in done.stdout
    assert done.stdout.count("plot: ") == 1


def test_a_recording_that_can_not_be_scored_ends_with_1(asd: Asd, home: Path, normal: Path, broken: Path) -> None:
    done = asd("score", normal, broken, "--home", home)
    assert done.returncode == 1, done.stderr
    assert "not scored" in done.stdout
    assert "not a sound" not in done.stdout and "unreadable" in done.stderr


def test_a_recording_on_standard_input_gets_the_score_of_its_file(
    home: Path, anomalous: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (known,) = pd.read_parquet(score([anomalous], home=home)["table"]).to_dict("records")
    with anomalous.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        done = score([Path("-")], explain=True, home=home)
    (row,) = pd.read_parquet(done["table"]).to_dict("records")
    assert (row["path"], row["score"], row["recording"]) == ("-", known["score"], digest_of_file(anomalous))
    (explained,) = done["explained"]
    assert explained["path"] == "-"
    assert Path(explained["plot"]).exists()
    page = Path(done["report"]).read_text()
    assert page.count("<article") == 1 and "data:audio/flac;base64," in page
    assert "asd label" not in page and "asd ingest" not in page


def test_standard_input_is_scored_alone(home: Path, normal: Path, prefect_api: str) -> None:
    with pytest.raises(AsdError, match="- is one recording"):
        score([Path("-"), normal], home=home)


def test_a_recording_on_standard_input_of_an_unknown_machine_lists_the_enrolled_ones(
    home: Path, prefect_api: str
) -> None:
    with pytest.raises(AsdError, match="machine 'fan' is not enrolled; this detector knows pump"):
        score([Path("-")], machine="fan", home=home)


def test_a_path_that_is_not_there_is_wrong_usage() -> None:
    result = CliRunner().invoke(app, ["score", "no-such.wav"])
    assert result.exit_code == 2
    assert "no-such.wav" in result.output


def test_after_the_clock_was_set_back_the_health_of_a_run_is_still_the_newest(
    home: Path, normal: Path, prefect_api: str
) -> None:
    score([normal], home=home)
    latest = sorted((home / "scores").glob("drift-*.parquet"))[-1]
    ahead = pd.read_parquet(latest).assign(at=lambda table: table["at"] + pd.Timedelta(days=365), detector="ahead")
    ahead.to_parquet(latest.with_name(f"drift-{ahead['at'].iloc[0]:%Y%m%dT%H%M%S%f}.parquet"))
    latest.unlink()
    score([normal], home=home)
    history = read_history(Home.at(home))
    assert history["detector"].tolist()[-2:] == ["ahead", "1"]
    assert history["at"].is_monotonic_increasing


def test_the_command_needs_no_server_and_imports_neither_prefect_nor_mlflow(
    home: Path, anomalous: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from flows.cli.app import app; app(sys.argv[1:], standalone_mode=False)\n"
        "print('imported:', sorted({name.split('.')[0] for name in sys.modules} & {'prefect', 'mlflow', 'matplotlib'}))"
    )
    # No server could start here: its database would have to be below a file.
    (tmp_path / "file").touch()
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
    }
    for arguments in (
        ["score", str(anomalous)],
        ["models"],
        ["models", "--machine", "pump"],
        ["threshold", "pump"],
        ["label"],
    ):
        command = [sys.executable, "-c", code, *arguments, "--home", str(home)]
        variables = {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{tmp_path / 'file' / 'prefect.db'}"}
        done = subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "imported: []", arguments
        assert "Starting Prefect" not in done.stderr and "Traceback" not in done.stderr


def test_the_flow_and_the_command_write_the_same_table(
    asd: Asd, home: Path, anomalous: Path, normal: Path, broken: Path, prefect_api: str
) -> None:
    files = [anomalous, normal, broken]
    by_flow = pd.read_parquet(score(files, home=home)["table"])
    done = asd("score", *files, "--home", home, PREFECT_API_URL="")
    assert done.returncode == 3, done.stderr
    table = Path(done.stdout.rpartition("Scores: ")[2].strip())
    pd.testing.assert_frame_equal(pd.read_parquet(table), by_flow)


def test_what_the_command_found_without_a_server_is_in_mlflow_once_it_is_asked_for(
    asd: Asd, home: Path, anomalous: Path
) -> None:
    place = Home.at(home)
    log_drift(place)
    run = tracked_run(place, "drift", "drift", "drift over time")
    before = client(place).get_metric_history(run, "drift/pump/alarm_share")
    for _ in range(2):
        assert asd("score", anomalous, "--home", home, PREFECT_API_URL="").returncode == 3
    assert len(client(place).get_metric_history(run, "drift/pump/alarm_share")) == len(before)
    for _ in range(2):  # The second time there is nothing to do.
        log_drift(place)
    points = client(place).get_metric_history(run, "drift/pump/alarm_share")
    assert len(points) == len(before) + 2
    history = read_history(place)["at"]
    newest = history.max()
    assert points[-1].timestamp == int(1000 * newest.timestamp())
    # A chart over steps is one over time, and no run shares its step with another, whatever the clock says.
    steps = [point.step for point in points]
    assert steps == sorted(set(steps))
    assert steps[-1] >= (newest - history.min()).total_seconds() // 60
    assert client(place).get_run(run).data.tags[LOGGED_UNTIL] == newest.isoformat()


def test_a_run_of_the_command_is_in_the_prefect_ui_where_there_is_a_server(
    asd: Asd, home: Path, anomalous: Path, prefect_api: str
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    done = asd("score", anomalous, "--home", home)
    assert done.returncode == 3 and "not published" not in done.stderr
    table = done.stdout.rpartition("Scores: ")[2].strip()
    with get_client(sync_client=True) as api:
        found = api.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["scores"])))
        runs = api.read_flow_runs()
    (shown,) = [artifact for artifact in found if table in (artifact.description or "")]
    said = "alarm for pump; 1 of 1 recording anomalous"
    assert str(shown.description).startswith(f"**{said}**") and f"publish {said}" in {run.name for run in runs}
    # The verdict first, and numbers that can be read.
    columns = json.loads(str(shown.data))
    first = columns[0] if isinstance(columns, list) else {name: values[0] for name, values in columns.items()}
    assert list(first)[:2] == ["verdict", "machine"] and first["verdict"] == "anomalous"
    assert first["score"] == round(first["score"], 2)


def test_a_server_that_does_not_answer_changes_nothing_of_the_answer(asd: Asd, home: Path, anomalous: Path) -> None:
    done = asd("score", anomalous, "--home", home, PREFECT_API_URL="http://127.0.0.1:1/api")
    assert done.returncode == 3
    assert "ANOMALOUS" in done.stdout
    assert "scored, but not published" in done.stderr and "Traceback" not in done.stderr
