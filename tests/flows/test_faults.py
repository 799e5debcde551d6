"""Commands that are killed, and commands that meet."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asdcore.errors import AsdError
from asdcore.settings import Settings
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home
from flows.features import features
from flows.ingest import ingest
from flows.register import register
from flows.retrain import retrain
from tasks.registered import load_detector
from tasks.registry import register_detector
from tasks.tracking import log_evaluation

pytestmark = pytest.mark.flow

LONG_TRAINING = ("training.encoder=resnet18", "training.epochs=8", "training.crop_frames=16")
LONG = ("--preset", "demo", *(word for value in LONG_TRAINING for word in ("--set", value)))


def start(api: str, *arguments: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *map(str, arguments)],
        env=os.environ | {"PREFECT_API_URL": api},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(
    found: Callable[[], object], process: "subprocess.Popen[str]", seconds: float = 120, what: str = ""
) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, (what, process.communicate())
        assert time.monotonic() < until, what
        time.sleep(0.02)


CTRL_C = "training, stopped with Ctrl-C"
STAGES = {
    "recordings": "recordings/part-*.parquet",
    "features": "features/**/.*.partial",
    CTRL_C: "runs/scratch/*/step-*.pt",
    "training": "runs/scratch/*/step-*.pt",
    "embeddings": "runs/embeddings/*/.*.partial",
    "normality models": "runs/normality/*.npz",
    "detector": "runs/detectors/*",
    "registration": "runs/registrations/*.json",
}
"""What is there when a stage has begun; a kill comes then."""
PRODUCTS = {
    "recordings": "recordings/part-*.parquet",
    "features": "features/**/shard-*.parquet",
    "training": "runs/encoders/*.safetensors",
    "embeddings": "runs/embeddings/*/*.parquet",
    "normality models": "runs/normality/*.npz",
    "detector": "runs/detectors/*/*",
}
"""What a stage leaves when it has ended."""


def content(home: Path) -> dict[str, str]:
    """The digest of every file that a retraining makes, but for what tells the time."""
    places = ("features", "runs/embeddings/*", "runs/normality", "runs/machines", "runs/evaluations", "scores")
    folders = {place: list(home.glob(place)) for place in places}
    assert all(folders.values()), folders
    files = [path for found in folders.values() for folder in found for path in folder.rglob("*") if path.is_file()]
    files += [*home.glob("runs/encoders/*.safetensors"), *home.glob("runs/detectors/*/n*.npz")]
    kept = [path for path in files if path.suffix != ".png" and path.name != "verified.json"]
    return {str(path.relative_to(home)): digest_of_file(path) for path in kept}


def written(home: Path, *stages: str) -> dict[str, int]:
    """When each product of these stages was written."""
    paths = [path for stage in stages for path in home.glob(PRODUCTS[stage])]
    return {str(path): path.stat().st_mtime_ns for path in paths}


@pytest.mark.slow
def test_killed_with_9_in_every_stage_it_goes_on_and_ends_with_the_same_digests(
    prefect_api: str, asd: Callable[..., "subprocess.CompletedProcess[str]"], small_machines: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    command = ("retrain", "--recordings", small_machines, *LONG, "--home")
    before: dict[str, int] = {}
    for stage, pattern in STAGES.items():
        there = set(home.glob(pattern))
        process = start(prefect_api, *command, home)
        wait_for(lambda: set(home.glob(pattern)) - there, process, what=stage)  # noqa: B023
        process.send_signal(signal.SIGINT if stage == CTRL_C else signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        assert stage != CTRL_C or (process.returncode == 130 and "the same command" in said)
        assert stage not in ("training", "embeddings") or "resuming from the checkpoint" in said
        assert before.items() <= written(home, *PRODUCTS).items(), stage
        # What was finished before this stage began is not done again by any later run.
        finished = list(PRODUCTS)[: list(PRODUCTS).index(stage)] if stage in PRODUCTS else PRODUCTS
        before = written(home, *(finished if stage != CTRL_C else ("recordings", "features")))
    last = asd(*command, home)
    assert last.returncode == 0, last.stderr
    assert before.items() <= written(home, *PRODUCTS).items() and len(before) > 10
    assert "asd-detector version 1, the champion" in last.stdout
    assert not list(home.rglob("*.partial"))
    undisturbed = asd(*command, tmp_path / "undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert content(home) == content(tmp_path / "undisturbed") and len(content(home)) > 10


def test_a_store_that_is_gone_at_the_end_costs_nothing_but_the_registration(
    prefect_api: str, small_machines: Path, small_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in (log_evaluation, register_detector):
        monkeypatch.setattr(stage.task, "retry_delay_seconds", [0, 0, 0])
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 2)  # else MLflow itself tries for a minute and a half
    monkeypatch.setattr("tasks.mlflow_store.PAUSES", ())
    home = Home.at(tmp_path / "home")
    store, away = home.root / "mlflow.db", tmp_path / "away.db"

    def lose() -> None:
        while not list(home.runs.glob("detectors/*")):
            time.sleep(0.01)
        store.rename(away)
        store.mkdir()

    loses = threading.Thread(target=lose, daemon=True)
    loses.start()
    with pytest.raises(AsdError, match=r"(?s)the detector is complete, in .*could not be registered.*asd register"):
        retrain(recordings=small_machines, settings=small_settings, home=home.root)
    loses.join()
    store.rmdir()
    away.rename(store)
    trained = {path: path.stat().st_mtime_ns for path in home.runs.glob("encoders/*.safetensors")}
    with pytest.raises(AsdError, match="run nobody is not waiting to be registered"):
        register(run="nobody", home=home.root)
    (done,) = register(home=home.root)
    assert (done["version"], done["champion"]) == ("1", "1")
    assert load_detector(home)[0].machines.keys() == {"simFan", "simValve"}
    assert {path: path.stat().st_mtime_ns for path in home.runs.glob("encoders/*.safetensors")} == trained
    assert register(home=home.root) == []


def test_a_cached_result_that_is_damaged_is_computed_again(
    prefect_api: str, small_machines: Path, tmp_path: Path
) -> None:
    home = Home.at(tmp_path / "home")
    ingest(recordings=small_machines, home=home.root)
    settings = Settings.preset("demo")
    assert features(settings=settings, home=home.root) == 52
    results = [path for path in (home.prefect / "results").rglob("*") if path.is_file()]
    assert results
    for path in results:
        path.write_bytes(path.read_bytes()[:40])
    for shard in home.features.rglob("shard-*.parquet"):
        shard.unlink()
    assert features(settings=settings, home=home.root) == 52
    assert list(home.features.rglob("shard-*.parquet"))


@pytest.mark.slow
def test_two_retrains_at_once_on_one_home_give_one_detector(
    prefect_api: str, small_machines: Path, tmp_path: Path
) -> None:
    command = ("retrain", "--recordings", small_machines, *LONG, "--home", tmp_path)
    both = [start(prefect_api, *command) for _ in range(2)]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    # The first may not have written down who it is when the second asks.
    assert sum("waiting for" in stderr for _, stderr in said) == 1, said
    assert all("asd-detector version 1" in stdout for stdout, _ in said)
    assert len(list(tmp_path.glob("runs/encoders/*.safetensors"))) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows another process's environment")
def test_the_api_server_of_a_command_that_is_killed_ends_with_it(small_machines: Path, tmp_path: Path) -> None:
    def servers() -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment = (process / "environ").read_bytes()
            except OSError:
                continue
            if f"PREFECT_HOME={tmp_path}".encode() in environment and b"PREFECT__SERVER_FINAL" in environment:
                found.append(int(process.name))
        return found

    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    command = ("flows.cli", "retrain", "--recordings", str(small_machines), "--home", str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(servers, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 20
    while servers() and time.monotonic() < until:
        time.sleep(0.1)
    assert not servers()
