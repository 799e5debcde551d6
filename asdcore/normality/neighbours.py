"""The nearest normal recording, as a normality model: no covariance, few recordings are enough."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from asdcore.normality.embeddings import (
    Arrays,
    BadEmbeddings,
    FitReport,
    Floats,
    checked,
    condition_of,
    same_size,
    seen_variances,
)

KIND = "neighbours"


class NeighbourModel(BaseEstimator):  # type: ignore[misc]
    """Squared Euclidean distance to the nearest normal embedding.

    Args:
        neighbours: the distances to so many of the nearest are averaged.

    Fitted: ``normal_`` (n, p), ``leave_one_out_`` (n,): the distance of each of them from the others, ``report_``.

    >>> float(NeighbourModel().fit(np.zeros((3, 2))).distance(np.array([[3.0, 4.0]]))[0])
    25.0
    >>> NeighbourModel().fit(np.array([[0.0], [1.0], [4.0]])).leave_one_out_.tolist()
    [1.0, 1.0, 9.0]
    """

    def __init__(self, neighbours: int = 1) -> None:
        self.neighbours = neighbours

    def fit(self, X: NDArray[np.floating], y: object = None, *, domains: ArrayLike | None = None) -> Self:
        """Keep the embeddings of normal recordings.

        Args:
            X: (n, p), one row a recording.
            y: ignored, as is ``domains``: neighbours are near in their own domain anyway.

        Raises:
            AsdError: fewer rows than neighbours, no neighbour asked for, or values that are not finite.
        """
        if self.neighbours < 1:
            raise BadEmbeddings(f"neighbours is {self.neighbours}: at least 1 is needed")
        self.normal_ = checked(X)
        n, p = self.normal_.shape
        if n < self.neighbours:
            raise BadEmbeddings(
                f"{n} recordings: too few for the {self.neighbours} nearest neighbours: a minimum of "
                f"{self.neighbours} is required"
            )
        self.n_features_in_ = p
        self.leave_one_out_: Floats = self._leave_one_out()
        seen = seen_variances(self.normal_)
        self.report_ = FitReport("knn", "knn", n, p, len(seen), condition_of(seen), "")
        return self

    def distance(self, X: NDArray[np.floating]) -> Floats:
        """The mean squared distance of each row to its nearest normal ones.

        Args:
            X: (m, p).

        Returns:
            (m,), higher is more anomalous.

        Raises:
            AsdError: values that are not finite, or another p than that of the fit.
        """
        check_is_fitted(self)
        X = checked(X)
        same_size(X, self.normal_.shape[1])
        if not len(X):
            return np.zeros(0)
        search = NearestNeighbors(n_neighbors=self.neighbours, algorithm="kd_tree").fit(self.normal_)
        distances, _ = search.kneighbors(X)
        squared: Floats = np.square(distances).mean(axis=1)
        return squared

    def _leave_one_out(self) -> Floats:
        """Each row is no neighbour of its own; where that leaves fewer than are asked for, those that there are."""
        n = len(self.normal_)
        if n == 1:
            return np.array([np.inf])
        search = NearestNeighbors(n_neighbors=min(self.neighbours, n - 1), algorithm="kd_tree").fit(self.normal_)
        distances, _ = search.kneighbors()
        squared: Floats = np.square(distances).mean(axis=1)
        return squared

    def to_arrays(self) -> Arrays:
        """Everything fitted, as arrays without objects, for an npz file."""
        check_is_fitted(self)
        return {"kind": np.array(KIND), "neighbours": np.array(self.neighbours), "normal": self.normal_}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "NeighbourModel":
        """The fitted model that `to_arrays` described."""
        return cls(arrays["neighbours"].item()).fit(arrays["normal"])
