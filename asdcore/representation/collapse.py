"""Figures that tell whether embeddings are any good, and what there is to say where they are not."""

import torch
from torch import Tensor
from torch.nn import functional


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
