"""What goes into a normality model: embeddings that are checked, and how much of their space they span."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asdcore.errors import AsdError

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]


class BadEmbeddings(AsdError, ValueError):
    """Embeddings that can not be fitted or scored. Also a ValueError, as scikit-learn's tools expect."""


@dataclass(frozen=True)
class FitReport:
    """What a fit was made of, and whether to trust it."""

    asked: str
    used: str
    n: int
    """recordings"""
    p: int
    """values an embedding"""
    rank: int
    """of the centred embeddings; below p, some directions have not been seen at all"""
    condition: float
    """largest by smallest variance among the directions that have been seen; infinite if there is none"""
    note: str
    """why something else than asked was used; empty if it was not"""
    shrinkage: float = 0.0
    """share of the covariance that was replaced by a sphere, 0 to 1"""
    domains: int = 1
    """that were told apart"""

    @property
    def n_over_p(self) -> float:
        return self.n / self.p


def checked(embeddings: NDArray[np.floating]) -> Floats:
    """(n, p) as float64.

    Args:
        embeddings: (n, p) numbers, n from 0, p from 1.

    Raises:
        AsdError: another shape, or values that are not finite numbers.

    >>> checked(np.ones((2, 3), np.float32)).dtype
    dtype('float64')
    """
    if hasattr(embeddings, "tocsr"):
        raise BadEmbeddings("embeddings must be a dense array, got a sparse one")
    if np.iscomplexobj(embeddings):
        raise BadEmbeddings("embeddings must be real numbers. Complex data not supported")
    X: Floats = np.asarray(embeddings, dtype=np.float64, order="C")
    if X.ndim != 2:
        raise BadEmbeddings(f"embeddings must be (n, p), got the shape {X.shape}. Reshape your data")
    if X.shape[1] == 0:
        raise BadEmbeddings(f"embeddings of no value: 0 feature(s) (shape={X.shape}) while a minimum of 1 is required.")
    if not np.isfinite(X).all():
        count = np.count_nonzero(~np.isfinite(X).all(axis=1))
        raise BadEmbeddings(f"{count} of {len(X)} embeddings hold NaN or infinity")
    return X


def same_size(X: Floats, p: int) -> None:
    """Nothing, where the rows of (n, size) have the size ``p`` that a model was fitted on.

    Raises:
        AsdError: they have another.
    """
    if X.shape[1] != p:
        raise BadEmbeddings(f"embeddings of {X.shape[1]} values; this model was fitted on {p}")


def seen_variances(X: Floats) -> Floats:
    """The squared singular values of the centred (n, p) that are more than rounding, largest first: (rank,)."""
    variances: Floats = np.square(np.linalg.svd(X - X.mean(axis=0), compute_uv=False))
    seen: Floats = variances[variances > variances.max(initial=0.0) * max(X.shape) * np.finfo(np.float64).eps]
    return seen


def collapsed(X: Floats) -> bool:
    """Whether the rows of (n, p) differ by no more than the rounding of float32, which embeddings are made in."""
    spread = np.linalg.norm(X - X.mean(axis=0))
    return bool(spread <= np.finfo(np.float32).eps * np.linalg.norm(X))


def condition_of(variances: Floats) -> float:
    """Largest by smallest of `seen_variances`."""
    return float(variances[0] / variances[-1]) if len(variances) else float("inf")
