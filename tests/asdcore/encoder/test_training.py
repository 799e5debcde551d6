import math
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from asdcore.encoder.checkpoint import checkpoint_files
from asdcore.encoder.losses import build_loss, nt_xent
from asdcore.encoder.network import TrainedEncoder, build_encoder
from asdcore.encoder.schedule import learning_rate
from asdcore.encoder.training import train
from asdcore.errors import AsdError
from asdcore.features.augmentation import VARIANTS
from asdcore.features.batches import batches
from asdcore.features.store import Store
from tests.asdcore.encoder.conftest import RECORDINGS, TINY, Trained

pytestmark = pytest.mark.usefixtures("narrow_encoder")

ROOT = Path(__file__).parents[3]


def content(checkpoints: Path) -> dict[str, Any]:
    """Of the newest checkpoint."""
    content: dict[str, Any] = torch.load(checkpoint_files(checkpoints)[0], weights_only=True)
    return content


def assert_same_weights(a: TrainedEncoder, b: TrainedEncoder) -> None:
    left, right = a.encoder.state_dict(), b.encoder.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_same_seed_gives_the_same_weights_whatever_the_order_of_the_recordings(
    tiny_store: Store, undisturbed: Trained, tmp_path: Path
) -> None:
    torch.rand(7)  # The state of torch's own generator must not matter either.
    again = train(tiny_store, RECORDINGS[::-1], TINY, tmp_path)
    assert_same_weights(again, undisturbed.encoder)
    assert again.history == undisturbed.encoder.history


def test_another_seed_gives_other_weights(tiny_store: Store, undisturbed: Trained, tmp_path: Path) -> None:
    other = train(tiny_store, RECORDINGS, TINY.model_copy(update={"seed": 1}), tmp_path)
    assert other.history[0]["loss"] != undisturbed.encoder.history[0]["loss"]


def test_training_leaves_the_random_state_of_its_caller_alone(tiny_store: Store, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    train(tiny_store, RECORDINGS, TINY.model_copy(update={"epochs": 1, "cycles": 1}), tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)


class CtrlC:
    """Presses Ctrl-C within one of the steps of the trainings of a block, counted from 1."""

    def __init__(self, step: int) -> None:
        self.step, self.steps = step, 0

    def __enter__(self) -> None:
        self.hook = register_optimizer_step_post_hook(self.press)

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def press(self, *_: object) -> None:
        self.steps += 1
        if self.steps == self.step:
            signal.raise_signal(signal.SIGINT)


def test_stopped_with_ctrl_c_within_any_step_and_called_again_it_ends_with_the_same_weights(
    tiny_store: Store, undisturbed: Trained, tmp_path: Path
) -> None:
    seen: list[dict[str, float]] = []
    for done in range(1, 9):
        with pytest.raises(KeyboardInterrupt), CtrlC(1):
            train(tiny_store, RECORDINGS, TINY, tmp_path, seen.append)
        assert content(tmp_path)["epoch"] * 2 + content(tmp_path)["step"] == done
    resumed = train(tiny_store, RECORDINGS, TINY, tmp_path, seen.append)
    assert_same_weights(resumed, undisturbed.encoder)
    assert resumed.history == undisturbed.encoder.history
    assert seen == undisturbed.seen


@pytest.mark.parametrize("loss_function", ["supervised_contrastive", "discriminative", "combined"])
def test_with_any_loss_a_resumed_training_ends_with_the_same_weights(
    tiny_store: Store, tmp_path: Path, loss_function: str
) -> None:
    settings = TINY.model_copy(update={"loss": loss_function})
    whole = train(tiny_store, RECORDINGS, settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt), CtrlC(3):
        train(tiny_store, RECORDINGS, settings, tmp_path / "cut")
    resumed = train(tiny_store, RECORDINGS, settings, tmp_path / "cut")
    assert_same_weights(resumed, whole)
    assert resumed.history == whole.history
    own, again = (content(tmp_path / name)["loss_function"] for name in ("whole", "cut"))
    assert own.keys() == again.keys()
    assert all(torch.equal(own[name], again[name]) for name in own)
    # The own weights of a loss train, and are no part of the encoder.
    first = build_loss(settings, 2, 512).state_dict()
    assert all(not torch.equal(own[name], first[name]) for name in own)
    assert whole.encoder.state_dict().keys() == build_encoder(z_size=8).state_dict().keys()


@pytest.mark.parametrize("loss_function", ["supervised_contrastive", "discriminative", "combined"])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_any_loss_survives_one_machine_with_few_recordings_and_no_attributes(
    tiny_store: Store, tmp_path: Path, loss_function: str, count: int
) -> None:
    settings = TINY.model_copy(update={"loss": loss_function, "batch_size": 48, "epochs": 2, "cycles": 1})
    few = RECORDINGS[:count].assign(machine="fan")
    trained = train(tiny_store, few, settings, tmp_path)
    assert all(math.isfinite(value) for row in trained.history for value in row.values())
    assert all(torch.isfinite(tensor).all() for tensor in trained.encoder.state_dict().values())


KILLED = """
import math, os, signal, sys
from pathlib import Path
from torch.optim.optimizer import register_optimizer_step_post_hook
from asdcore.encoder import checkpoint, network
from asdcore.encoder.training import train
from asdcore.features.store import Store
from tests.asdcore.encoder.conftest import NARROW, RECORDINGS, TINY

store, folder = sys.argv[1:3]
network.WIDTHS = NARROW
checkpoint.MOST_TIME = math.inf  # a checkpoint after every step: so short a training would have one
for last in map(int, sys.argv[3:]):
    if os.fork():
        assert os.WTERMSIG(os.wait()[1]) == signal.SIGKILL
        continue
    steps = 0
    def die(*_):
        global steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
    register_optimizer_step_post_hook(die)
    train(Store(Path(store)), RECORDINGS, TINY, Path(folder, str(last)))
"""


def test_killed_within_any_of_three_random_steps_it_resumes_and_ends_with_the_same_weights(
    tiny_store: Store, undisturbed: Trained, tmp_path: Path
) -> None:
    steps = random.sample(range(2, 9), 3)
    command = [sys.executable, "-c", KILLED, *map(str, [tiny_store.folder, tmp_path, *steps])]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == 0, killed.stderr
    for last in steps:
        folder = tmp_path / str(last)
        before = content(folder)
        assert before["epoch"] * 2 + before["step"] == last - 1, f"killed within step {last}"
        resumed = train(tiny_store, RECORDINGS, TINY, folder)
        assert_same_weights(resumed, undisturbed.encoder)
        assert resumed.history == undisturbed.encoder.history


def test_it_is_the_plain_loop_bit_for_bit(tiny_store: Store, undisturbed: Trained) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(TINY.seed)
        encoder = build_encoder(TINY.encoder, TINY.z_size).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(encoder.parameters())
    normalisation = undisturbed.encoder.normalisation
    for epoch in range(TINY.epochs):
        plan = {"batch_size": 4, "crop_frames": 16, "seed": TINY.seed, "epoch": epoch}
        for step, batch in enumerate(batches(tiny_store, sorted(RECORDINGS["recording"]), normalisation, **plan)):
            optimiser.param_groups[0]["lr"] = learning_rate(2 * epoch + step, 2, TINY)
            views = torch.from_numpy(np.concatenate([batch.original, batch.variant]))
            _, z = encoder(views.to(memory_format=torch.channels_last))
            optimiser.zero_grad()
            nt_xent(z[:4], z[4:], TINY.temperature).backward()
            optimiser.step()
    assert_same_weights(undisturbed.encoder, TrainedEncoder(encoder, normalisation, []))


def test_the_loss_falls_on_recordings_that_are_easily_told_apart(undisturbed: Trained) -> None:
    losses = [row["loss"] for row in undisturbed.encoder.history]
    assert losses[-1] < 0.6 * losses[0]


def test_every_epoch_has_all_its_figures(undisturbed: Trained) -> None:
    history = undisturbed.encoder.history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    names = {"epoch", "loss", "chance", "learning_rate", "gradient_norm", "alignment", "uniformity"}
    for row in history:
        assert set(row) == names | {"effective_rank_h", "effective_rank_z", "spread_h", "spread_z"}
        assert all(math.isfinite(value) for value in row.values())
        assert row["gradient_norm"] > 0
        assert 1 <= row["effective_rank_z"] <= 7  # 8 recordings, centred
    assert history == undisturbed.seen


def test_the_trained_encoder_has_the_normalisation_of_its_recordings(tiny_store: Store, undisturbed: Trained) -> None:
    originals = np.concatenate(
        [tiny_store.read(recording, "original") for recording in RECORDINGS["recording"]], axis=1
    )
    normalisation = undisturbed.encoder.normalisation
    np.testing.assert_allclose(normalisation.mean[:, 0], originals.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(normalisation.deviation[:, 0], originals.std(axis=1), rtol=1e-4)


def test_the_learning_rate_of_the_schedule_is_the_one_that_trains(undisturbed: Trained) -> None:
    # Two cycles of two epochs of two steps: the last step of each cycle is at the lowest rate.
    rates = [row["learning_rate"] for row in undisturbed.encoder.history]
    assert rates == [learning_rate(step, 2, TINY) for step in (1, 3, 5, 7)]
    assert rates[1] == rates[3] == TINY.learning_rate / 1000
    saved = content(undisturbed.checkpoints)["optimiser"]["param_groups"]
    assert {group["lr"] for group in saved} == {TINY.learning_rate / 1000}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_spoilt_original_is_named_before_it_spoils_the_normalisation(
    spoilt_store: Callable[[Sequence[str], float], Store], tmp_path: Path, value: float
) -> None:
    with pytest.raises(AsdError, match="recording-3"):
        train(spoilt_store(["original"], value), RECORDINGS, TINY, tmp_path)
    assert not checkpoint_files(tmp_path)


def test_a_loss_that_is_not_finite_names_the_recordings_of_the_batch(
    spoilt_store: Callable[[Sequence[str], float], Store], tmp_path: Path
) -> None:
    settings = TINY.model_copy(update={"crop_frames": 24})  # All frames, so that the crop holds the spoilt one.
    store = spoilt_store(VARIANTS, float("nan"))
    with pytest.raises(AsdError, match=r"loss nan.*Recordings of the batch: .*recording-3"):
        train(store, RECORDINGS, settings, tmp_path)


def test_an_absurd_learning_rate_stops_and_keeps_the_last_good_checkpoint(tiny_store: Store, tmp_path: Path) -> None:
    settings = TINY.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(AsdError, match=r"epoch \d, step \d: .*training\.learning_rate \(now 1e\+30\)"):
        train(tiny_store, RECORDINGS, settings, tmp_path)
    kept = content(tmp_path)
    assert kept["metrics"]["steps"]
    assert all(math.isfinite(loss) for loss, _ in kept["metrics"]["steps"])


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_recordings_are_refused(tiny_store: Store, count: int, tmp_path: Path) -> None:
    with pytest.raises(AsdError, match=f"{count} training recordings"):
        train(tiny_store, RECORDINGS[:count], TINY, tmp_path)


def test_fewer_recordings_than_a_batch_train_as_one_batch(tiny_store: Store, tmp_path: Path) -> None:
    settings = TINY.model_copy(update={"batch_size": 48, "epochs": 2})
    trained = train(tiny_store, RECORDINGS[:3], settings, tmp_path)
    assert len(trained.history) == 2
    assert trained.history[0]["loss"] > 0


def test_a_recording_without_features_is_named(tiny_store: Store, tmp_path: Path) -> None:
    with pytest.raises(AsdError, match="never-computed"):
        train(tiny_store, RECORDINGS.replace("recording-5", "never-computed"), TINY, tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "one byte"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_it_with_a_warning(
    tiny_store: Store, undisturbed: Trained, tmp_path: Path, damage: str
) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), CtrlC(2):
            train(tiny_store, RECORDINGS, TINY, tmp_path)
    newest, _ = checkpoint_files(tmp_path)
    whole = bytearray(newest.read_bytes())
    whole[len(whole) // 2] ^= 1
    newest.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else whole)

    seen, said = [], []
    resumed = train(
        tiny_store, RECORDINGS, TINY, tmp_path, lambda row: seen.append(row["epoch"]), on_warning=said.append
    )
    (sentence,) = said
    assert newest.name in sentence
    assert seen == [2, 3, 4]  # The second step of the first epoch had ended, that of the second is lost.
    assert_same_weights(resumed, undisturbed.encoder)


def test_where_no_checkpoint_can_be_used_it_says_so_and_trains_from_the_start(
    tiny_store: Store, undisturbed: Trained, tmp_path: Path
) -> None:
    (tmp_path / "step-000000003-0123456789abcdef.pt").write_bytes(b"no checkpoint")
    said: list[str] = []
    again = train(tiny_store, RECORDINGS, TINY, tmp_path, on_warning=said.append)
    assert len(said) == 1
    assert_same_weights(again, undisturbed.encoder)


@pytest.mark.parametrize("other", ["settings", "recordings", "machines"])
def test_a_checkpoint_of_another_training_is_refused(tiny_store: Store, undisturbed: Trained, other: str) -> None:
    settings = TINY.model_copy(update={"temperature": 0.5}) if other == "settings" else TINY
    recordings = {"recordings": RECORDINGS[1:], "machines": RECORDINGS.assign(machine="fan")}.get(other, RECORDINGS)
    with pytest.raises(AsdError, match=r"\.pt: belongs to a training with other recordings or settings"):
        train(tiny_store, recordings, settings, undisturbed.checkpoints)
