from pathlib import Path

import pandas as pd
import pytest
import torch

from asdcore.encoder.checkpoint import checkpoint_files
from asdcore.encoder.labels import Labelling
from asdcore.encoder.training import train
from asdcore.encoder.validation import held_out
from asdcore.errors import AsdError
from asdcore.features.store import Store
from tests.asdcore.encoder.conftest import RECORDINGS, TINY

pytestmark = pytest.mark.usefixtures("narrow_encoder")

VALIDATED = TINY.model_copy(update={"validation_fraction": 0.5, "epochs": 8})
"""Four recordings train, too few for others to gain by it: the validation loss soon rises."""


def test_the_share_of_each_machine_is_held_out_the_same_ones_for_the_same_seed() -> None:
    table = pd.DataFrame(
        {"recording": [f"r{i}" for i in range(60)], "machine": ["fan"] * 20 + ["valve"] * 40, "attributes": "{}"}
    )
    chosen = held_out(Labelling(table), 0.1, seed=0)
    assert [sum(int(name[1:]) < 20 for name in chosen), len(chosen)] == [2, 6]
    assert chosen == held_out(Labelling(table[::-1]), 0.1, seed=0)
    assert chosen != held_out(Labelling(table), 0.1, seed=1)
    assert held_out(Labelling(table), 0.0, seed=0) == []


def test_a_share_that_leaves_nothing_to_validate_with_is_refused() -> None:
    with pytest.raises(AsdError, match=r"training\.validation_fraction=0\.05 of 8 recordings leaves 0"):
        held_out(Labelling(RECORDINGS), 0.05, seed=0)


def test_it_stops_early_with_the_encoder_of_the_lowest_validation_loss(tiny_store: Store, tmp_path: Path) -> None:
    stopping = VALIDATED.model_copy(update={"patience": 1})
    trained = train(tiny_store, RECORDINGS, stopping, tmp_path / "stopped")
    losses = [row["validation_loss"] for row in trained.history]
    assert len(losses) < 8
    assert losses[-1] > losses[-2] == min(losses)
    assert all(row["validation_effective_rank_z"] > 0 for row in trained.history)
    last = torch.load(checkpoint_files(tmp_path / "stopped")[0], weights_only=True)
    weights = trained.encoder.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in last["best"].items())
    assert not torch.equal(weights["layers.0.0.weight"], last["encoder"]["layers.0.0.weight"])
    # Called again it has nothing left to do.
    again = train(tiny_store, RECORDINGS, stopping, tmp_path / "stopped").encoder.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


def test_the_held_out_recordings_do_not_train(tiny_store: Store, tmp_path: Path) -> None:
    settings = VALIDATED.model_copy(update={"patience": 99, "epochs": 2, "cycles": 1})
    trained = train(tiny_store, RECORDINGS, settings, tmp_path / "validated")
    held = held_out(Labelling(RECORDINGS), 0.5, settings.seed)
    # Without them altogether, and without validation, it is the same training.
    rest = RECORDINGS[~RECORDINGS["recording"].isin(held)]
    plain = train(tiny_store, rest, settings.model_copy(update={"validation_fraction": 0.0}), tmp_path / "plain")
    assert [row["loss"] for row in trained.history] == [row["loss"] for row in plain.history]
    assert (trained.normalisation.mean == plain.normalisation.mean).all()


def test_a_warm_start_begins_with_the_weights_of_the_encoder(tiny_store: Store, undisturbed, tmp_path: Path) -> None:
    undisturbed.encoder.save(tmp_path / "encoder.safetensors")
    still = TINY.model_copy(update={"learning_rate": 1e-12, "epochs": 1, "cycles": 1})
    warm = train(tiny_store, RECORDINGS, still, tmp_path / "warm", warm_start=tmp_path / "encoder.safetensors")
    before = dict(undisturbed.encoder.encoder.named_parameters())
    for name, weight in warm.encoder.named_parameters():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=1e-10)
    assert warm.history[0]["loss"] < 0.6 * undisturbed.encoder.history[0]["loss"]
