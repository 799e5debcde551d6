"""The distance of each training recording from the model that would have been fitted without it, in closed form.

In-sample distances are too small: every recording has pulled mean and covariance towards itself. Leaving it out again
is a rank-one downdate of both, so all n distances cost about as much as one fit.
"""

import numpy as np
from numpy.typing import NDArray

from asdcore.normality.embeddings import Floats

_NO_ROOM = 1e-12
"""1 - leverage at or below which nothing of a direction is left without the recording"""


def domain_means(X: Floats, domain: NDArray[np.intp]) -> tuple[Floats, NDArray[np.intp]]:
    """Mean and count of the rows of each domain: (k, p), (k,). ``domain``: (n,), 0 to k-1, none of them empty."""
    counts = np.bincount(domain)
    return np.stack([X[domain == own].mean(axis=0) for own in range(len(counts))]), counts


def domain_weights(counts: NDArray[np.integer]) -> Floats:
    """What distances from the mean of each domain are multiplied with: (k,), 1 for a single domain.

    The mean of few recordings is itself uncertain: a new one of the same domain lies (1 + 1/count) times as far from
    it, squared, as from the true mean. Without this, the normal recordings of the smallest domain alarm most.

    >>> domain_weights(np.array([990, 10])).round(2).tolist()
    [1.0, 0.91]
    """
    weights: Floats = (1 + 1 / counts.sum()) / (1 + 1 / counts)
    return weights


def leave_one_out(X: Floats, shrinkage: float = 0.0, domain: NDArray[np.intp] | None = None) -> Floats:
    """Squared Mahalanobis distance of each row from mean and covariance of the other rows.

    Exact for the covariance scatter / n (one domain) or scatter / (n - k + 1) (k domains) shrunk towards a sphere by
    ``shrinkage``: the same as n refits with this intensity. The sphere's size is that of the refit.

    Args:
        X: (n, p), n at least 2.
        shrinkage: of the full fit, 0 to 1. It is kept: one recording in n hardly changes it.
        domain: (n,) 0 to k-1: the covariance is pooled within domains, and the distance is the smallest of those from
            the domains' means, times `domain_weights`. A domain of a single recording is gone without it.

    Returns:
        (n,); infinite where the recording alone spans a direction that the others leave empty.

    >>> values = np.array([[0.0], [2.0], [4.0], [9.0]])
    >>> float(leave_one_out(values)[3].round(6))          # mean 2, variance 8/3 without the last
    18.375
    """
    n, p = X.shape
    domain = np.zeros(n, dtype=np.intp) if domain is None else domain
    means, counts = domain_means(X, domain)
    within = X - means[domain]
    left, singular, axes = np.linalg.svd(within, full_matrices=False)
    seen = singular > singular[0] * np.sqrt(max(n, p) * np.finfo(np.float64).eps)
    own, variances, axes = left[:, seen] * singular[seen], np.square(singular[seen]), axes[seen]

    alone = counts[domain] == 1
    others = np.maximum(counts[domain] - 1, 1)
    grow = np.where(alone, 1.0, (others + 1) / others)
    """own mean without the row: the row lies so much farther from it"""
    freedom = n - len(counts) + alone
    trace = variances.sum() - grow * np.square(own).sum(axis=1)
    trace[trace <= _NO_ROOM * variances.sum()] = 0
    sphere = shrinkage * trace / (freedom * p)
    kept = (1 - shrinkage) / freedom
    spread = kept[:, None] * variances + sphere[:, None]

    with np.errstate(divide="ignore", invalid="ignore"):
        towards = own / spread
        room = 1 - kept * grow * (own * towards).sum(axis=1)
        room[room <= _NO_ROOM] = 0
        smallest = np.full(n, np.inf)
        for index, mean in enumerate(means):
            mine = domain == index
            away = X - mean
            inside = np.where(mine[:, None], grow[:, None] * own, away @ axes.T)
            squared = (np.square(inside) / spread).sum(axis=1)
            squared += kept * grow * np.square((inside * towards).sum(axis=1)) / room
            if shrinkage > 0:
                outside = np.square(away).sum(axis=1) - np.square(inside).sum(axis=1)
                squared += np.where(mine, 0, np.maximum(outside, 0) / sphere)
            counted = counts - (np.arange(len(counts)) == index)
            without = np.where(mine, _weight(n - 1, counted[index]), _weight(n - 1, counts[index]))
            squared = np.where(np.isnan(squared) | (mine & alone), np.inf, squared * without)
            smallest = np.minimum(smallest, squared)
    return smallest


def leave_one_out_pseudo_inverse(X: Floats) -> Floats:
    """`leave_one_out` of rows that do not span all directions, by the Moore-Penrose inverse of their covariance.

    The others are blind to what a row alone spans; their distance counts the rest (Meyer's formula for the
    pseudo-inverse of a downdated matrix).

    >>> leave_one_out_pseudo_inverse(np.array([[1.0, 0], [-1, 0], [0, 5]])).round(3).tolist()
    [0.716, 0.716, 0.0]
    """
    n, p = X.shape
    left, singular, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    seen = singular > singular[0] * np.sqrt(max(n, p) * np.finfo(np.float64).eps)
    left, singular = left[:, seen], singular[seen]
    leverage = n / (n - 1) * np.square(left).sum(axis=1)
    room = 1 - leverage
    alone = room <= 1e-9
    rest = n * leverage / np.where(alone, 1, room)
    solved = np.square(left / singular) * n / (n - 1)
    blind = n * np.maximum((solved / np.square(singular)).sum(axis=1) / solved.sum(axis=1) ** 2 - 1, 0)
    distances: Floats = np.where(alone, blind, rest)
    return distances


def _weight(n: int, count: int) -> float:
    return float((1 + 1 / n) / (1 + 1 / max(count, 1)))
