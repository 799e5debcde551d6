from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from asdcore.baselines import fitting
from asdcore.baselines.autoencoder import AutoencoderModel
from asdcore.baselines.fitting import fit_machines
from asdcore.errors import AsdError
from asdcore.features.store import write_shard
from asdcore.settings import AutoencoderSettings

FAST = AutoencoderSettings(epochs=2, batch_size=64)
TRAINING = {
    "fan": [("fan0", "source"), ("fan1", "source"), ("fan2", "target")],
    "pump": [("pump0", "source"), ("pump1", "source")],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    names = [recording for pairs in TRAINING.values() for recording, _ in pairs]
    write_shard(folder, [(name, {"original": rng.normal(-50, 5, (32, 60)).astype(np.float16)}) for name in names])
    return folder


def files(folder: Path) -> dict[str, Path]:
    return {machine: folder / f"{machine}.safetensors" for machine in TRAINING}


@pytest.fixture(scope="module")
def fitted(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Trained in this process."""
    made = files(tmp_path_factory.mktemp("autoencoders"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fitting, "cpu_count", lambda: 1)
        fit_machines(store, TRAINING, made, FAST)
    return made


def test_every_machine_has_a_whole_file_and_nothing_else_is_left(fitted: dict[str, Path]) -> None:
    assert sorted(fitted["fan"].parent.iterdir()) == sorted(fitted.values())
    for path in fitted.values():
        model = AutoencoderModel.from_tensors(load_file(path))
        assert model.precision_source.shape == (32, 32)
        assert set(model.thresholds) == {"mse", "mahalanobis"}


def test_two_processes_give_the_same_as_one(
    store: Path, fitted: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "cpu_count", lambda: 2)
    threads = torch.get_num_threads()
    fit_machines(store, TRAINING, files(tmp_path), FAST)
    assert torch.get_num_threads() == threads
    for machine, path in files(tmp_path).items():
        assert path.read_bytes() == fitted[machine].read_bytes()


def test_a_finished_file_is_left_alone(store: Path, fitted: dict[str, Path], tmp_path: Path) -> None:
    made = files(tmp_path)
    made["fan"].write_bytes(b"finished")
    fit_machines(store, {"fan": TRAINING["fan"]}, made, FAST)
    assert made["fan"].read_bytes() == b"finished"


@pytest.mark.parametrize("missing", ["gone", None])
def test_a_machine_that_fails_leaves_no_file_and_the_finished_ones_stay(
    store: Path, tmp_path: Path, missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "cpu_count", lambda: 1)
    threads = torch.get_num_threads()
    training = TRAINING | {"pump": [(missing, "source")] if missing else []}
    with pytest.raises(AsdError, match="no row of recording gone" if missing else "no training recording"):
        fit_machines(store, training, files(tmp_path), FAST)
    assert [path.name for path in tmp_path.iterdir()] == ["fan.safetensors"]
    assert torch.get_num_threads() == threads


def test_without_machines_there_is_nothing_to_do(store: Path) -> None:
    fit_machines(store, {}, {}, FAST)
