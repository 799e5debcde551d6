"""Training (paper 2.1 and 2.3) for any objective, a checkpoint after every epoch, and going on from one."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from asdcore.errors import AsdError
from asdcore.features.normalisation import Normalisation
from asdcore.features.spectrogram import Spectrogram
from asdcore.features.store import Store
from asdcore.features.views import batches
from asdcore.home import digest_of, whole_file
from asdcore.progress import progress
from asdcore.representation.collapse import alignment, chance, effective_rank, spread, uniformity
from asdcore.representation.encoder import Encoder, TrainedEncoder, choose_device
from asdcore.representation.labels import Labelling
from asdcore.representation.objectives import Objective, objective_of
from asdcore.settings import TrainingSettings

ENOUGH_FOR_RANK = 2048
"""Embeddings of an epoch that the effective rank is computed from, at most."""

OnEpoch = Callable[[dict[str, float]], None]


@dataclass
class _Progress:
    """What a checkpoint holds."""

    made_of: str
    """Digest of settings and recordings: a checkpoint of another training must not be gone on from."""
    encoder: Encoder
    objective: Objective
    optimiser: torch.optim.Optimizer
    history: list[dict[str, float]]


def train(
    store: Store,
    recordings: pd.DataFrame,
    settings: TrainingSettings,
    checkpoint: Path,
    on_epoch: OnEpoch = lambda _: None,
) -> TrainedEncoder:
    """Train an encoder on the spectrograms of normal training recordings of all machines together.

    Args:
        store: has an ``original`` and the six variants of each recording.
        recordings: columns ``recording`` (digest), ``machine`` and ``attributes`` (JSON text), as in the catalog; their
            order does not matter.
        settings: see `TrainingSettings`.
        checkpoint: read if it is there, written after every epoch. A killed training that is called again ends with the
            weights that it would have had, bit for bit on the same CPU and number of threads.
        on_epoch: gets the figures of each epoch that is trained now.

    Raises:
        AsdError: fewer than two recordings, a spectrogram, loss or gradient that is not finite, or a checkpoint that is
            damaged or of another training.
    """
    labelling = Labelling(recordings)
    digests = sorted(labelling.of)
    if len(digests) < 2:
        raise AsdError(f"{len(digests)} training recordings: training needs at least 2, and wants hundreds")
    device = choose_device(settings.device)
    normalisation = Normalisation.fit(_finite_originals(store, digests))
    state = _start(settings, labelling, device)
    _load_checkpoint(state, checkpoint, device)
    batch_size = min(settings.batch_size, len(digests))
    steps = len(digests) // batch_size
    for epoch in range(len(state.history), settings.epochs):
        epoch_batches = batches(
            store,
            digests,
            normalisation,
            batch_size=batch_size,
            crop_frames=settings.crop_frames,
            seed=settings.seed,
            epoch=epoch,
        )
        figures = _Figures()
        state.encoder.train()
        state.objective.train()
        for step, batch in enumerate(progress(epoch_batches, f"epoch {epoch + 1} of {settings.epochs}", total=steps)):
            rate = learning_rate(epoch * steps + step, steps, settings)
            for group in state.optimiser.param_groups:
                group["lr"] = rate
            views = torch.from_numpy(batch.original), torch.from_numpy(batch.variant)
            x = torch.cat(views).to(device, memory_format=torch.channels_last)
            labels = labelling.labels(batch.recordings, batch.variants).to(device)
            h, z = state.encoder(x)
            loss = state.objective(h, z, labels)
            state.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            weights = state.optimiser.param_groups[0]["params"]
            norm = torch.nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])
            if not (torch.isfinite(loss) and torch.isfinite(norm)):
                raise AsdError(
                    f"epoch {epoch + 1}, step {step + 1}: loss {loss.item():g}, gradient norm {norm.item():g}. "
                    f"The last good checkpoint is kept; lower training.learning_rate (now {settings.learning_rate:g}). "
                    f"Recordings of the batch: {', '.join(batch.recordings)}"
                )
            state.optimiser.step()
            figures.add(loss, chance(state.objective, h, z, labels), norm, h, z)
        state.history.append({"epoch": float(epoch + 1), "learning_rate": rate} | figures.summary())
        _save_checkpoint(state, checkpoint)
        on_epoch(state.history[-1])
    return TrainedEncoder(state.encoder.cpu().eval(), normalisation, state.history)


def learning_rate(step: int, steps_per_epoch: int, settings: TrainingSettings) -> float:
    """Cosine annealing with warm restarts (Loshchilov and Hutter 2016), from the initial rate to a thousandth of it.

    Each of the ``cycles`` ends at the lowest rate exactly, the last step of training included.
    """
    length = settings.epochs // settings.cycles * steps_per_epoch
    within = step % length / max(length - 1, 1)
    lowest = settings.learning_rate / 1000
    return lowest + (settings.learning_rate - lowest) * (1 + math.cos(math.pi * within)) / 2


class _Figures:
    """The figures of one epoch, gathered step by step."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.h: list[torch.Tensor] = []
        self.z: list[torch.Tensor] = []

    def add(self, loss: torch.Tensor, chance: float, norm: torch.Tensor, h: torch.Tensor, z: torch.Tensor) -> None:
        n = len(h) // 2
        h, z = h.detach().cpu(), z.detach().cpu()  # The figures need float64 and pdist, which mps has not.
        self.rows.append(
            {
                "loss": float(loss.detach()),
                "chance": chance,
                "gradient_norm": float(norm),
                "alignment": alignment(z[:n], z[n:]),
                "uniformity": uniformity(z),
            }
        )
        if len(self.h) * n < ENOUGH_FOR_RANK:
            self.h.append(h[:n])
            self.z.append(z[:n])

    def summary(self) -> dict[str, float]:
        figures = {name: float(np.mean([row[name] for row in self.rows])) for name in self.rows[0]}
        for layer, embeddings in (("h", torch.cat(self.h)), ("z", torch.cat(self.z))):
            figures[f"effective_rank_{layer}"] = effective_rank(embeddings)
            figures[f"spread_{layer}"] = spread(embeddings)
        return figures


def _finite_originals(store: Store, recordings: Sequence[str]) -> Iterator[Spectrogram]:
    """One value that is not finite would spoil the normalisation of all recordings, and none of them could be named."""
    for recording in recordings:
        values = store.read(recording, "original")
        if not np.isfinite(values).all():
            raise AsdError(f"the spectrogram of recording {recording} holds NaN or infinity; make the features anew")
        yield values


def _start(settings: TrainingSettings, labelling: Labelling, device: torch.device) -> _Progress:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        encoder = Encoder(settings.encoder, settings.z_size)
        objective = objective_of(settings, len(labelling.conditions), encoder.h_size)
    encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective.to(device)
    weights = [*encoder.parameters(), *objective.parameters()]
    optimiser = torch.optim.Adam(weights, lr=settings.learning_rate)
    rows = [" ".join((recording, *condition)) for recording, condition in sorted(labelling.of.items())]
    return _Progress(digest_of(settings.digest(), *rows), encoder, objective, optimiser, [])


def _save_checkpoint(state: _Progress, path: Path) -> None:
    content = {
        "made_of": state.made_of,
        "encoder": state.encoder.state_dict(),
        "objective": state.objective.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "history": state.history,
    }
    with whole_file(path) as temporary:
        torch.save(content, temporary)


def _load_checkpoint(state: _Progress, path: Path, device: torch.device) -> None:
    """Go on from ``path`` if it is there. ``weights_only``: torch then reads tensors and numbers, no other pickle."""
    if not path.exists():
        return
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        same = content["made_of"] == state.made_of
        if same:
            state.encoder.load_state_dict(content["encoder"])
            state.objective.load_state_dict(content["objective"])
            state.optimiser.load_state_dict(content["optimiser"])
            state.history = content["history"]
    # torch lets through whatever it stumbles over in a damaged file, with the advice to allow pickles.
    except Exception as error:
        raise AsdError(f"{path}: damaged ({type(error).__name__}). Delete it to train from the start") from error
    if not same:
        raise AsdError(f"{path}: of a training with other recordings or settings. Delete it to train from the start")
