"""What makes the classes of the two-branch network harder to tell apart: mixup and two exchanges between recordings.

All three pair each row of a batch with that of the reversed batch, and change about half of the rows. Each exchange
makes classes of its own: see `exchanged_classes`.
"""

import torch
from torch import Tensor

PROBABILITY = 0.5
"""that a recording is mixed, that it gets other statistics, and that its embeddings are exchanged"""
TINY = 1e-16
"""is added to a standard deviation that divides"""


def drawn(n: int, generator: torch.Generator) -> Tensor:
    """(n,) bool: which rows are changed. ``generator``: on the CPU."""
    return torch.rand(n, generator=generator) < PROBABILITY


def mixed(waveforms: Tensor, shares: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al. 2018) of some rows with those of the reversed batch, by a weight uniform in (0, 1)."""
    n = len(waveforms)
    weight = torch.rand(n, 1, generator=generator)
    weight[~drawn(n, generator)] = 1.0
    weight = weight.to(waveforms.device)
    return tuple(weight * x + (1 - weight) * x.flip(0) for x in (waveforms, shares))  # type: ignore[return-value]


def exchanged_statistics(spectra: Tensor, rows: Tensor) -> Tensor:
    """StatEx (Chen et al., ICASSP 2023): some rows get the mean and the deviation of those of the reversed batch.

    Of each frame, over its bands. The published code can exchange those of each band over time instead, but never
    does.

    Args:
        spectra: (n, bands, frames), magnitudes.
        rows: (n,) bool.

    >>> exchanged_statistics(torch.tensor([[[0.0], [2.0]], [[10.0], [16.0]]]), torch.tensor([True, False])).tolist()
    [[[10.0], [16.0]], [[10.0], [16.0]]]
    """
    deviation, mean = torch.std_mean(spectra, dim=1, correction=0, keepdim=True)
    other = (spectra - mean) / (deviation + TINY) * deviation.flip(0) + mean.flip(0)
    return torch.where(rows[:, None, None], other, spectra)


def exchanged_features(embeddings: Tensor, rows: Tensor) -> Tensor:
    """FeatEx (Wilkinghoff, ICASSP 2024): some rows, (n,) bool, of (n, size) become those of the reversed batch."""
    return torch.where(rows[:, None], embeddings.flip(0), embeddings)


def exchanged_classes(shares: Tensor, rows: Tensor) -> Tensor:
    """Three times as many classes: as it is; half of its own and half of the other's where something was exchanged.

    Args:
        shares: (n, classes): how much of each class a row is.
        rows: (n,) bool: where something was exchanged.

    Returns:
        (n, 3 * classes).

    >>> exchanged_classes(torch.eye(2), torch.tensor([True, False])).tolist()
    [[0.0, 0.0, 0.5, 0.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]]
    """
    nothing = torch.zeros_like(shares)
    kept = torch.cat([shares, nothing, nothing], dim=1)
    both = torch.cat([nothing, 0.5 * shares, 0.5 * shares.flip(0)], dim=1)
    return torch.where(rows[:, None], both, kept)
