"""The nearest normal recordings as normality models: no covariance, few recordings are enough."""

from typing import ClassVar

import numpy as np
from sklearn.neighbors import NearestNeighbors

from asdcore.arrays import Floats, Indices
from asdcore.normality.base import BadEmbeddings, NormalityModel

DEVIATION_FLOOR = 0.1
"""Fraction of the median standard deviation that a value's own is raised to: one that hardly varied in training would
otherwise outweigh all others."""


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

    def _distance(self, X: Floats) -> Floats:
        return _mean_squared(X, self.normal_, self.neighbours)

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
        self.mean_, self.deviation_ = _standardisation(X)
        super()._fit((X - self.mean_) / self.deviation_, domain)

    def _distance(self, X: Floats) -> Floats:
        return super()._distance((X - self.mean_) / self.deviation_)

    def _left_out(self, X: Floats, domain: Indices, group: Indices) -> Floats | None:
        distances = np.full(len(X), np.inf)
        for index in range(int(group.max()) + 1):
            out = group == index
            others = X[~out]
            if not np.ptp(others, axis=0).any():
                continue  # They have no deviation to measure a distance by: infinitely far.
            mean, deviation = _standardisation(others)
            rows, normal = (X[out] - mean) / deviation, (others - mean) / deviation
            # By hand: a search tree for each single row would take longer.
            away = np.square(rows).sum(axis=1)[:, None] - 2 * rows @ normal.T + np.square(normal).sum(axis=1)
            nearest = np.partition(away, min(self.neighbours, len(normal)) - 1, axis=1)[:, : self.neighbours]
            distances[out] = np.maximum(nearest, 0).mean(axis=1)
        return distances


def _mean_squared(X: Floats, normal: Floats, neighbours: int) -> Floats:
    """(m,): the mean squared distance of each row to its nearest ``normal`` ones, or to all if there are fewer."""
    search = NearestNeighbors(n_neighbors=min(neighbours, len(normal)), algorithm="kd_tree").fit(normal)
    squared: Floats = np.square(search.kneighbors(X)[0]).mean(axis=1)
    return squared


def _standardisation(X: Floats) -> tuple[Floats, Floats]:
    """Mean and floored standard deviation of each value: (p,), (p,)."""
    deviation = X.std(axis=0)
    varied = deviation[deviation > 0]
    floor = DEVIATION_FLOOR * float(np.median(varied)) if len(varied) else 1.0
    return X.mean(axis=0), np.maximum(deviation, floor)
