"""What `asd results` prints."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from asdcore.errors import AsdError
from flows.cli.app import app

pytestmark = pytest.mark.usefixtures("environment")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of a plant with 300 scores of two machines: one an hour, the newest one now."""
    now = datetime.now(UTC)
    (tmp_path / "scores").mkdir()
    for number in range(3):
        rows = [
            {
                "path": f"{number}-{index}.wav",
                "recording": f"{number}-{index}",
                "machine": "pump" if index % 2 else "fan",
                "score": float(index),
                "p_value": 0.01 if index == 99 else 0.5,
                "verdict": "anomalous" if index == 99 else "normal",
                "triggered_by": "spectrum" if index == 99 else "",
                "in_training": False,
                "clips": 1,
                "strangest_at": 0.0,
                "reason": "",
            }
            for index in range(100)
        ]
        name = f"score-{now - timedelta(hours=number):%Y%m%dT%H%M%S}-ab12.parquet"
        pd.DataFrame(rows).assign(detector="3").to_parquet(tmp_path / "scores" / name)
    return tmp_path


def listed(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["results", "--home", str(home), *arguments], env={"COLUMNS": "200"})


def test_the_newest_come_first_and_it_is_said_how_to_get_the_rest(home: Path) -> None:
    printed = listed(home).stdout
    assert printed.count(".wav") == 50 and printed.index("0-99.wav") < printed.index("0-98.wav")
    assert "1-99.wav" not in printed
    assert "300 scores: 3 anomalous, 297 normal." in printed
    assert "The oldest 250 are not shown, 2 of them anomalous or suspect: --all" in printed
    assert listed(home, "--all").stdout.count(".wav") == 300


def test_options_choose_machines_times_and_verdicts(home: Path) -> None:
    assert "3 scores: 3 anomalous." in listed(home, "--only", "suspect,anomalous", "--machine", "pump").stdout
    assert "100 scores" in listed(home, "--since", "30m").stdout
    assert "200 scores" in listed(home, "--since", "90m").stdout
    an_hour_ago = datetime.now() - timedelta(minutes=90)
    assert "200 scores" in listed(home, "--since", f"{an_hour_ago:%Y-%m-%d %H:%M:%S}").stdout
    assert "No stored score matches." in listed(home, "--machine", "fan", "--only", "anomalous").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "is not a time; write"),
        (["--since", "99999999w"], "is not a time"),
        (["--since", "2999-01-01"], "in the future"),
        (["--only", "bad"], "none of"),
    ],
)
def test_what_is_no_time_and_no_verdict_is_refused(home: Path, arguments: list[str], said: str) -> None:
    result = listed(home, *arguments)
    assert result.exit_code == 2 and said in result.output


def test_a_misspelt_machine_is_not_taken_for_a_silent_one(home: Path) -> None:
    with pytest.raises(AsdError, match=r"no scores of machine 'pmup'; did you mean pump\?"):
        CliRunner().invoke(app, ["results", "--home", str(home), "--machine", "pmup"], catch_exceptions=False)


def test_an_empty_home_says_how_to_get_scores(tmp_path: Path) -> None:
    assert "`asd score` scores recordings" in listed(tmp_path / "none").stdout
    assert listed(tmp_path / "none", "--json").stdout.strip() == "[]"


def test_the_index_of_many_scores_answers_at_once(home: Path) -> None:
    scores = home / "scores"
    table = pd.read_parquet(next(scores.iterdir()))
    pd.concat([table] * 100, ignore_index=True).to_parquet(scores / "score-20260101T000000-ab12.parquet")
    listed(home)
    begin = time.process_time()
    assert "10,300 scores" in listed(home).stdout
    assert time.process_time() - begin < 1.0


def test_neither_servers_nor_networks_are_imported(home: Path) -> None:
    heavy = ("torch", "prefect", "mlflow", "pandas", "scipy")
    run = f"from flows.cli.app import app; app(['results', '--home', {str(home)!r}], standalone_mode=False)"
    code = f"{run}; import sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
