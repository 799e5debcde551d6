"""A store of eight tiny recordings that are easily told apart, and the encoder of one whole training on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asdcore.encoder import network
from asdcore.encoder.network import TrainedEncoder
from asdcore.encoder.training import train
from asdcore.features.augmentation import VARIANTS
from asdcore.features.store import Row, Store, write_shard
from asdcore.settings import TrainingSettings

BANDS, FRAMES = 16, 24
NARROW = (64, 64, 128, 128)
TINY = TrainingSettings(
    encoder="resnet18", loss="nt_xent", crop_frames=16, batch_size=4, epochs=4, cycles=2, z_size=8, device="cpu"
)
RECORDINGS = pd.DataFrame(
    {"recording": [f"recording-{i}" for i in range(8)], "machine": ["fan"] * 4 + ["valve"] * 4, "attributes": "{}"}
)


@dataclass(frozen=True)
class Trained:
    """What an undisturbed training with `TINY` on the recordings of `tiny_store` ends with."""

    encoder: TrainedEncoder
    seen: list[dict[str, float]]
    """the metrics that `on_epoch` was given"""
    checkpoints: Path


def tiny_row(index: int) -> Row:
    """Two bands that are loud in no other recording, the variants with some noise on it."""
    rng = np.random.default_rng(index)
    original = np.full((BANDS, FRAMES), -60.0) + rng.normal(0, 1, (BANDS, FRAMES))
    original[2 * index : 2 * index + 2] += 50
    made = {"original": original} | {name: original + rng.normal(0, 2, original.shape) for name in VARIANTS}
    return {name: values.astype(np.float16) for name, values in made.items()}


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("tiny")
    write_shard(folder, [(name, tiny_row(i)) for i, name in enumerate(RECORDINGS["recording"])])
    return Store(folder)


@pytest.fixture
def narrow_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the training around it is tested: checkpoints of the whole ResNet take longer than its steps."""
    monkeypatch.setattr(network, "WIDTHS", NARROW)


@pytest.fixture(scope="session")
def undisturbed(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """With the narrow encoder."""
    checkpoints = tmp_path_factory.mktemp("undisturbed")
    seen: list[dict[str, float]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "WIDTHS", NARROW)
        return Trained(train(tiny_store, RECORDINGS, TINY, checkpoints, seen.append), seen, checkpoints)


@pytest.fixture
def spoilt_store(tmp_path: Path) -> Callable[[Sequence[str], float], Store]:
    """Makes the store with one value of ``recording-3`` replaced in some columns."""

    def make(columns: Sequence[str], value: float) -> Store:
        rows = [(name, tiny_row(i)) for i, name in enumerate(RECORDINGS["recording"])]
        for column in columns:
            rows[3][1][column][5, 7] = value
        write_shard(tmp_path / "spoilt", rows)
        return Store(tmp_path / "spoilt")

    return make
