"""The distance of each training recording from the model that would have been fitted without it, in closed form.

In-sample distances are too small: every recording has pulled mean and covariance towards itself. Leaving it out again
is a rank-one downdate of both, so all n distances cost about as much as one fit. Recordings of one session resemble
each other, so that one of them is no stranger to a model of the others: a session is left out as a whole, which is a
downdate of the rank of its size.
"""

import numpy as np
from numpy.typing import NDArray

from asdcore.arrays import Floats

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


def leave_group_out(
    X: Floats, group: NDArray[np.intp], shrinkage: float = 0.0, domain: NDArray[np.intp] | None = None
) -> Floats:
    """Squared Mahalanobis distance of each row from mean and covariance of the rows of the other groups.

    `leave_one_out` where every group is a single row; else exact in the same sense, by the Woodbury identity for the
    downdated covariance (Hager 1989), or by a refit of the other rows where a group has more rows than the vectors
    have directions.

    Args:
        X: (n, p).
        group: (n,) 0 to g-1, g at least 2.
        shrinkage: as in `leave_one_out`.
        domain: (n,) 0 to k-1, as in `leave_one_out`. A domain of a single group is gone without it.

    Returns:
        (n,); infinite where the group alone spans a direction that the others leave empty.

    >>> values = np.array([[0.0], [2.0], [4.0], [9.0], [9.0]])
    >>> leave_group_out(values, np.array([0, 1, 2, 3, 3]))[3:].round(6).tolist()
    [18.375, 18.375]
    """
    domain = np.zeros(len(X), dtype=np.intp) if domain is None else domain
    sizes = np.bincount(group)
    distances = leave_one_out(X, shrinkage, domain) if (sizes == 1).any() else np.full(len(X), np.inf)
    if (sizes == 1).all():
        return distances
    scatter = _Scatter(X, domain, shrinkage)
    for index in np.flatnonzero(sizes > 1):
        out = group == index
        # The downdate is of the rank of the group: beyond half of the directions a refit is as cheap.
        downdated = 2 * sizes[index] <= len(scatter.variances)
        distances[out] = scatter.without(out) if downdated else _Scatter(X[~out], domain[~out], shrinkage).of(X[out])
    return distances


class _Scatter:
    """The scatter of rows within their domains, in its own axes.

    Args:
        X: (n, p).
        domain: (n,) names of any kind.
        shrinkage: 0 to 1.
    """

    def __init__(self, X: Floats, domain: NDArray[np.intp], shrinkage: float) -> None:
        self.domain = np.unique(domain, return_inverse=True)[1]
        self.X, self.shrinkage = X, shrinkage
        self.means, self.counts = domain_means(X, self.domain.astype(np.intp))
        self.within = X - self.means[self.domain]
        _, singular, axes = np.linalg.svd(self.within, full_matrices=False)
        seen = singular > singular[0] * np.sqrt(max(X.shape) * np.finfo(np.float64).eps)
        self.variances, self.axes = np.square(singular[seen]), axes[seen]

    def of(self, rows: Floats) -> Floats:
        """Squared distance of other rows, (m, p): (m,)."""
        freedom = len(self.X) - len(self.means) + 1
        sphere = self.shrinkage * self.variances.sum() / (freedom * self.X.shape[1])
        spread = (1 - self.shrinkage) / freedom * self.variances + sphere
        return self._nearest(rows, self.means, self.counts, spread, sphere, np.zeros((0, len(spread))), 0.0)

    def without(self, out: NDArray[np.bool_]) -> Floats:
        """Squared distance of the rows ``out``, (n,) with m of them, from what the others would give: (m,)."""
        rows, domain = self.X[out], self.domain[out]
        left = self.counts - np.bincount(domain, minlength=len(self.counts))
        kept = left > 0
        removed = self.within[out] @ self.axes.T
        totals = np.stack([self.within[out][domain == index].sum(axis=0) for index in np.flatnonzero(kept)])
        means = self.means[kept] - totals / left[kept, None]
        # The scatter loses the rows' squares, and what the means move by.
        removed = np.vstack([removed, totals @ self.axes.T / np.sqrt(left[kept, None])])
        freedom = left.sum() - kept.sum() + 1
        trace = self.variances.sum() - np.square(removed).sum()
        trace = 0.0 if trace <= _NO_ROOM * self.variances.sum() else trace
        sphere = self.shrinkage * trace / (freedom * self.X.shape[1])
        share = (1 - self.shrinkage) / freedom
        return self._nearest(rows, means, left[kept], share * self.variances + sphere, sphere, removed, share)

    def _nearest(
        self,
        rows: Floats,
        means: Floats,
        counts: NDArray[np.integer],
        spread: Floats,
        sphere: float,
        removed: Floats,
        share: float,
    ) -> Floats:
        """Smallest weighted distance from any of the means, by the covariance diag(``spread``) in the axes, less
        ``share`` times the scatter of ``removed`` (r, rank), and ``sphere`` outside of them.
        """
        room, vectors = np.linalg.eigh(np.eye(len(removed)) - share * (removed / spread) @ removed.T)
        room[room <= _NO_ROOM] = 0
        smallest = np.full(len(rows), np.inf)
        for mean, weight in zip(means, domain_weights(counts), strict=True):
            away = rows - mean
            inside = away @ self.axes.T
            squared = (np.square(inside) / spread).sum(axis=1)
            towards = share * np.square((inside / spread) @ removed.T @ vectors)
            # What is only rounding must not become infinite where there is no room left.
            towards[towards <= _NO_ROOM * squared[:, None]] = 0
            with np.errstate(divide="ignore", invalid="ignore"):
                squared = squared + np.where(towards > 0, towards / room, 0).sum(axis=1)
            outside = np.square(away).sum(axis=1) - np.square(inside).sum(axis=1)
            outside[outside <= _NO_ROOM * np.square(away).sum(axis=1)] = 0
            with np.errstate(divide="ignore", invalid="ignore"):
                squared = squared + np.where(outside > 0, outside / sphere, 0)
            smallest = np.minimum(smallest, weight * squared)
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
