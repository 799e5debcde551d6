"""The nearest normal recordings as normality models: no covariance, few recordings are enough."""

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from asdcore.arrays import Floats, Indices
from asdcore.normality.base import BadEmbeddings, NormalityModel, checked

DEVIATION_FLOOR = 0.1
"""Fraction of the median standard deviation that a value's own is raised to: one that hardly varied in training would
otherwise outweigh all others."""
_ROWS_AT_ONCE = 256


class NearestNeighbours(NormalityModel):
    """Mean squared Euclidean distance to the nearest normal vectors.

    Args:
        neighbours: the distances to so many of the nearest are averaged.

    Attributes:
        normal_: (n, p) the normal vectors.

    >>> NearestNeighbours().fit(np.eye(3, 2)).distance(np.array([[3.0, 4.0]])).round(6).tolist()
    [18.0]
    >>> NearestNeighbours().fit(np.array([[0.0], [1.0], [4.0]])).left_out_.tolist()
    [1.0, 1.0, 9.0]
    """

    name: ClassVar[str] = "knn"

    normal_: Floats

    def __init__(self, neighbours: int = 1) -> None:
        self.neighbours = neighbours

    def _fit(self, X: Floats, domain: Indices) -> None:
        if self.neighbours < 1:
            raise BadEmbeddings(f"neighbours is {self.neighbours}: at least 1 is needed")
        if len(X) < self.neighbours:
            raise BadEmbeddings(
                f"{len(X)} recordings: too few for the {self.neighbours} nearest neighbours: a minimum of "
                f"{self.neighbours} is required"
            )
        self.normal_ = X

    def distances_to_training(self, X: NDArray[np.floating]) -> Floats:
        """(m, n): the squared distance of each row of (m, p) from each training row, in their order.

        >>> NearestNeighbours().fit(np.array([[0.0], [1.0], [4.0]])).distances_to_training(np.array([[3.0]])).tolist()
        [[9.0, 4.0, 1.0]]
        """
        check_is_fitted(self)
        return np.stack([np.square(self.normal_ - row).sum(axis=1) for row in self._scaled(checked(X))])

    def _scaled(self, X: Floats) -> Floats:
        """Vectors as ``normal_`` holds them."""
        return X

    def _distance(self, X: Floats) -> Floats:
        return _mean_squared(self._scaled(X), self.normal_, self.neighbours)

    def _left_out(self, X: Floats, domain: Indices, group: Indices) -> Floats | None:
        """No row of its own group is a neighbour; where that leaves fewer than are asked for, those that there are."""
        normal = self.normal_
        if self.report_.largest_group == 1:
            search = NearestNeighbors(n_neighbors=min(self.neighbours, len(X) - 1), algorithm="kd_tree").fit(normal)
            squared: Floats = np.square(search.kneighbors()[0]).mean(axis=1)
            return squared
        distances = np.full(len(X), np.inf)
        for index in range(int(group.max()) + 1):
            out = group == index
            distances[out] = _mean_squared(normal[out], normal[~out], self.neighbours)
        return distances


class StandardisedNeighbours(NearestNeighbours):
    """`NearestNeighbours` of vectors whose values are divided by their standard deviation in training.

    Each value, all in one unit, counts the same however much it varies; one that hardly does is divided by
    `DEVIATION_FLOOR` times the median deviation. A left-out row is standardised by the deviation of the other groups.

    Args:
        neighbours: the distances to so many of the nearest are averaged.

    Attributes:
        mean_: (p,) of the normal vectors.
        deviation_: (p,) that they are divided by.

    >>> model = StandardisedNeighbours().fit(np.array([[0.0, 0.0], [1.0, 4.0], [2.0, 8.0]]))
    >>> model.distance(np.array([[3.0, 8.0], [2.0, 12.0]])).round(6).tolist()
    [1.5, 1.5]
    """

    name: ClassVar[str] = "standardised_knn"

    mean_: Floats
    deviation_: Floats

    def _fit(self, X: Floats, domain: Indices) -> None:
        self.mean_, self.deviation_ = X.mean(axis=0), _floored(X.std(axis=0))
        super()._fit(self._scaled(X), domain)

    def _scaled(self, X: Floats) -> Floats:
        return (X - self.mean_) / self.deviation_

    def _left_out(self, X: Floats, domain: Indices, group: Indices) -> Floats | None:
        distances = np.full(len(X), np.inf)
        centred = X - X.mean(axis=0)
        squares = np.square(centred)
        for rows in np.array_split(np.arange(len(X)), math.ceil(len(X) / _ROWS_AT_ONCE)):
            deviation = _deviation_of_others(centred, squares, group, rows)
            # Their own group has no row among the neighbours; others without any deviation are infinitely far.
            known = np.not_equal.outer(group[rows], group) & np.isfinite(deviation).all(axis=1, keepdims=True)
            weights = 1 / np.square(deviation)
            # The sum of w (x - y)^2 is that of w x^2 - 2 w x y + w y^2: matrix products.
            away = (weights * squares[rows]).sum(axis=1)[:, None] - 2 * (weights * centred[rows]) @ centred.T
            away += weights @ squares.T
            nearest = np.sort(np.where(known, np.maximum(away, 0), np.inf), axis=1)[:, : self.neighbours]
            several = np.isfinite(nearest).sum(axis=1)
            found = several > 0
            finite = np.where(np.isfinite(nearest), nearest, 0).sum(axis=1)
            distances[rows[found]] = finite[found] / several[found]
        return distances


def _deviation_of_others(centred: Floats, squares: Floats, group: Indices, rows: Indices) -> Floats:
    """(len(rows), p): of each of the rows the floored deviation in the other groups, infinite if they have none.

    From sums over groups: selecting the others for each group would take n times as long.
    """
    deviation = np.full((len(rows), centred.shape[1]), np.inf)
    total, total_squares = centred.sum(axis=0), squares.sum(axis=0)
    rounding = 1e-12 * total_squares / len(centred)
    for index in np.unique(group[rows]):
        out = group == index
        n = len(centred) - np.count_nonzero(out)
        mean = (total - centred[out].sum(axis=0)) / n
        variance = (total_squares - squares[out].sum(axis=0)) / n - np.square(mean)
        own = np.sqrt(np.where(variance > rounding, variance, 0))
        if own.any():
            deviation[group[rows] == index] = _floored(own)
    return deviation


def _mean_squared(X: Floats, normal: Floats, neighbours: int) -> Floats:
    """(m,): the mean squared distance of each row to its nearest ``normal`` ones, or to all if there are fewer."""
    count = min(neighbours, len(normal))
    # Not by a matrix product: the last digits of a distance must not depend on the rows that come with it.
    squared = cdist(X, normal, "sqeuclidean")
    return np.asarray(np.partition(squared, count - 1, axis=1)[:, :count].mean(axis=1))


def _floored(deviation: Floats) -> Floats:
    """Each value at least `DEVIATION_FLOOR` times the median of those that vary; 1 if none does."""
    varied = deviation[deviation > 0]
    floor: float = DEVIATION_FLOOR * float(np.median(varied)) if len(varied) else 1.0
    return np.maximum(deviation, floor)
