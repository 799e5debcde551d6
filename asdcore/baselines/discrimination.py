"""What the trainings on waveforms share: the recordings with their classes, and the loop over the epochs.

The task is to tell apart every machine, section, domain and combination of attributes. The two-branch network
(`asdcore.baselines.two_branch_training`) and adapters (`asdcore.baselines.adapter_training`) are trained for it.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asdcore.encoder.checkpoint import Checkpoints
from asdcore.encoder.frozen import sound_of
from asdcore.errors import AsdError
from asdcore.progress import bar, progress
from asdcore.settings import RecordingSettings, TrainingSettings, TwoBranchSettings

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
    recordings: pd.DataFrame,
    paths: Iterable[Path],
    settings: RecordingSettings,
    seconds: float | None = None,
    memory: int = MEMORY,
) -> Waveforms:
    """Decode the training clips.

    Args:
        recordings: one row per clip, with the columns ``recording`` and `CLASS`.
        paths: the file of each.
        settings: see `RecordingSettings`.
        seconds: longer clips are cut to this; None: none are cut.
        memory: bytes that they may take.

    Raises:
        AsdError: a file is gone or can no longer be used, or they take more memory.
    """
    longest = round(seconds * settings.sample_rate) if seconds else None
    places = progress(zip(recordings["recording"], paths, strict=True), "waveforms", total=len(recordings))
    samples: list[NDArray[np.float32]] = []
    left = memory
    for name, path in places:
        samples.append(sound_of(name, path, settings).samples[:longest].copy())
        left -= samples[-1].nbytes
        if left < 0:
            shorter = "lower two_branch.seconds" if seconds else "lower recordings.sample_rate"
            raise AsdError(
                f"the waveforms of the first {len(samples)} of {len(recordings)} training clips need more than the "
                f"{memory / 2**30:.3g} GiB of memory here: {shorter}, or use fewer machines"
            )
    rows = recordings[CLASS].fillna("").astype(str).agg("\n".join, axis=1)
    classes = np.unique(rows, return_inverse=True)[1]
    return Waveforms(samples, torch.from_numpy(classes.astype(np.int64)), settings.sample_rate)


class Objective(nn.Module):
    """What a training minimises. Its parameters are trained, unless they need no gradient; its state is saved."""

    name: str
    """what is trained, in messages"""
    rate_setting: str
    """the setting of the learning rate"""

    def backward(self, chosen: Tensor, generator: torch.Generator) -> Mapping[str, float]:
        """Add the gradient of a batch.

        Args:
            chosen: (n,) numbers of its recordings.
            generator: of all that is random, on the CPU.

        Returns:
            The metrics of the batch, of which one is ``loss``.
        """
        raise NotImplementedError


def minimise(
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    recordings: int,
    settings: TwoBranchSettings | TrainingSettings,
    learning_rate: Callable[[int, int], float],
    checkpoints: Checkpoints,
    on_epoch: Callable[[dict[str, float]], None] = lambda _: None,
) -> list[dict[str, float]]:
    """Train for all epochs; resume after the last epoch of a training that was stopped, to the same result.

    Args:
        objective: on the device where it is trained.
        optimiser: of its parameters.
        recordings: how many.
        settings: with ``epochs``, ``batch_size``, ``seed`` and ``learning_rate``.
        learning_rate: of a step, and how many steps an epoch has.
        checkpoints: one is written after each epoch.
        on_epoch: called with the metrics at the end of each epoch.

    Returns:
        The metrics of each epoch: ``epoch``, from 1, the means of those of its batches, and the last ``learning_rate``.

    Raises:
        AsdError: the loss is not finite.
    """
    history: list[dict[str, float]] = []
    device = next(objective.parameters()).device
    if content := checkpoints.load(device):
        objective.load_state_dict(content["objective"])
        optimiser.load_state_dict(content["optimiser"])
        history = content["history"]
    with bar() as shown:
        for epoch in range(len(history), settings.epochs):
            # Of its own for each epoch: a resumed training draws what it would have drawn.
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
            objective.train()
            batches = list(parts(torch.randperm(recordings, generator=generator), settings.batch_size))
            metrics: list[Mapping[str, float]] = []
            for number, chosen in enumerate(batches):
                step = epoch * len(batches) + number
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(step, len(batches))
                optimiser.zero_grad(set_to_none=True)
                metrics.append(objective.backward(chosen, generator))
                optimiser.step()
                text = f"{objective.name}  epoch {epoch + 1} of {settings.epochs}  loss {metrics[-1]['loss']:.3g}"
                shown(step + 1, settings.epochs * len(batches), text)
            means = {name: float(np.mean([batch[name] for batch in metrics])) for name in metrics[0]}
            if not np.isfinite(means["loss"]):
                raise AsdError(
                    f"the loss of the {objective.name} is not finite in epoch {epoch + 1}: "
                    f"choose a smaller {objective.rate_setting} than {settings.learning_rate:g}"
                )
            history.append({"epoch": float(epoch + 1), **means, "learning_rate": optimiser.param_groups[0]["lr"]})
            state = {"objective": objective.state_dict(), "optimiser": optimiser.state_dict(), "history": history}
            checkpoints.save(state, epoch + 1)
            on_epoch(history[-1])
    return history


def parts(order: Tensor, size: int) -> Iterator[Tensor]:
    """Parts of this size; a last one of a single recording is left out, since it has no variance."""
    return (part for part in torch.split(order, size) if len(part) > 1)
