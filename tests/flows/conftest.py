"""One real Prefect API for all flow tests, and homes of their own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asdcore.recordings.simulate import simulate
from asdcore.settings import Settings

Asd = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Prefect server on loopback that lives as long as the tests."""
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    # Without the heartbeat a flow ends a second sooner.
    with prefect_test_harness(server_startup_timeout=90), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield str(PREFECT_API_URL.value())


@pytest.fixture(scope="session")
def small_machines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated machines with 12 + 2 training and 4 x 3 test recordings of 1 s each."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder, machines=["simFan", "simValve"], source_train=12, target_train=2, test_per_kind=3, seconds=1.0)
    return folder


@pytest.fixture(scope="session")
def small_settings() -> Settings:
    """The demo preset, shorter: four epochs on crops of half a second, 3 components."""
    demo = Settings.preset("demo")
    return demo.model_copy(
        update={
            "training": demo.training.model_copy(update={"epochs": 4, "crop_frames": 16, "batch_size": 8}),
            "normality": demo.normality.model_copy(update={"elliptic_components": 3}),
        }
    )


@pytest.fixture(scope="session")
def asd(prefect_api: str) -> Asd:
    """Run the command line as a user does, against the tests' Prefect API; returns the finished process."""

    def run(*arguments: str | Path, timeout: float = 240, **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
        environment = os.environ | {"PREFECT_API_URL": prefect_api, "COLUMNS": "160"} | variables
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)

    return run
