"""One real Prefect API for all flow tests, and homes of their own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from asdcore.datasets.simulate import SAMPLE_RATE, simulate, waveform
from asdcore.settings import Settings
from asdcore.storage.home import Home

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
    """The demo preset with a ResNet-18: four epochs on crops of half a second, `tied`, 3 components."""
    demo = Settings.preset("demo")
    return demo.model_copy(
        update={
            "training": demo.training.model_copy(
                update={"encoder": "resnet18", "epochs": 4, "crop_frames": 16, "batch_size": 8}
            ),
            "normality": demo.normality.model_copy(update={"estimator": "tied", "elliptic_components": 3}),
        }
    )


@pytest.fixture
def two_recordings() -> pd.DataFrame:
    """Rows of the table of recordings that an encoder can be trained on."""
    described = {"machine": "fan", "attributes": "{}", "session": "", "split": "train", "label": "normal"}
    return pd.DataFrame({"recording": ["a", "b"], **described})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Empty at first, and shared by the tests of a file."""
    return Home.at(tmp_path_factory.mktemp("home"))


@pytest.fixture
def environment() -> Iterator[None]:
    """Commands that run in this process leave no variable behind."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def asd(prefect_api: str) -> Asd:
    """Run the command line as a user does, against the tests' Prefect API; returns the finished process."""

    def run(*arguments: str | Path, timeout: float = 240, **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
        environment = os.environ | {"PREFECT_API_URL": prefect_api, "COLUMNS": "160"} | variables
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)

    return run


@pytest.fixture(scope="session")
def pump_place(asd: Asd, sample_data_if_any: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a user of the README: ``.asd`` with a champion for the machine ``pump``, and its recordings.

    ``pump/test/new.wav`` is anomalous and ``pump/test/old.wav`` normal: a real motor's where ``ASD_SAMPLE_DATA`` is
    set, else a simulated machine's. ``retrain.json`` is what the retraining has printed.
    """
    place = tmp_path_factory.mktemp("pump")
    pump = place / "pump"
    if sample_data_if_any:
        motor = sample_data_if_any / "real-mini" / "bldcB"
        shutil.copytree(motor / "train", pump / "train")
        (pump / "test").mkdir()
        for name, label in (("new", "anomaly"), ("old", "normal")):
            (found,) = (motor / "test").glob(f"*_source_test_{label}_0002_*.wav")
            shutil.copy(found, pump / "test" / f"{name}.wav")
    else:
        folder = place / "simulated"
        simulate(folder, machines=["simFan"], source_train=20, target_train=4, test_per_kind=0, seconds=2.0)
        (folder / "simFan").rename(pump)
        (pump / "test").mkdir(exist_ok=True)
        for name, label, fault in (("new", "anomaly", "broadband"), ("old", "normal", None)):
            rng = np.random.default_rng(7)
            samples = waveform("simFan", domain="source", label=label, rng=rng, fault=fault, strength=20.0, seconds=2.0)
            soundfile.write(pump / "test" / f"{name}.wav", samples, SAMPLE_RATE)
    for file in pump.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    # With so few recordings a p-value is hardly below 1 / (n + 1): a larger false-alarm rate, to have an alarm at all.
    normality = ["normality.false_alarm_rate=0.2", "normality.scorers=spectrum"]
    values = ["training.epochs=4", "training.crop_frames=16", *normality]
    changes = [word for value in values for word in ("--set", value)]
    done = asd("retrain", "--recordings", pump, "--preset", "demo", *changes, "--home", place / ".asd", "--json")
    assert done.returncode == 0, done.stderr
    (place / "retrain.json").write_text(done.stdout)
    return place
