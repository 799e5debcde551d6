"""Train the two-branch network on the waveforms of all machines.

The task is to tell apart every machine, section, domain and combination of attributes; mixup, the exchange of
statistics and that of the branches' embeddings make it harder. As in the last version of the published code (see
`asdcore.baselines.two_branch`); an earlier one has a loss for each exchange instead of one for both.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from asdcore.baselines.adacos import SubclusterAdaCos
from asdcore.baselines.exchange import drawn, exchanged_classes, exchanged_features, mixed
from asdcore.baselines.two_branch import TwoBranch, fitted
from asdcore.encoder.checkpoint import Checkpoints
from asdcore.encoder.frozen import sound_of
from asdcore.errors import AsdError
from asdcore.progress import progress
from asdcore.settings import RecordingSettings, TwoBranchSettings

WEIGHT_DECAY = 1e-5
"""times the sum of the squared weights of convolutions and linear layers, gates apart"""
MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
"""Bytes, of this computer: waveforms that need more are refused."""
CLASS = ["machine", "section", "domain", "attributes"]
"""columns of the table of recordings that make a class"""


@dataclass
class Waveforms:
    """The training recordings, in memory: 4 bytes a sample, 640 kB for 10 s at 16 kHz."""

    samples: Sequence[NDArray[np.float32]]
    """(n_samples,) each, full scale at 1"""
    classes: Tensor
    """(n,) int64"""
    sample_rate: int
    """Hz"""
    length: int = field(init=False)
    """samples of the longest"""

    def __post_init__(self) -> None:
        self.length = max(map(len, self.samples), default=0)


def read_waveforms(
    recordings: pd.DataFrame, paths: Iterable[Path], settings: RecordingSettings, seconds: float, memory: int = MEMORY
) -> Waveforms:
    """Decode the training clips.

    Args:
        recordings: one row per clip, with the columns ``recording`` and `CLASS`.
        paths: the file of each.
        settings: see `RecordingSettings`.
        seconds: what is longer is cut.
        memory: bytes that they may take.

    Raises:
        AsdError: a file is gone or can no longer be used, or they take more memory.
    """
    longest = round(seconds * settings.sample_rate)
    places = progress(zip(recordings["recording"], paths, strict=True), "waveforms", total=len(recordings))
    samples: list[NDArray[np.float32]] = []
    left = memory
    for name, path in places:
        samples.append(sound_of(name, path, settings).samples[:longest].copy())
        left -= samples[-1].nbytes
        if left < 0:
            raise AsdError(
                f"the waveforms of the first {len(samples)} of {len(recordings)} training clips need more than the "
                f"{memory / 2**30:.3g} GiB of memory here: lower two_branch.seconds, or compare fewer machines"
            )
    rows = recordings[CLASS].fillna("").astype(str).agg("\n".join, axis=1)
    classes = np.unique(rows, return_inverse=True)[1]
    return Waveforms(samples, torch.from_numpy(classes.astype(np.int64)), settings.sample_rate)


class Objective(nn.Module):
    """The network with its two losses, which are added.

    The plain one has fixed centres. The self-supervised one has trained ones for nine times as many classes: each
    exchange, StatEx and FeatEx, makes three of each.

    Args:
        network: to be trained.
        classes: how many.
    """

    def __init__(self, network: TwoBranch, classes: int) -> None:
        super().__init__()
        self.network, self.classes = network, classes
        self.plain = SubclusterAdaCos(classes, network.size, trainable=False)
        self.self_supervised = SubclusterAdaCos(9 * classes, network.size, trainable=True)
        self.decayed = [
            module.weight for name, module in network.named_modules()
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear) and ".gate." not in name
        ]  # fmt: skip

    def forward(self, waveforms: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
        """The loss, a scalar, of waveforms (n, samples) of these classes (n,). ``generator``: on the CPU."""
        shares = functional.one_hot(classes, self.classes).to(waveforms.dtype)
        waveforms, shares = mixed(waveforms, shares, generator)
        statistics, features = (drawn(len(classes), generator).to(waveforms.device) for _ in range(2))
        spectrum, spectrograms = self.network.branches(waveforms, statistics)
        plain = self.plain(torch.cat([spectrum, spectrograms], dim=1), shares)
        spectrograms = exchanged_features(spectrograms, features)
        shares = exchanged_classes(exchanged_classes(shares, statistics), features)
        other: Tensor = self.self_supervised(torch.cat([spectrum, spectrograms], dim=1), shares)
        decay = torch.stack([weight.square().sum() for weight in self.decayed]).sum()
        loss: Tensor = plain + other + WEIGHT_DECAY * decay
        return loss


def train_two_branch(
    data: Waveforms,
    windows: Sequence[int],
    settings: TwoBranchSettings,
    device: torch.device,
    checkpoints: Path,
    fingerprint: str,
    on_warning: Callable[[str], None],
) -> tuple[TwoBranch, list[dict[str, float]]]:
    """Train the network; resume from a checkpoint of a training that was stopped.

    The running means of the batch normalisations are computed anew after the training, from the recordings as they
    are: those of the training have seen few batches where recordings are few.

    Args:
        data: of all machines.
        windows: see `TwoBranch`.
        settings: see `TwoBranchSettings`.
        device: where it is trained.
        checkpoints: folder for a checkpoint after each epoch.
        fingerprint: of the inputs, so that no other training is resumed.
        on_warning: called with a message for each checkpoint that cannot be used.

    Returns:
        The network, on the CPU, and epoch and loss of each epoch.

    Raises:
        AsdError: fewer than two recordings; they are too short; the loss is not finite.
    """
    if len(data.samples) < 2:
        raise AsdError(f"{len(data.samples)} training recording: the two-branch network needs at least 2")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        objective = Objective(TwoBranch(data.length, windows), int(data.classes.max()) + 1)
    objective.to(device)
    trained = [weight for weight in objective.parameters() if weight.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=settings.learning_rate, eps=1e-7)
    store = Checkpoints(checkpoints, fingerprint, on_warning)
    history: list[dict[str, float]] = []
    if content := store.load(device):
        objective.load_state_dict(content["objective"])
        optimiser.load_state_dict(content["optimiser"])
        history = content["history"]
    for epoch in progress(range(len(history), settings.epochs), "two-branch network"):
        # Of its own for each epoch: a resumed training draws what it would have drawn.
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
        objective.train()
        losses = []
        for chosen in _batches(len(data.samples), settings.batch_size, generator):
            loss = objective(_waveforms(data, chosen, device), data.classes[chosen].to(device), generator)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        mean = float(torch.stack(losses).mean())
        if not np.isfinite(mean):
            raise AsdError(
                f"the loss of the two-branch network is not finite in epoch {epoch + 1}: "
                f"choose a smaller two_branch.learning_rate than {settings.learning_rate:g}"
            )
        history.append({"epoch": float(epoch + 1), "loss": mean})
        state: dict[str, Any] = {"objective": objective.state_dict(), "optimiser": optimiser.state_dict()}
        store.save(state | {"history": history}, epoch + 1)
    order = torch.arange(len(data.samples))
    update_bn((_waveforms(data, part, device) for part in _parts(order, settings.batch_size)), objective.network)
    return objective.network.eval().cpu(), history


def _batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Numbers of the recordings of each batch, shuffled."""
    return _parts(torch.randperm(n, generator=generator), size)


def _parts(order: Tensor, size: int) -> Iterator[Tensor]:
    """Parts of this size; a last one of a single recording is left out, since it has no variance."""
    return (part for part in torch.split(order, size) if len(part) > 1)


def _waveforms(data: Waveforms, chosen: Tensor, device: torch.device) -> Tensor:
    return torch.stack([fitted(data.samples[index], data.length) for index in chosen.tolist()]).to(device)
