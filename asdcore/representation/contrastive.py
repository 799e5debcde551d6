"""Objectives that compare the views of a batch with each other: NT-Xent, and its supervised form."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from asdcore.representation.labels import Labels


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
    partner = torch.arange(2 * n, device=z_original.device).roll(n)
    return functional.cross_entropy(_similarity(torch.cat([z_original, z_variant]), temperature), partner)


def supervised_contrastive(z: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss L_out (Khosla et al. 2020, equation 2).

    Args:
        z: (n, z_size), one row a view.
        classes: (n,) int64. The positives of a view are the other views of its class.
        temperature: tau, as of `nt_xent`.

    Returns:
        The mean over all views that have positives; 0 where none has. A scalar.
    """
    similarity = _similarity(z, temperature)
    log_share = similarity.log_softmax(dim=1)
    positive = (classes[:, None] == classes) & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    count = positive.sum(dim=1)
    # A where, not a product: the share of a view in itself is 0, and its log times False would be NaN.
    loss = -torch.where(positive, log_share, 0.0).sum(dim=1) / count.clamp(min=1)
    return loss.sum() / (count > 0).sum().clamp(min=1)


def _similarity(z: Tensor, temperature: float) -> Tensor:
    """Cosines of all pairs of views over tau; of a view with itself: -inf."""
    unit = functional.normalize(z, dim=1)
    similarity = unit @ unit.T / temperature
    return similarity.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)


class NTXent(nn.Module):
    """`nt_xent` of z: the original and the variant of a recording are partners, all other views are not."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, h: Tensor, z: Tensor, labels: Labels) -> Tensor:
        n = len(z) // 2
        return nt_xent(z[:n], z[n:], self.temperature)


class SupervisedContrastive(nn.Module):
    """`supervised_contrastive` of z: views of the same machine with the same shift are positives."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, h: Tensor, z: Tensor, labels: Labels) -> Tensor:
        return supervised_contrastive(z, 3 * labels.machine + labels.shift, self.temperature)
