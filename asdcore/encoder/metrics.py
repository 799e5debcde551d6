"""Metrics of a training: recorded per step without stalling the device, and checks for collapsed embeddings."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from asdcore.encoder.labels import Labels
from asdcore.encoder.losses import Loss
from asdcore.errors import AsdError
from asdcore.settings import TrainingSettings

LEAST_RANK = 1.5
"""Effective rank below which embeddings are nearly collinear; for a few machines it is normally 3 or more."""

LEAST_SPREAD = 0.01
"""An untrained encoder has about 0.3."""

AT_CHANCE, AT_FLOOR = 0.99, 0.001
"""Fractions of the loss at chance."""


def effective_rank(embeddings: Tensor) -> float:
    """exp of the entropy of the singular values of the centred (n, size) (Roy and Vetterli 2007): 1 if
    collapsed to a line, 0 if collapsed to a point, at most min(n - 1, size).
    """
    exact = embeddings.double()
    singular = torch.linalg.svdvals(exact - exact.mean(dim=0))
    if not singular[0] > torch.finfo(torch.float32).eps * exact.norm():
        return 0.0  # Only rounding errors are left.
    normalised = singular / singular.sum()
    return float(torch.special.entr(normalised).sum().exp())


def spread(embeddings: Tensor) -> float:
    """Distance of (n, size) from their mean over their length, both as root mean squares: 0 if they are all
    equal, 1 if their mean is 0.
    """
    exact = embeddings.double()
    return float((exact - exact.mean(dim=0)).norm() / exact.norm().clamp(min=torch.finfo(torch.float64).tiny))


def alignment(z_original: Tensor, z_variant: Tensor) -> float:
    """Mean squared distance of partners on the unit sphere (Wang and Isola 2020): 0 is perfect, 4 the worst."""
    difference = functional.normalize(z_original, dim=1) - functional.normalize(z_variant, dim=1)
    return float(difference.square().sum(dim=1).mean())


def uniformity(z: Tensor) -> float:
    """Log of the mean Gaussian potential of all pairs on the unit sphere (Wang and Isola 2020): lower: more spread."""
    distances = functional.pdist(functional.normalize(z, dim=1))
    return float(distances.square().mul(-2).exp().mean().log())


def chance(loss_function: nn.Module, h: Tensor, z: Tensor, labels: Labels) -> float:
    """The loss if the embedding of every view were the mean: the minimum for indistinguishable views."""
    training = loss_function.training
    loss_function.eval()  # The loss's own state must not adapt to it.
    with torch.no_grad():
        loss = float(loss_function(h.mean(dim=0).expand_as(h), z.mean(dim=0).expand_as(z), labels))
    loss_function.train(training)
    return loss


def collapse(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Problems in the last epoch of a training, as sentences; empty if there are none.

    Args:
        history: of a training. Metrics that it did not record are skipped.
    """
    if not history:
        return []
    last, problems = history[-1], []
    for layer in ("h", "z"):
        rank, width = last.get(f"effective_rank_{layer}", inf), last.get(f"spread_{layer}", inf)
        if width < LEAST_SPREAD:
            problems.append(
                f"{layer} has collapsed: all recordings have nearly the same embedding (spread {width:.2g})."
            )
        elif rank < LEAST_RANK:
            problems.append(f"{layer} has collapsed: the embeddings are nearly collinear (rank {rank:.1f}).")
    loss, chance = last["loss"], last.get("chance")
    if chance is not None and loss >= AT_CHANCE * chance:
        problems.append(
            f"The training learned nothing: its loss, {loss:.3g}, equals that of indistinguishable embeddings, "
            f"{chance:.3g}. Lower training.learning_rate or raise training.epochs."
        )
    elif chance is not None and loss <= AT_FLOOR * chance:
        problems.append(
            f"The training's task is too easy to teach more: its loss, {loss:.2g}, is at its floor. "
            "Lower training.epochs, or train on more machines together."
        )
    return problems


ENOUGH = 2048
"""Maximum number of recordings, the first of an epoch, that the metrics of embeddings are computed from."""

BEHIND = 1
"""Steps that an accelerator may be ahead of those whose loss has been read: reading it waits for the device."""


class EpochMetrics:
    """Loss and gradient norm of every step; how well the embeddings are spread, of the first `ENOUGH` recordings.

    Args:
        device: where the training is.
        settings: of the training.
        epoch: from 0.
    """

    def __init__(self, device: torch.device, settings: TrainingSettings, epoch: int) -> None:
        self.epoch, self.learning_rate = epoch, settings.learning_rate
        self.behind = 0 if device.type == "cpu" else BEHIND
        self.waiting: list[tuple[Tensor, list[str]]] = []
        self.steps: list[list[float]] = []
        """loss and gradient norm of each step"""
        self.spreads: list[list[float]] = []
        """chance, alignment and uniformity of each evaluated batch"""
        self.h: list[Tensor] = []
        self.z: list[Tensor] = []

    def add(
        self, loss: Tensor, norm: Tensor, h: Tensor, z: Tensor, labels: Labels, loss_function: Loss, batch: list[str]
    ) -> None:
        """Record a step.

        Args:
            loss: a scalar.
            norm: of the gradient, a scalar.
            h: (2n, h_size), the originals first.
            z: (2n, z_size).
            labels: of the 2n views.
            loss_function: what it was trained for.
            batch: the recordings.

        Raises:
            AsdError: a loss or gradient that is not finite, of this step or an earlier one.
        """
        self.waiting.append((torch.stack([loss.detach(), norm.detach()]), batch))
        n = len(h) // 2
        if len(self.h) * n < ENOUGH:
            h, z = h.detach(), z.detach()
            at_chance = chance(loss_function, h, z, labels)
            self.h.append(h[:n].cpu().clone())  # A copy: a view would keep, and save, both halves.
            z = z.cpu()  # mps has no pdist.
            self.z.append(z[:n].clone())
            self.spreads.append([at_chance, alignment(z[:n], z[n:]), uniformity(z)])
        self.settle(self.behind)

    def settle(self, behind: int = 0) -> None:
        """Read the values of all steps but the last ``behind``.

        Raises:
            AsdError: a loss or gradient is not finite.
        """
        while len(self.waiting) > behind:
            values, batch = self.waiting.pop(0)
            loss, norm = values.tolist()
            if not (np.isfinite(loss) and np.isfinite(norm)):
                raise AsdError(
                    f"epoch {self.epoch + 1}, step {len(self.steps) + 1}: loss {loss:g}, gradient norm {norm:g}. "
                    f"The last good checkpoint is kept; lower training.learning_rate (now {self.learning_rate:g}). "
                    f"Recordings of the batch: {', '.join(batch)}"
                )
            self.steps.append([loss, norm])

    @property
    def loss(self) -> float:
        """The loss of the last step that was read."""
        return self.steps[-1][0] if self.steps else np.nan

    def summary(self) -> dict[str, float]:
        """The metrics of the epoch, by name."""
        self.settle()
        names = ("loss", "gradient_norm", "chance", "alignment", "uniformity")
        means = [*np.mean(self.steps, axis=0), *np.mean(self.spreads, axis=0)]
        metrics = dict(zip(names, map(float, means), strict=True))
        for layer, embeddings in (("h", torch.cat(self.h)), ("z", torch.cat(self.z))):
            metrics[f"effective_rank_{layer}"] = effective_rank(embeddings)
            metrics[f"spread_{layer}"] = spread(embeddings)
        return metrics

    def state(self) -> dict[str, Any]:
        """The state to save in a checkpoint within an epoch."""
        self.settle()
        return {"steps": self.steps, "spreads": self.spreads, "h": self.h, "z": self.z}

    def restore(self, state: dict[str, Any]) -> None:
        self.steps, self.spreads = state["steps"], state["spreads"]
        self.h, self.z = [h.cpu() for h in state["h"]], [z.cpu() for z in state["z"]]
