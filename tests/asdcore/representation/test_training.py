import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from asdcore.errors import AsdError
from asdcore.features.augmentation import VARIANTS
from asdcore.features.store import Store
from asdcore.representation.encoder import Encoder, TrainedEncoder
from asdcore.representation.objectives import objective_of
from asdcore.representation.training import learning_rate, train
from asdcore.settings import TrainingSettings

TINY = TrainingSettings(crop_frames=16, batch_size=4, epochs=4, cycles=2, z_size=8, device="cpu")
RECORDINGS = pd.DataFrame(
    {"recording": [f"recording-{i}" for i in range(8)], "machine": ["fan"] * 4 + ["valve"] * 4, "attributes": "{}"}
)


class Interrupted(Exception):
    pass


def assert_same_weights(a: TrainedEncoder, b: TrainedEncoder) -> None:
    left, right = a.encoder.state_dict(), b.encoder.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_same_seed_gives_the_same_weights_whatever_the_order_of_the_recordings(
    tiny_store: Store, undisturbed, tmp_path: Path
) -> None:
    torch.rand(7)  # The state of torch's own generator must not matter either.
    again = train(tiny_store, RECORDINGS[::-1], TINY, tmp_path / "checkpoint.pt")
    assert_same_weights(again, undisturbed.encoder)
    assert again.history == undisturbed.encoder.history


def test_another_seed_gives_other_weights(tiny_store: Store, undisturbed, tmp_path: Path) -> None:
    other = train(tiny_store, RECORDINGS, TINY.model_copy(update={"seed": 1}), tmp_path / "checkpoint.pt")
    assert other.history[0]["loss"] != undisturbed.encoder.history[0]["loss"]


def test_training_leaves_the_random_state_of_its_caller_alone(tiny_store: Store, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    train(tiny_store, RECORDINGS, TINY.model_copy(update={"epochs": 1, "cycles": 1}), tmp_path / "checkpoint.pt")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_interrupted_after_each_epoch_and_resumed_it_ends_with_the_same_weights(
    tiny_store: Store, undisturbed, tmp_path: Path
) -> None:
    def stop(figures: dict[str, float]) -> None:
        seen.append(figures)
        raise Interrupted

    seen: list[dict[str, float]] = []
    for _ in range(TINY.epochs):
        with pytest.raises(Interrupted):
            train(tiny_store, RECORDINGS, TINY, tmp_path / "checkpoint.pt", stop)
    resumed = train(tiny_store, RECORDINGS, TINY, tmp_path / "checkpoint.pt", stop)

    assert_same_weights(resumed, undisturbed.encoder)
    assert [row["epoch"] for row in seen] == [1, 2, 3, 4]
    assert seen == undisturbed.seen


@pytest.mark.parametrize("objective", ["supervised_contrastive", "discriminative", "combined"])
def test_with_any_objective_a_resumed_training_ends_with_the_same_weights(
    tiny_store: Store, tmp_path: Path, objective: str
) -> None:
    def stop_once(figures: dict[str, float]) -> None:
        if figures["epoch"] == 2:
            raise Interrupted

    settings = TINY.model_copy(update={"objective": objective})
    whole = train(tiny_store, RECORDINGS, settings, tmp_path / "whole.pt")
    with pytest.raises(Interrupted):
        train(tiny_store, RECORDINGS, settings, tmp_path / "cut.pt", stop_once)
    resumed = train(tiny_store, RECORDINGS, settings, tmp_path / "cut.pt")
    assert_same_weights(resumed, whole)
    assert resumed.history == whole.history
    own, again = (torch.load(tmp_path / name, weights_only=True)["objective"] for name in ("whole.pt", "cut.pt"))
    assert own.keys() == again.keys()
    assert all(torch.equal(own[name], again[name]) for name in own)
    # The own weights of an objective train, and are no part of the encoder.
    first = objective_of(settings, 2, 512).state_dict()
    assert all(not torch.equal(own[name], first[name]) for name in own)
    assert whole.encoder.state_dict().keys() == Encoder(z_size=8).state_dict().keys()


@pytest.mark.parametrize("objective", ["supervised_contrastive", "discriminative", "combined"])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_any_objective_survives_one_machine_with_few_recordings_and_no_attributes(
    tiny_store: Store, tmp_path: Path, objective: str, count: int
) -> None:
    settings = TINY.model_copy(update={"objective": objective, "batch_size": 48, "epochs": 2, "cycles": 1})
    few = RECORDINGS[:count].assign(machine="fan")
    trained = train(tiny_store, few, settings, tmp_path / "checkpoint.pt")
    assert all(math.isfinite(value) for row in trained.history for value in row.values())
    assert all(torch.isfinite(tensor).all() for tensor in trained.encoder.state_dict().values())


KILLED = """
import os, signal, sys
from pathlib import Path
import pandas as pd
from torch.optim.optimizer import register_optimizer_step_post_hook
from asdcore.features.store import Store
from asdcore.representation.training import train
from asdcore.settings import TrainingSettings

steps = 0
def die_in_the_second_epoch(*_):
    global steps
    steps += 1
    if steps == 3:
        os.kill(os.getpid(), signal.SIGKILL)

register_optimizer_step_post_hook(die_in_the_second_epoch)
store, checkpoint, settings = Path(sys.argv[1]), Path(sys.argv[2]), TrainingSettings.model_validate_json(sys.argv[3])
train(Store(store), pd.read_json(sys.argv[4]), settings, checkpoint)
"""


def test_killed_in_the_middle_of_an_epoch_it_resumes_and_ends_with_the_same_weights(
    tiny_store: Store, undisturbed, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    table = tmp_path / "recordings.json"
    RECORDINGS.to_json(table)
    command = [
        sys.executable,
        "-c",
        KILLED,
        str(tiny_store.folder),
        str(checkpoint),
        TINY.model_dump_json(),
        str(table),
    ]
    # The same number of threads: the promise holds for that.
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(torch.load(checkpoint, weights_only=True)["history"]) == 1

    seen: list[float] = []
    resumed = train(tiny_store, RECORDINGS, TINY, checkpoint, lambda figures: seen.append(figures["epoch"]))
    assert seen == [2, 3, 4]
    assert_same_weights(resumed, undisturbed.encoder)


def test_the_loss_falls_on_recordings_that_are_easily_told_apart(undisturbed) -> None:
    losses = [row["loss"] for row in undisturbed.encoder.history]
    assert losses[-1] < 0.6 * losses[0]


def test_every_epoch_has_all_its_figures(undisturbed) -> None:
    history = undisturbed.encoder.history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    names = {"epoch", "loss", "chance", "learning_rate", "gradient_norm", "alignment", "uniformity"}
    for row in history:
        assert set(row) == names | {"effective_rank_h", "effective_rank_z", "spread_h", "spread_z"}
        assert all(math.isfinite(value) for value in row.values())
        assert row["gradient_norm"] > 0
        assert 1 <= row["effective_rank_z"] <= 7  # 8 recordings, centred
    assert history == undisturbed.seen


def test_the_trained_encoder_has_the_normalisation_of_its_recordings(tiny_store: Store, undisturbed) -> None:
    originals = np.concatenate(
        [tiny_store.read(recording, "original") for recording in RECORDINGS["recording"]], axis=1
    )
    normalisation = undisturbed.encoder.normalisation
    np.testing.assert_allclose(normalisation.mean[:, 0], originals.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(normalisation.deviation[:, 0], originals.std(axis=1), rtol=1e-4)


@pytest.mark.parametrize("steps_per_epoch", [1, 7])
def test_the_learning_rate_has_four_cycles_from_the_initial_rate_to_the_lowest(steps_per_epoch: int) -> None:
    settings = TrainingSettings(learning_rate=0.5, epochs=40, cycles=4)
    rates = [learning_rate(step, steps_per_epoch, settings) for step in range(40 * steps_per_epoch)]
    cycles = np.reshape(rates, (4, -1))
    assert (cycles == cycles[0]).all()
    assert cycles[0][0] == 0.5
    assert cycles[0][-1] == 0.5 / 1000
    assert (np.diff(cycles[0]) < 0).all()
    half = len(cycles[0]) // 2
    assert cycles[0][half - 1] > (0.5 + 0.5 / 1000) / 2 > cycles[0][half]


def test_the_learning_rate_of_the_schedule_is_the_one_that_trains(undisturbed) -> None:
    # Two cycles of two epochs of two steps: the last step of each cycle is at the lowest rate.
    rates = [row["learning_rate"] for row in undisturbed.encoder.history]
    assert rates == [learning_rate(step, 2, TINY) for step in (1, 3, 5, 7)]
    assert rates[1] == rates[3] == TINY.learning_rate / 1000
    saved = torch.load(undisturbed.checkpoint, weights_only=True)["optimiser"]["param_groups"]
    assert {group["lr"] for group in saved} == {TINY.learning_rate / 1000}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_spoilt_original_is_named_before_it_spoils_the_normalisation(
    spoilt_store: Callable[[Sequence[str], float], Store], tmp_path: Path, value: float
) -> None:
    with pytest.raises(AsdError, match="recording-3"):
        train(spoilt_store(["original"], value), RECORDINGS, TINY, tmp_path / "checkpoint.pt")
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_loss_that_is_not_finite_names_the_recordings_of_the_batch(
    spoilt_store: Callable[[Sequence[str], float], Store], tmp_path: Path
) -> None:
    settings = TINY.model_copy(update={"crop_frames": 24})  # All frames, so that the crop holds the spoilt one.
    store = spoilt_store(VARIANTS, float("nan"))
    with pytest.raises(AsdError, match=r"loss nan.*Recordings of the batch: .*recording-3"):
        train(store, RECORDINGS, settings, tmp_path / "checkpoint.pt")


def test_an_absurd_learning_rate_stops_and_keeps_the_last_good_checkpoint(tiny_store: Store, tmp_path: Path) -> None:
    settings = TINY.model_copy(update={"learning_rate": 1e30})
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(AsdError, match=r"training\.learning_rate \(now 1e\+30\)"):
        train(tiny_store, RECORDINGS, settings, checkpoint)
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)["encoder"]
        assert all(torch.isfinite(tensor).all() for tensor in kept.values())


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_recordings_are_refused(tiny_store: Store, count: int, tmp_path: Path) -> None:
    with pytest.raises(AsdError, match=f"{count} training recordings"):
        train(tiny_store, RECORDINGS[:count], TINY, tmp_path / "checkpoint.pt")


def test_fewer_recordings_than_a_batch_train_as_one_batch(tiny_store: Store, tmp_path: Path) -> None:
    settings = TINY.model_copy(update={"batch_size": 48, "epochs": 2})
    trained = train(tiny_store, RECORDINGS[:3], settings, tmp_path / "checkpoint.pt")
    assert len(trained.history) == 2
    assert trained.history[0]["loss"] > 0


def test_a_recording_without_features_is_named(tiny_store: Store, tmp_path: Path) -> None:
    with pytest.raises(AsdError, match="never-computed"):
        train(tiny_store, RECORDINGS.replace("recording-5", "never-computed"), TINY, tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "another file of torch"])
def test_a_damaged_checkpoint_is_named_with_the_remedy(
    tiny_store: Store, undisturbed, tmp_path: Path, damage: str
) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    whole = undisturbed.checkpoint.read_bytes()
    if damage == "another file of torch":
        torch.save({"encoder": {}}, checkpoint)
    else:
        checkpoint.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"no checkpoint", "empty": b""}[damage])
    with pytest.raises(AsdError, match=r"checkpoint\.pt: damaged \(\w+\)\. Delete it to train from the start"):
        train(tiny_store, RECORDINGS, TINY, checkpoint)


def test_a_checkpoint_that_runs_code_when_unpickled_is_refused_without_running_it(
    tiny_store: Store, tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "it ran",)

    torch.save({"encoder": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(AsdError, match="damaged"):
        train(tiny_store, RECORDINGS, TINY, tmp_path / "checkpoint.pt")
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize("other", ["settings", "recordings", "machines"])
def test_a_checkpoint_of_another_training_is_refused(tiny_store: Store, undisturbed, other: str) -> None:
    settings = TINY.model_copy(update={"temperature": 0.5}) if other == "settings" else TINY
    recordings = {"recordings": RECORDINGS[1:], "machines": RECORDINGS.assign(machine="fan")}.get(other, RECORDINGS)
    with pytest.raises(AsdError, match=r"checkpoint\.pt: of a training with other recordings or settings"):
        train(tiny_store, recordings, settings, undisturbed.checkpoint)
