"""A training between two steps, saved and restored."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from asdcore.encoder.distributed import World
from asdcore.encoder.labels import Labelling
from asdcore.encoder.network import TrainedEncoder, build_encoder
from asdcore.encoder.state import State
from asdcore.encoder.step import backward
from asdcore.errors import AsdError
from asdcore.features.normalisation import Normalisation
from tests.asdcore.encoder.conftest import BANDS, RECORDINGS, TINY

pytestmark = pytest.mark.usefixtures("narrow_encoder")

CPU = torch.device("cpu")
LABELLING = Labelling(RECORDINGS)
NAMES = list(RECORDINGS["recording"][2:6])
NORMALISATION = Normalisation(np.zeros((BANDS, 1), np.float32), np.ones((BANDS, 1), np.float32))
COMBINED = TINY.model_copy(update={"loss": "combined"})
"""Its loss has weights of its own."""


def new_state(**settings: Any) -> State:
    return State(COMBINED.model_copy(update=settings), LABELLING, CPU, World())


def step(state: State, seed: int) -> None:
    """One step of training on four random recordings."""
    x = torch.randn(2 * len(NAMES), 1, BANDS, 16, generator=torch.Generator().manual_seed(seed))
    labels = LABELLING.labels(NAMES, ["noise"] * len(NAMES))
    state.optimiser.zero_grad()
    loss, h, z = backward(
        state.model.train(), state.loss_function, x, labels, world=World(), micro_batch=None, cast=nullcontext
    )
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in state.weights if weight.grad is not None])
    state.optimiser.step()
    state.metrics.add(loss, norm, h, z, labels, state.loss_function, NAMES)
    state.step += 1


def weights(state: State) -> dict[str, Tensor]:
    own = {f"loss.{name}": tensor for name, tensor in state.loss_function.state_dict().items()}
    return {name: tensor.clone() for name, tensor in (state.encoder.state_dict() | own).items()}


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def saved_and_loaded(content: dict[str, Any], path: Path) -> dict[str, Any]:
    torch.save(content, path)
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def test_a_restored_training_takes_the_same_next_steps(tmp_path: Path) -> None:
    first = new_state()
    step(first, 0)
    first.end_epoch({"validation_loss": 2.0})
    step(first, 1)
    restored = new_state(seed=1)  # Nothing of the start may remain.
    restored.restore(saved_and_loaded(first.content(), tmp_path / "state.pt"))
    assert equal(weights(first), weights(restored))
    assert restored.progress(2) == first.progress(2)

    for state in (first, restored):
        step(state, 2)
        state.end_epoch({"validation_loss": 3.0})
    assert equal(weights(first), weights(restored))
    assert restored.history == first.history
    assert first.best is not None and restored.best is not None
    assert equal(restored.best, first.best)


def test_the_same_seed_begins_with_the_same_weights_and_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    first = weights(new_state())
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(1)
    assert equal(first, weights(new_state()))
    assert not equal(first, weights(new_state(seed=1)))


def test_settings_and_labels_have_another_fingerprint() -> None:
    elsewhere = Labelling(RECORDINGS.assign(machine="fan"))
    fingerprints = {
        new_state().fingerprint,
        new_state(temperature=0.5).fingerprint,
        State(COMBINED, elsewhere, CPU, World()).fingerprint,
        State(COMBINED, Labelling(RECORDINGS[1:]), CPU, World()).fingerprint,
    }
    assert len(fingerprints) == 4
    assert State(COMBINED, Labelling(RECORDINGS[::-1]), CPU, World()).fingerprint in fingerprints


@pytest.mark.parametrize(
    ("losses", "patience", "stopped"),
    [
        ([], 1, False),
        ([3.0], 1, False),
        ([3.0, 2.0, 1.0], 1, False),
        ([3.0, 1.0, 2.0], 1, True),
        ([3.0, 1.0, 2.0], 2, False),
        ([3.0, 1.0, 2.0, 2.0], 2, True),
        ([1.0, 1.0], 1, True),
    ],
)
def test_it_stops_when_the_validation_loss_has_not_fallen_for_the_epochs_of_its_patience(
    losses: list[float], patience: int, stopped: bool
) -> None:
    state = new_state(patience=patience)
    state.history = [{"loss": 1.0, "validation_loss": loss} for loss in losses]
    assert state.stopped_early is stopped


def test_without_validation_it_never_stops_early_and_ends_with_the_last_weights() -> None:
    state = new_state(patience=1)
    for seed in range(3):
        step(state, seed)
        state.end_epoch({})
        assert not state.stopped_early
    last = {name: tensor.clone() for name, tensor in state.encoder.state_dict().items()}
    assert equal(state.trained(NORMALISATION).encoder.state_dict(), last)


def test_with_validation_the_trained_encoder_is_that_of_the_lowest_validation_loss() -> None:
    state = new_state()
    epochs = []
    for seed, loss in enumerate([3.0, 1.0, 2.0]):
        step(state, seed)
        state.end_epoch({"validation_loss": loss})
        epochs.append({name: tensor.clone() for name, tensor in state.encoder.state_dict().items()})
    trained = state.trained(NORMALISATION)
    assert equal(trained.encoder.state_dict(), epochs[1])
    assert not trained.encoder.training
    assert [row["validation_loss"] for row in trained.history] == [3.0, 1.0, 2.0]


def test_a_warm_start_has_the_weights_of_the_encoder_and_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    given = TrainedEncoder(build_encoder(COMBINED.encoder, COMBINED.z_size), NORMALISATION, [])
    given.save(tmp_path / "encoder.safetensors")
    state = new_state()
    state.warm_start(tmp_path / "encoder.safetensors")
    assert equal(state.encoder.state_dict(), given.encoder.state_dict())
    assert state.fingerprint != new_state().fingerprint


def test_a_warm_start_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    TrainedEncoder(build_encoder(COMBINED.encoder, 16), NORMALISATION, []).save(tmp_path / "encoder.safetensors")
    state = new_state()
    before = weights(state)
    with pytest.raises(AsdError, match=r"encoder\.safetensors: resnet18 with z_size=16 .* with z_size=8"):
        state.warm_start(tmp_path / "encoder.safetensors")
    assert equal(weights(state), before)


def test_a_loss_that_looks_at_h_alone_does_not_train_the_head() -> None:
    state = new_state(loss="discriminative")
    before = weights(state)
    step(state, 0)
    changed = {name for name, tensor in weights(state).items() if not torch.equal(tensor, before[name])}
    trainable = {name for name in changed if "running" not in name and "num_batches" not in name}
    assert trainable and not any(name.startswith("head") for name in trainable)
