"""The figures of one epoch of training, gathered step by step without making a device wait."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from asdcore.errors import AsdError
from asdcore.representation.collapse import alignment, chance, effective_rank, spread, uniformity
from asdcore.representation.labels import Labels
from asdcore.representation.objectives import Objective
from asdcore.settings import TrainingSettings

ENOUGH = 2048
"""Recordings of an epoch, the first ones, that the figures of embeddings are computed from, at most."""

BEHIND = 1
"""Steps that an accelerator may be ahead of those whose loss is looked at: to look is to wait for it."""


class Figures:
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
        """chance, alignment and uniformity of each batch that is looked at"""
        self.h: list[Tensor] = []
        self.z: list[Tensor] = []

    def add(
        self, loss: Tensor, norm: Tensor, h: Tensor, z: Tensor, labels: Labels, objective: Objective, batch: list[str]
    ) -> None:
        """Take note of a step.

        Args:
            loss: a scalar.
            norm: of the gradient, a scalar.
            h: (2n, h_size), the originals first.
            z: (2n, z_size).
            labels: of the 2n views.
            objective: what it was trained for.
            batch: the recordings.

        Raises:
            AsdError: a loss or gradient that is not finite, of this step or of one before it.
        """
        self.waiting.append((torch.stack([loss.detach(), norm.detach()]), batch))
        n = len(h) // 2
        if len(self.h) * n < ENOUGH:
            h, z = h.detach(), z.detach()
            at_chance = chance(objective, h, z, labels)
            self.h.append(h[:n].cpu().clone())  # No view: it would keep, and save, both halves.
            z = z.cpu()  # mps has no pdist.
            self.z.append(z[:n].clone())
            self.spreads.append([at_chance, alignment(z[:n], z[n:]), uniformity(z)])
        self.settle(self.behind)

    def settle(self, behind: int = 0) -> None:
        """Look at all steps but the last ``behind``.

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
        """Of the last step that was looked at."""
        return self.steps[-1][0] if self.steps else np.nan

    def summary(self) -> dict[str, float]:
        """The figures of the epoch, by name."""
        self.settle()
        names = ("loss", "gradient_norm", "chance", "alignment", "uniformity")
        means = [*np.mean(self.steps, axis=0), *np.mean(self.spreads, axis=0)]
        figures = dict(zip(names, map(float, means), strict=True))
        for layer, embeddings in (("h", torch.cat(self.h)), ("z", torch.cat(self.z))):
            figures[f"effective_rank_{layer}"] = effective_rank(embeddings)
            figures[f"spread_{layer}"] = spread(embeddings)
        return figures

    def state(self) -> dict[str, Any]:
        """What a checkpoint in the middle of an epoch keeps."""
        self.settle()
        return {"steps": self.steps, "spreads": self.spreads, "h": self.h, "z": self.z}

    def restore(self, state: dict[str, Any]) -> None:
        self.steps, self.spreads = state["steps"], state["spreads"]
        self.h, self.z = [h.cpu() for h in state["h"]], [z.cpu() for z in state["z"]]
