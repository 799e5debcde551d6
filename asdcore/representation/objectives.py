"""What an encoder is trained for, and what tells whether its embeddings are any good."""

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(z_original: Tensor, z_variant: Tensor, temperature: float) -> Tensor:
    """The normalised temperature-scaled cross entropy (paper, equation 1; Chen et al. 2020).

    Args:
        z_original: (n, z_size), one row a recording.
        z_variant: (n, z_size), the same recordings in the same order.
        temperature: tau. The similarity of the normalised embeddings is divided by it; the paper's equation prints it
            inside the normalisation, where it would cancel.

    Returns:
        The mean over all 2n views of minus the log share of the partner among the other 2n - 1 views. A scalar.
    """
    n = len(z_original)
    z = functional.normalize(torch.cat([z_original, z_variant]), dim=1)
    similarity = z @ z.T / temperature
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=z.device), -torch.inf)
    partner = torch.arange(2 * n, device=z.device).roll(n)
    return functional.cross_entropy(similarity, partner)


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


def alignment(z_original: Tensor, z_variant: Tensor) -> float:
    """Mean squared distance of partners on the unit sphere (Wang and Isola 2020): 0 is perfect, 4 the worst."""
    difference = functional.normalize(z_original, dim=1) - functional.normalize(z_variant, dim=1)
    return float(difference.square().sum(dim=1).mean())


def uniformity(z: Tensor) -> float:
    """Log of the mean Gaussian potential of all pairs on the unit sphere (Wang and Isola 2020): lower: more spread."""
    distances = functional.pdist(functional.normalize(z, dim=1))
    return float(distances.square().mul(-2).exp().mean().log())
