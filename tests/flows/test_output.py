"""``--csv`` and ``--json``: the results of commands as data."""

import csv
import inspect
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from asdcore.screening import COLUMNS as SCREENED
from asdcore.storage.home import Home
from flows.cli.app import GROUPS, app
from flows.cli.output import Output, plain, with_output
from flows.cli.show import write_results
from flows.cli.show_recordings import PENDING
from flows.cli.tables import print_table
from tasks.results import COLUMNS

COMMANDS = {command.__name__: command for commands in GROUPS.values() for command in commands}
WITH_A_TABLE = {
    *("screen", "ingest", "label", "retrain", "score", "results", "threshold", "models"),
    *("demo", "benchmark", "evaluate", "settings"),
}


def refused(text: str) -> float:
    raise AssertionError(f"{text} is not JSON")


def parsed(text: str) -> Any:
    return json.loads(text, parse_constant=refused)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_prints_a_table_gives_it_as_data(name: str) -> None:
    options = inspect.signature(COMMANDS[name]).parameters
    assert ({"csv", "json"} <= options.keys()) == (name in WITH_A_TABLE)
    assert name in WITH_A_TABLE or "print_table" not in inspect.getsource(COMMANDS[name])


@pytest.mark.flow
@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["score", "{pump}/test", "--no-report"], 3, lambda told: "pump" in told["alarms"]),
        (["results"], 0, lambda told: told[0]["verdict"] == "anomalous" and told[0]["score"] > told[1]["score"]),
        (["results", "--only", "suspect"], 0, lambda told: told == []),
        (["models"], 0, lambda told: (told[0]["version"], told[0]["machines"]) == (1, ["pump"])),
        (["models", "--machine", "pump"], 0, lambda told: told["n"] >= 10 and told["asked"] == 0.2),
        (["models", "--diff", "1", "champion"], 0, lambda told: told == []),
        (["threshold", "pump"], 0, lambda told: (told["false_alarm_rate"], told["needed"]) == (0.2, 1)),
        (["label"], 0, lambda told: told == []),
        (["screen", "{pump}/train"], None, lambda told: {row["machine"] for row in told} == {"pump"}),
        (["incidents"], 0, lambda told: told[0]["machine"] == "pump" and told[0]["closed"] is None),
        (["settings", "margin"], 0, lambda told: (told[0]["name"], told[0]["value"]) == ("gate.margin", 0.05)),
    ],
)
@pytest.mark.usefixtures("environment")
def test_standard_output_has_the_json_alone_and_the_csv_file_the_same_rows(
    arguments: list[str], status: int | None, expected: Callable[[Any], bool], pump_place: Path, tmp_path: Path
) -> None:
    given = [argument.format(pump=pump_place / "pump") for argument in arguments]
    file = tmp_path / "table.csv"
    home = [] if given[0] in ("screen", "settings") else ["--home", str(pump_place / ".asd")]
    result = CliRunner().invoke(app, [*given, *home, "--json", "--csv", str(file)], env={"PREFECT_API_URL": ""})
    assert status in (None, result.exit_code), result.stderr
    told = parsed(result.stdout)
    assert expected(told)
    rows = told["rows"] if isinstance(told, dict) else told
    assert len(list(csv.DictReader(file.open(newline="")))) == len(rows)


@pytest.mark.flow
def test_a_retraining_gives_its_table_its_version_and_where_the_rest_is(pump_place: Path) -> None:
    told = parsed((pump_place / "retrain.json").read_text())
    assert (told["version"], told["champion"]) == (1, 1)
    assert Path(told["detector"]).is_dir() and Path(told["scores"]).is_file()


def test_a_benchmark_gives_metrics_and_differences(tmp_path: Path) -> None:
    table = pd.DataFrame({"machine": ["fan", "All"], "metric": ["pAUC", "harmonic mean"], "spectrum": [np.nan, 71.25]})
    table.to_parquet(tmp_path / "table")
    pd.DataFrame({"system": ["a"], "difference": [-1.5], "low": [-2.0], "high": [0.5]}).to_parquet(tmp_path / "other")
    done = {"table": "table", "differences": "other", "outcomes": [], "plots": "plots", "scores": "s", "run": "7"}
    with CliRunner().isolation() as (printed, *_):
        write_results(Output(json=True), done, Home.at(tmp_path))
        told = parsed(printed.getvalue().decode())
    assert told["rows"] == [
        {"machine": "fan", "metric": "pAUC", "spectrum": None},
        {"machine": "All", "metric": "harmonic mean", "spectrum": 71.25},
    ]
    assert told["differences"][0]["difference"] == -1.5 and told["run"] == "7"


def test_values_are_plain() -> None:
    table = pd.DataFrame(
        {"n": pd.array([1, None], dtype="Int64"), "at": [pd.Timestamp("2026-05-01", tz="UTC"), pd.NaT]}
    )
    assert plain(table) == [{"n": 1, "at": "2026-05-01T00:00:00+00:00"}, {"n": None, "at": None}]
    values = {"scores": np.array([1.5, np.nan, np.inf]), "in": np.bool_(True), "n": np.int64(3), "path": Path("a")}
    told = parsed(json.dumps(plain(values), allow_nan=False))
    assert told["scores"][:2] == [1.5, None] and told["scores"][2] > 1e308
    assert (told["in"], told["n"], told["path"]) == (True, 3, "a")
    assert plain(datetime(2026, 5, 1, tzinfo=UTC)) == "2026-05-01T00:00:00+00:00"


@with_output
def listing(output: Output, many: int = 2) -> None:
    """A command."""
    from flows.cli.console import out

    rows = [{"file": f"ä, {number}\udcff", "tags": ["a", "b"], "score": None} for number in range(many)]
    print_table(["file"], [[row["file"].encode(errors="replace").decode()] for row in rows])
    out.print("a message")
    output.write(rows, ["file", "tags", "score"])


@pytest.fixture
def command() -> typer.Typer:
    made = typer.Typer()
    made.command()(listing)
    return made


def test_csv_on_standard_output_stands_alone_and_paths_keep_their_bytes(command: typer.Typer) -> None:
    result = CliRunner().invoke(command, ["--csv", "-"])
    lines = list(csv.reader(io.StringIO(result.stdout_bytes.decode("utf-8", "surrogateescape"))))
    assert lines == [["file", "tags", "score"], *([f"ä, {number}\udcff", "a, b", ""] for number in range(2))]
    assert result.stderr == "a message\n"
    assert CliRunner().invoke(command, ["--csv", "-", "--many", "0"]).stdout == "file,tags,score\n"


def test_a_csv_file_comes_beside_the_drawn_table(command: typer.Typer, tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    result = CliRunner().invoke(command, ["--csv", str(file)])
    assert "file" in result.stdout and f"All 2 rows: {file}" in result.stdout
    assert len(file.read_bytes().splitlines()) == 3
    assert CliRunner().invoke(command, ["--csv", str(file), "--many", "5"]).exit_code == 0
    assert len(file.read_bytes().splitlines()) == 6


def test_no_other_file_is_overwritten_and_no_work_is_done_in_vain(command: typer.Typer, tmp_path: Path) -> None:
    recording = tmp_path / "new.wav"
    recording.write_bytes(b"sound")
    for wrong in (["--csv", str(recording)], ["--csv", str(tmp_path / "none" / "a.csv")], ["--csv", "-", "--json"]):
        result = CliRunner().invoke(command, wrong)
        assert result.exit_code == 2 and "a message" not in result.output
    assert recording.read_bytes() == b"sound"


@pytest.mark.parametrize("header", ["recording,label", "label,note,recording", "\ufeffpath,machine,session"])
def test_labels_and_manifests_are_not_overwritten_by_the_table_of_a_command(
    command: typer.Typer, tmp_path: Path, header: str
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"{header}\na,b,c\n")
    result = CliRunner().invoke(command, ["--csv", str(file)], env={"COLUMNS": "300"})
    assert result.exit_code == 2 and "a message" not in result.output
    assert "asd label labels.csv" in result.output
    assert file.read_text() == f"{header}\na,b,c\n"


@pytest.mark.parametrize("columns", [COLUMNS, SCREENED, PENDING, ["path", "machine", "score"], [], ['"not']])
def test_a_table_that_a_command_has_written_is_written_again(
    command: typer.Typer, tmp_path: Path, columns: Sequence[str]
) -> None:
    file = tmp_path / "table.csv"
    file.write_text(",".join(columns) + "\n")
    assert CliRunner().invoke(command, ["--csv", str(file)]).exit_code == 0
    assert len(file.read_bytes().splitlines()) == 3
