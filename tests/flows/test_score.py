"""`asd score`: what it prints, writes and ends with."""

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
    assert f"&amp;&amp; asd ingest new.csv --home {home}" in page
    (kept,) = (home / "mlartifacts").rglob("report.html")
    assert kept.read_text() == page


def test_prefect_links_the_report(home: Path, normal: Path, prefect_api: str) -> None:
    done = score([normal], home=home)
    artifact = Artifact.get("score-report")
    assert artifact is not None and Path(done["report"]).as_uri() in str(artifact.data)


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
    assert "scored, but without a report: ValueError: no such shape" in capsys.readouterr().err


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
