from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from asdcore.baselines.autoencoder import AutoencoderModel
from asdcore.baselines.fitting import _fit, fit_machine
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


def test_machines_fitted_at_the_same_time_are_the_same_as_those_fitted_here(store: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(fit_machine, store, TRAINING[name], tmp_path / name, FAST) for name in TRAINING]
        for job in jobs:
            job.result()
    for name, pairs in TRAINING.items():
        _fit(store, pairs, tmp_path / f"{name} here", FAST, torch.device("cpu"))
        assert (tmp_path / name).read_bytes() == (tmp_path / f"{name} here").read_bytes()
        model = AutoencoderModel.from_tensors(load_file(tmp_path / name))
        assert model.precision_source.shape == (32, 32)
        assert set(model.thresholds) == {"mse", "mahalanobis"}
    assert torch.get_num_threads() == threads


def test_a_recording_that_the_store_lacks_is_an_error_that_names_it(store: Path, tmp_path: Path) -> None:
    with pytest.raises(AsdError, match="no row of recording stranger"):
        fit_machine(store, [*TRAINING["fan"], ("stranger", "source")], tmp_path / "fan", FAST)
    assert not (tmp_path / "fan").exists()
