"""The command line, as its users meet it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from asdcore.datasets.simulate import SAMPLE_RATE, waveform
from asdcore.errors import AsdError
from asdcore.setting_rows import COMMON, setting_rows
from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.cli import app as program
from flows.cli.app import GROUPS, any_text, app, by_ctrl_c
from flows.deployment import PREFECT_FILE, planned
from flows.private_server import prefect_server
from tasks.no_answer import said_by
from tasks.warn import warn

Asd = Callable[..., "subprocess.CompletedProcess[str]"]


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "prefect", "mlflow", "librosa", "pandas", "pydantic")
    code = f"import sys, flows.cli.app; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_closed_output_is_an_output_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    any_text()
    print("ü", flush=True)
    print("ü", file=sys.stderr, flush=True)


def test_an_unexpected_error_on_a_full_disk_names_the_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recordings").write_bytes(b"")  # where a folder must be
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setattr(program, "app", lambda **_: (tmp_path / "recordings" / "a").touch())
    monkeypatch.setattr(program, "FULL", 2**62)
    with pytest.raises(SystemExit, match="1"):
        program.main()
    said = "".join(capsys.readouterr())
    assert f"The disk of {tmp_path} is full" in said.replace("\n", "") and "ASD_HOME" in said, said


def test_a_prefect_server_that_does_not_answer_is_named_with_what_to_do(tmp_path: Path) -> None:
    named = temporary_settings({PREFECT_API_URL: "http://anna:secret@127.0.0.1:9/api"})
    refusal = pytest.raises(AsdError, match="PREFECT_API_URL says: start it")
    with named, refusal as refused, prefect_server(Home.at(tmp_path)):
        raise RuntimeError("Failed to reach API at http://127.0.0.1:9/api")  # as Prefect, after many seconds
    assert "secret" not in str(refused.value)


def test_the_page_of_another_server_is_no_part_of_an_error() -> None:
    error = RuntimeError("API request failed with error code 404 != 200. Response body: '<!DOCTYPE HTML>\n<html>'")
    assert said_by(error) == "API request failed with error code 404 != 200"


def test_an_error_that_ctrl_c_has_caused_is_no_error() -> None:
    def ended() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("cannot end twice")

    with pytest.raises(RuntimeError) as caused:
        ended()
    assert by_ctrl_c(caused.value)
    assert by_ctrl_c(ValueError('Error building "enum" validator:\n  KeyboardInterrupt: '))
    assert not by_ctrl_c(RuntimeError("cannot end twice"))


def test_a_warning_outside_of_a_run_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    warn("version 3 needs no features")
    assert "version 3 needs no features" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retrain", "--preset", "fast"], "none of paper, default, demo"),
        (["retrain", "--set", "training.epochs=7"], "must be a multiple of cycles"),
        (["retrain", "--set", "training.epochs"], "stage.name=value"),
        (["retrain", "--set", "training.epoch=8"], "did you mean training.epochs"),
        (["retrain", "--set", "training.epoch=8"], "Settings of training: encoder"),
        (["retrain", "--set", "train.seed=8"], "Stages: recordings, mel"),
        (["retrain", "--set", "epochs=8"], "training.epochs"),
        (["retrain", "--set", "training.objective=nt_xent"], "is called training.loss now"),
        (["retrain", "--set", "mel.n_mels=many"], "mel.n_mels"),
        (["ingest", "no-such-folder"], "no-such-folder"),
        (["paint"], "No such command"),
    ],
)
def test_wrong_usage_says_what_is_wrong_and_ends_with_2(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "1000"})
    assert result.exit_code == 2
    assert said in result.output


def test_every_command_stands_in_one_group_of_the_help() -> None:
    printed = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    assert "─ Commands ─" not in printed
    positions = [printed.index(f"─ {group} ─") for group in GROUPS]
    assert positions == sorted(positions)


def test_the_version_is_that_of_the_installed_package() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"asd {version('asd')}\n"


def test_settings_lists_all_with_value_unit_and_another_default_and_the_everyday_ones_first() -> None:
    printed = CliRunner().invoke(app, ["settings", "--preset", "demo"]).output
    assert re.search(r"training\.epochs +16 +40 +of the training", printed)
    assert re.search(r"recordings\.sample_rate +16000 +Hz +every recording", printed)
    assert printed.index("gate.margin") < printed.index("autoencoder.mel.n_fft")
    assert all(row.name in printed for row in setting_rows())
    some = CliRunner().invoke(app, ["settings", "false_alarm"]).output
    assert "normality.false_alarm_rate" in some and "training.epochs " not in some


def test_a_settings_file_is_written_shown_and_overridden_by_set(tmp_path: Path) -> None:
    file = str(tmp_path / "plant.yaml")
    wanted = ["--preset", "demo", "--set", "recordings.channel=mean"]
    assert CliRunner().invoke(app, ["settings", *wanted, "--write", file]).exit_code == 0
    listed = CliRunner().invoke(app, ["settings", "--settings", file, "--set", "training.epochs=24", "--json"])
    changed = {row["name"]: row["value"] for row in json.loads(listed.stdout) if row["value"] != row["default"]}
    assert changed["recordings.channel"] == "mean" and changed["training.crop_frames"] == 32
    assert changed["training.epochs"] == 24
    again = CliRunner().invoke(app, ["settings", "--write", file])
    assert again.exit_code == 1 and "not overwritten" in str(again.exception)


@pytest.mark.parametrize("command", ["retrain", "train", "benchmark", "deploy", "watch", "clean", "ingest", "features"])
def test_a_wrong_settings_file_is_refused_by_every_command_that_takes_one(command: str, tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    file.write_text("training:\n  epoch: 3\n")
    place = [str(tmp_path)] if command in ("watch", "ingest") else []
    result = CliRunner().invoke(app, [command, *place, "--settings", str(file)], env={"COLUMNS": "1000"})
    assert result.exit_code == 2
    assert "plant.yaml: there is no setting 'training.epoch'; did you mean training.epochs" in result.output


def test_the_common_settings_exist() -> None:
    assert set(COMMON) == {row.name for row in setting_rows() if row.common}


def test_the_schedule_scores_what_it_is_told_to_and_never_the_training_folder(tmp_path: Path) -> None:
    home, plant, new = Home.at(tmp_path / "home"), tmp_path / "plant", tmp_path / "new"
    with_new, without = (
        {one["name"]: one for one in planned(home, Settings(), plant, 50, to_score)["deployments"]}
        for to_score in (new, None)
    )
    assert with_new["retrain"]["parameters"]["recordings"] == str(plant)
    assert with_new["score"]["parameters"]["recordings"] == [str(new)] and with_new["score"]["schedules"]
    assert "recordings" not in without["score"]["parameters"] and "schedules" not in without["score"]
    assert f"- home: `{home.name}`" in with_new["arrivals"]["description"]
    assert f"- recordings: `{new}`" in with_new["score"]["description"]


def test_the_flows_of_prefect_yaml_can_be_imported_from_the_package() -> None:
    plan = yaml.safe_load(PREFECT_FILE.read_text())
    assert plan["pull"] == []
    for deployment in plan["deployments"]:
        assert (
            load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False).name == deployment["name"]
        )


def test_the_service_needs_a_server_that_is_named_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.deployment import require_server

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(AsdError, match="start `asd ui`, then set PREFECT_API_URL"):
        require_server()
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    with pytest.raises(AsdError, match=r"no Prefect server answers at http://127.0.0.1:1/api.*`asd ui` starts one"):
        require_server()


def test_a_worker_started_in_the_background_of_a_script_heeds_the_signal_that_ends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from flows import deployment

    heeded = []
    monkeypatch.setattr(deployment, "require_server", lambda: None)
    monkeypatch.setattr("os.execve", lambda *_: heeded.append(signal.getsignal(signal.SIGINT) == signal.SIG_DFL))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        deployment.work(Home.at(tmp_path))
    finally:
        signal.signal(signal.SIGINT, before)
    assert heeded == [True]


def test_simulate_writes_recordings(tmp_path: Path) -> None:
    command = ["simulate", str(tmp_path), "--machines", "simFan", "--seconds", "0.5", "--faults", "tonal,missing"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert "faults=tonal+missing" in (tmp_path / "SIMULATED.txt").read_text()
    assert len(list(tmp_path.rglob("*.wav"))) == 120
    assert "120 simulated recordings of simFan" in result.output


@pytest.mark.flow
def test_a_failing_command_names_the_remedy_without_a_stack_trace_and_ends_with_1(asd: Asd, tmp_path: Path) -> None:
    result = asd("retrain", "--home", tmp_path)
    assert result.returncode == 1
    assert "asd ingest" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in asd("retrain", "--home", tmp_path, "--debug").stderr


@pytest.mark.flow
def test_ingest_takes_what_is_good_and_says_why_it_leaves_the_rest(asd: Asd, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pump = tmp_path / "recordings" / "pump"
    pump.mkdir(parents=True)
    noise = 0.1 * rng.standard_normal((44_100, 2))
    soundfile.write(pump / "stereo.flac", noise, 44_100)
    soundfile.write(pump / "good.wav", noise[:16_000, 0], 16_000)
    (pump / "copy.wav").write_bytes((pump / "good.wav").read_bytes())
    (pump / "text.wav").write_text("not a sound")
    (pump / "empty.wav").touch()
    soundfile.write(pump / "silent.wav", np.zeros(16_000), 16_000)
    before = {path: path.read_bytes() for path in pump.iterdir()}
    result = asd("ingest", tmp_path / "recordings", "--home", tmp_path / "home")
    assert result.returncode == 0
    assert "2 added, 0 already known, 1 with the same content as another file, 3 quarantined" in result.stdout
    assert "1 x channel 1 of 2; resampled from 44100 to 16000 Hz" in result.stdout
    for name, reason in (("text.wav", "unreadable"), ("empty.wav", "0 bytes"), ("silent.wav", "silent")):
        assert any(name in line and reason in line for line in result.stderr.splitlines())
    assert "too few normal training recordings" in result.stderr
    assert {path: path.read_bytes() for path in pump.iterdir()} == before
    again = asd("ingest", tmp_path / "recordings", "--home", tmp_path / "home", "--json")
    told = json.loads(again.stdout)
    assert (told["added"], told["known"], len(told["quarantined"])) == (0, 2, 3)
    assert told["rows"][0] | {"machine": "pump", "total": 2, "sessions": None} == told["rows"][0]


@pytest.mark.flow
def test_models_of_an_empty_home_says_how_to_get_one(asd: Asd, tmp_path: Path) -> None:
    result = asd("models", "--home", tmp_path)
    assert result.returncode == 0
    assert "asd retrain" in result.stdout


@pytest.mark.flow
def test_real_recordings_with_many_channels_and_rates_are_taken(asd: Asd, sample_data: Path, tmp_path: Path) -> None:
    result = asd("ingest", sample_data / "odd-inputs", "--home", tmp_path)
    assert "3 added" in result.stdout
    for treatment in ("channel 1 of 8", "channel 1 of 2", "channel 1 of 2; resampled from 44100 to 16000 Hz"):
        assert f"1 x {treatment}" in result.stdout


@pytest.mark.parametrize("submission", ["soft", "ties", "constant", "inverted", "oracle", "random", "no_decisions"])
def test_evaluate_prints_the_official_evaluators_figures_as_json(sample_data: Path, submission: str) -> None:
    golden = sample_data / "evaluator-golden"
    arguments = ["--scores", str(golden / "submissions" / submission), "--ground-truth", str(golden), "--json"]
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    assert result.exit_code == 0
    expected = json.loads((golden / "expected_scores.json").read_text())[submission]["machines"]
    printed = {row["machine"]: row for row in json.loads(result.stdout)["rows"]}
    assert set(printed) == set(expected)
    for machine, figures in expected.items():
        for name, value in figures.items():
            ours = name.lower().replace(" score", "").replace(" (", "_").replace(")", "")
            assert printed[machine][ours] == pytest.approx(value, abs=1e-12, rel=0), (machine, name)


def test_evaluate_takes_the_files_and_the_rule_of_a_year(tmp_path: Path) -> None:
    for domain, scores in (("source", "0.1 0.9"), ("target", "0.8 0.2")):
        files = [f"section_03_{domain}_test_{n:04}.wav" for n in range(2)]
        end = f"fan_section_03_{domain}_test.csv"
        (tmp_path / "ground_truth_data").mkdir(exist_ok=True)
        truth = "".join(f"{file},{n}\n" for n, file in enumerate(files))
        (tmp_path / "ground_truth_data" / f"ground_truth_{end}").write_text(truth)
        lines = [f"{file},{score}\n" for file, score in zip(files, scores.split(), strict=True)]
        (tmp_path / f"anomaly_score_{end}").write_text("".join(lines))
    place = ["--scores", str(tmp_path), "--ground-truth", str(tmp_path)]
    result = CliRunner().invoke(app, ["evaluate", *place, "--year", "2021", "--json"])
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)["rows"][0]
    # By the rule of 2022 and later an AUC would be 1 and 0.5: that of the source counts the anomaly of the target.
    assert (row["auc_source"], row["auc_target"], row["pauc_source"]) == (1.0, 0.0, 1.0)
    assert CliRunner().invoke(app, ["evaluate", *place, "--year", "2019"]).exit_code == 2


def test_evaluate_refuses_a_misspelt_name_and_says_which(sample_data: Path, tmp_path: Path) -> None:
    golden = sample_data / "evaluator-golden"
    scores = Path(shutil.copytree(golden / "submissions" / "soft", tmp_path / "soft"))
    file = next(scores.glob("anomaly_score_*bandsaw*.csv"))
    file.chmod(0o644)
    file.write_text(file.read_text().replace("section_00_0002.wav", "section_00_O002.wav"))
    with pytest.raises(AsdError, match=r"bandsaw.*section_00_O002\.wav"):
        CliRunner().invoke(
            app, ["evaluate", "--scores", str(scores), "--ground-truth", str(golden)], catch_exceptions=False
        )


def test_screening_needs_neither_home_nor_detector_and_tells_and_reports_what_stands_out(tmp_path: Path) -> None:
    folder = tmp_path / "plant" / "pump"
    folder.mkdir(parents=True)
    for index in range(12):
        rng = np.random.default_rng(index)
        fault = {"fault": "tonal", "strength": 6.0} if index == 7 else {}
        label = "anomaly" if fault else "normal"
        samples = waveform("simFan", domain="source", label=label, rng=rng, seconds=1.0, **fault)
        soundfile.write(folder / f"{index}.wav", samples, SAMPLE_RATE)
    (folder / "broken.wav").write_bytes(b"no sound")
    command = [sys.executable, "-m", "flows.cli", "screen", str(folder.parent), "--csv", str(tmp_path / "table.csv")]
    environment = os.environ | {"ASD_HOME": str(tmp_path / "home"), "COLUMNS": "160"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert done.stdout.startswith("pump: listen to one of 12 first; nothing says that it is a fault\n")
    assert "broken.wav: unreadable" in done.stderr
    (report,) = [line.removeprefix("Report: ") for line in done.stdout.splitlines() if line.startswith("Report: ")]
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == [Path(report)]
    assert "1 to listen to" in Path(report).read_text() and f"--home {tmp_path}" not in Path(report).read_text()
    ranked = pd.read_csv(tmp_path / "table.csv")
    assert len(ranked) == 13 and ranked["path"][0].endswith("7.wav")
    environment["ASD_HOME"] = str(tmp_path / "table.csv" / "home")
    homeless = subprocess.run(command[:-2], env=environment, capture_output=True, text=True, check=False)
    assert homeless.returncode == 4 and homeless.stdout.startswith("pump: listen to one of 12 first")
    assert "done, but without a report" in homeless.stderr
    environment["ASD_HOME"] = str(tmp_path / "other")
    printed = subprocess.run([*command[:-2], "--json"], env=environment, capture_output=True, text=True, check=False)
    assert json.loads(printed.stdout)[0]["rank"] == 1 and not (tmp_path / "other").exists()
