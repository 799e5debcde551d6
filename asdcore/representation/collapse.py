"""Figures that tell whether embeddings are any good, and what there is to say where they are not."""

from collections.abc import Mapping, Sequence
from math import inf

import torch
from torch import Tensor, nn
from torch.nn import functional

from asdcore.representation.labels import Labels

LEAST_RANK = 1.5
"""Effective rank below which embeddings lie on a line; sound ones of a few machines have 3 and more."""

LEAST_SPREAD = 0.01
"""An untrained encoder has about 0.3."""

AT_CHANCE, AT_FLOOR = 0.99, 0.001
"""Shares of the loss at chance."""


def effective_rank(embeddings: Tensor) -> float:
    """exp of the entropy of the singular values of the centred (n, size) (Roy and Vetterli 2007): 1 where it has
    collapsed onto a line, 0 where it has onto a point, at most min(n - 1, size).
    """
    exact = embeddings.double()
    singular = torch.linalg.svdvals(exact - exact.mean(dim=0))
    if not singular[0] > torch.finfo(torch.float32).eps * exact.norm():
        return 0.0  # What is left is rounding.
    share = singular / singular.sum()
    return float(torch.special.entr(share).sum().exp())


def spread(embeddings: Tensor) -> float:
    """Distance of (n, size) from their mean over their length, both as root mean squares: 0 where they are all the
    same, 1 where their mean is 0.
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


def chance(objective: nn.Module, h: Tensor, z: Tensor, labels: Labels) -> float:
    """The loss if all views had their mean for embedding: views that can not be told apart have no lower one."""
    training = objective.training
    objective.eval()  # Nothing of the objective's own may adapt to it.
    with torch.no_grad():
        loss = float(objective(h.mean(dim=0).expand_as(h), z.mean(dim=0).expand_as(z), labels))
    objective.train(training)
    return loss


def collapse(history: Sequence[Mapping[str, float]]) -> list[str]:
    """What is wrong with the last epoch of a training, a sentence each; nothing where it is sound.

    Args:
        history: that of a `TrainedEncoder`. Figures that an older version did not keep are not judged.
    """
    if not history:
        return []
    last, said = history[-1], []
    for layer in ("h", "z"):
        rank, width = last.get(f"effective_rank_{layer}", inf), last.get(f"spread_{layer}", inf)
        if width < LEAST_SPREAD:
            said.append(f"{layer} has collapsed: all recordings have nearly the same embedding (spread {width:.2g}).")
        elif rank < LEAST_RANK:
            said.append(f"{layer} has collapsed: recordings differ along hardly more than a line (rank {rank:.1f}).")
    loss, chance = last["loss"], last.get("chance")
    if chance is not None and loss >= AT_CHANCE * chance:
        said.append(
            f"The training learned nothing: its loss, {loss:.3g}, is that of embeddings that can not be told apart, "
            f"{chance:.3g}. Lower training.learning_rate or raise training.epochs."
        )
    elif chance is not None and loss <= AT_FLOOR * chance:
        said.append(
            f"The training's task is too easy to teach more: its loss, {loss:.2g}, is at its floor. "
            "Lower training.epochs, or train on more machines together."
        )
    return said
