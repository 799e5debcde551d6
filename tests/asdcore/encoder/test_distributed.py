"""Two processes with half of each batch against one with the whole, on CPU."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed

from asdcore.encoder import network
from asdcore.encoder.distributed import World
from asdcore.encoder.labels import Labels
from asdcore.encoder.losses import build_loss
from asdcore.encoder.network import build_encoder
from asdcore.encoder.step import backward
from asdcore.errors import AsdError
from asdcore.settings import TrainingSettings
from tests.asdcore.encoder.conftest import NARROW

pytestmark = pytest.mark.usefixtures("narrow_encoder")

LOSSES = ("nt_xent", "supervised_contrastive", "discriminative", "combined")
N = 6
ROOT = Path(__file__).parents[3]
Made = dict[str, Tensor]


class Whole:
    """A batch and the weights that it meets: the same in every process."""

    def __init__(self, loss_function: str) -> None:
        settings = TrainingSettings(loss=loss_function, z_size=8)  # type: ignore[arg-type]
        torch.manual_seed(0)
        # In float32 the gradients of one process differ from those in float64 by more than 1e-5 already: rounding
        # flips a ReLU here and there.
        self.encoder = build_encoder("resnet18", settings.z_size).double()
        self.loss_function = build_loss(settings, 3, self.encoder.h_size).double()
        self.views = torch.randn(2, N, 1, 16, 16).double()
        machine = torch.arange(N) % 3
        self.labels = Labels(machine.repeat(2), machine.repeat(2), torch.tensor([0] * N + [-1, 0, 1] * (N // 3)))
        self.encoder.head.requires_grad_(loss_function != "discriminative")

    def made(self, loss: Tensor) -> Made:
        """The loss, all gradients and all statistics."""
        made: Made = {"loss": loss.detach()}
        for module in (self.encoder, self.loss_function):
            made |= {name: weight.grad for name, weight in module.named_parameters() if weight.grad is not None}
            made |= dict(module.named_buffers())
        return made


def share(loss_function: str, world: World, micro_batch: int | None = None) -> Made:
    """What one of the processes makes of its share of the batch."""
    whole = Whole(loss_function)
    own = slice(N * world.rank // world.size, N * (world.rank + 1) // world.size)
    model = world.shared(whole.encoder, whole.encoder, torch.device("cpu")).train()
    x = whole.views[:, own].flatten(0, 1)
    loss, *_ = backward(
        model, whole.loss_function, x, whole.labels, world=world, micro_batch=micro_batch, cast=nullcontext
    )
    return whole.made(loss)


def in_chunks(loss_function: str, chunks: list[list[int]]) -> Made:
    """What autograd makes of the whole batch where each micro-batch goes through the encoder by itself."""
    whole = Whole(loss_function)
    rows = [torch.tensor(micro_batch + [i + N for i in micro_batch]) for micro_batch in chunks]
    pairs = [whole.encoder.train()(whole.views.flatten(0, 1)[part]) for part in rows]
    h, z = (torch.cat(layer)[torch.cat(rows).argsort()] for layer in zip(*pairs, strict=True))
    loss = whole.loss_function(h, z, whole.labels)
    loss.backward()
    return whole.made(loss)


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Made]]:
    """What each of two processes makes, by loss_function; ``chunks``: nt_xent in chunks of one recording."""
    folder = tmp_path_factory.mktemp("shares")
    command = [sys.executable, "-m", "tests.asdcore.encoder.test_distributed", str(folder)]
    processes = [subprocess.Popen([*command, str(rank)], cwd=ROOT) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def assert_close(made: Made, expected: Made) -> None:
    assert made.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max().clamp(min=1e-3)
        assert (made[name] - value).abs().max() <= 1e-9 * scale, name


@pytest.mark.parametrize("loss_function", LOSSES)
def test_two_processes_with_half_the_batch_each_have_the_gradients_of_one_with_the_whole(
    shares: list[dict[str, Made]], loss_function: str
) -> None:
    for made in shares:
        assert_close(made[loss_function], share(loss_function, World()))


def test_two_processes_in_chunks_have_the_gradients_of_one_in_the_same_chunks(shares: list[dict[str, Made]]) -> None:
    for made in shares:
        assert_close(made["chunks"], in_chunks("nt_xent", [[0, 3], [1, 4], [2, 5]]))


@pytest.mark.parametrize("loss_function", LOSSES)
def test_chunks_have_the_gradients_of_all_negatives(loss_function: str) -> None:
    made = share(loss_function, World(), micro_batch=4)
    assert_close(made, in_chunks(loss_function, [[0, 1, 2, 3], [4, 5]]))


def test_a_chunk_as_large_as_the_batch_is_the_batch() -> None:
    made, whole = share("nt_xent", World(), micro_batch=N), share("nt_xent", World())
    assert all(torch.equal(made[name], value) for name, value in whole.items())


def test_a_batch_is_cut_to_equal_shares_and_must_have_two_for_each() -> None:
    assert World(0, 3).divisible(48) == 48
    assert World(0, 5).divisible(48) == 45
    assert World().divisible(7) == 7
    with pytest.raises(AsdError, match=r"batch of 5 recordings .* training\.processes=3"):
        World(0, 3).divisible(5)


def main(folder: Path, rank: int) -> None:
    network.WIDTHS = NARROW
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    made = {loss_function: share(loss_function, World.here()) for loss_function in LOSSES}
    made["chunks"] = share("nt_xent", World.here(), micro_batch=1)
    torch.save(made, folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
