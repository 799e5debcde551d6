"""Augmentations of the discriminative loss that were tried but are not part of the project."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from asdcore.encoder import training
from asdcore.encoder.labels import Labels
from asdcore.encoder.step import backward

TRIALS = ("masked", "mixup", "exchanged")
SHARE = 0.5
"""of the batches that are augmented"""


@contextmanager
def augmented(trial: str, seed: int) -> Iterator[None]:
    """Trainings within see augmented views.

    Args:
        trial: ``masked``: up to a fifth of the frames and an eighth of the bands are silenced (SpecAugment, Park et al.
            2019); ``mixup``: two views are mixed, and their losses as well (Zhang et al. 2018); ``exchanged``: a view
            gets mean and deviation over time, band by band, of another one, and half of its loss (statistics exchange,
            Chen et al. 2023).
        seed: of the random draws.
    """
    drawn = torch.Generator().manual_seed(seed)

    def augmented_backward(
        model: Any, loss_name: Any, x: Tensor, labels: Labels, **rest: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        if torch.rand((), generator=drawn) > SHARE:
            return backward(model, loss_name, x, labels, **rest)
        if trial == "masked":
            return backward(model, loss_name, _masked(x, drawn), labels, **rest)
        other = torch.randperm(len(x), generator=drawn)
        share = float(torch.rand((), generator=drawn)) if trial == "mixup" else 0.5
        views = share * x + (1 - share) * x[other] if trial == "mixup" else _exchanged(x, x[other])
        return backward(model, _Both(loss_name, other, share), views, labels, **rest)

    training.backward = augmented_backward
    try:
        yield
    finally:
        training.backward = backward


class _Both:
    """The losses of the labels of both views that were mixed."""

    def __init__(self, loss_name: Any, other: Tensor, share: float) -> None:
        self.loss_function, self.other, self.share = loss_name, other, share

    def __call__(self, h: Tensor, z: Tensor, labels: Labels) -> Tensor:
        others = Labels(*(getattr(labels, name)[self.other] for name in ("machine", "condition", "shift")))
        loss: Tensor = self.share * self.loss_function(h, z, labels)
        self.loss_function.eval()  # Its scale adapts once per step.
        loss = loss + (1 - self.share) * self.loss_function(h, z, others)
        self.loss_function.train()
        return loss

    def parameters(self) -> Any:
        return self.loss_function.parameters()


def _masked(x: Tensor, drawn: torch.Generator) -> Tensor:
    views = x.clone()
    for view in views:
        for axis, most in ((2, 5), (1, 8)):
            size = view.shape[axis]
            width = int(torch.randint(size // most + 1, (), generator=drawn))
            first = int(torch.randint(size - width + 1, (), generator=drawn))
            view.narrow(axis, first, width).zero_()  # the mean: views are normalised
    return views


def _exchanged(x: Tensor, other: Tensor) -> Tensor:
    def statistics(views: Tensor) -> tuple[Tensor, Tensor]:
        return views.mean(dim=3, keepdim=True), views.std(dim=3, keepdim=True) + 1e-6

    (mean, deviation), (new_mean, new_deviation) = statistics(x), statistics(other)
    return (x - mean) / deviation * new_deviation + new_mean
