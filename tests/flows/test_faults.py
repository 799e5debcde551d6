"""Commands that are killed, and commands that meet."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asdcore.home import digest_of_file
from asdcore.representation.checkpoint import checkpoint_files
from asdcore.representation.encoder import TrainedEncoder

pytestmark = pytest.mark.flow

LONG = ("--preset", "demo", "--set", "training.epochs=12", "--set", "training.crop_frames=16")


def start(api: str, *arguments: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *map(str, arguments)],
        env=os.environ | {"PREFECT_API_URL": api},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(found: Callable[[], object], process: "subprocess.Popen[str]", seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_training_is_stopped_with_ctrl_c_and_killed_with_9_and_goes_on_at_its_last_checkpoint(
    prefect_api: str, asd: Callable[..., "subprocess.CompletedProcess[str]"], small_machines: Path, tmp_path: Path
) -> None:
    command = ("retrain", "--recordings", small_machines, *LONG, "--home", tmp_path)
    process = start(prefect_api, *command)
    wait_for(lambda: list(tmp_path.glob("runs/*/checkpoints/step-*.pt")), process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 1
    _, said = process.communicate()
    assert "the same command goes on where this one was" in said
    (stopped, *_) = checkpoint_files(next(tmp_path.glob("runs/*/checkpoints")))

    process = start(prefect_api, *command)
    wait_for(lambda: checkpoint_files(stopped.parent)[0] != stopped, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shards = {path: path.stat().st_mtime_ns for path in tmp_path.glob("features/*/shard-*")}
    assert shards
    assert not list(tmp_path.glob("runs/*/encoder.safetensors"))
    again = asd(*command)
    assert again.returncode == 0, again.stderr
    assert "going on from the checkpoint" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("features/*/shard-*")} == shards
    (encoder,) = tmp_path.glob("runs/*/encoder.safetensors")
    assert [row["epoch"] for row in TrainedEncoder.load(encoder).history] == list(range(1, 13))
    assert not list(tmp_path.rglob("*.partial"))


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
    assert len(list(tmp_path.glob("runs/*/encoder.safetensors"))) == 1


def test_a_kill_while_shards_are_written_leaves_no_partial_shard(
    prefect_api: str, asd: Callable[..., "subprocess.CompletedProcess[str]"], small_machines: Path, tmp_path: Path
) -> None:
    assert asd("ingest", small_machines, "--home", tmp_path).returncode == 0
    process = start(prefect_api, "features", "--home", tmp_path)
    wait_for(lambda: list(tmp_path.glob("features/*/*.partial")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.glob("features/*/shard-*.parquet"))
    again = asd("features", "--home", tmp_path)
    assert "52 recordings have features" in again.stdout, again.stderr
    (shard,) = tmp_path.glob("features/*/shard-*.parquet")
    assert digest_of_file(shard)[:16] in shard.name
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows another process's environment")
def test_the_next_command_ends_the_api_server_of_a_killed_one(small_machines: Path, tmp_path: Path) -> None:
    def servers() -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment = (process / "environ").read_bytes()
            except OSError:
                continue
            if f"PREFECT_HOME={tmp_path}".encode() in environment and b"PREFECT__SERVER_EPHEMERAL" in environment:
                found.append(int(process.name))
        return found

    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    command = [sys.executable, "-m", "flows.cli", "ingest", str(small_machines), "--home", str(tmp_path)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(servers, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert servers()
    models = [sys.executable, "-m", "flows.cli", "models", "--home", str(tmp_path)]
    subprocess.run(models, env=environment, check=True, capture_output=True)
    until = time.monotonic() + 20
    while servers() and time.monotonic() < until:
        time.sleep(0.1)
    assert not servers()
