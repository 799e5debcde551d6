"""The nearest normal recording, as a normality model: no covariance, few recordings are enough."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from asdcore.errors import AsdError
from asdcore.normality.models import checked


class NeighbourModel(BaseEstimator):  # type: ignore[misc]
    """Squared Euclidean distance to the nearest normal embedding.

    Args:
        neighbours: the distances to so many of the nearest are averaged.

    Fitted: ``normal_`` (n, p).

    >>> float(NeighbourModel().fit(np.zeros((3, 2))).distance(np.array([[3.0, 4.0]]))[0])
    25.0
    """

    def __init__(self, neighbours: int = 1) -> None:
        self.neighbours = neighbours

    def fit(self, X: NDArray[np.floating], y: object = None) -> Self:
        """Keep (n, p) embeddings, one row a normal recording.

        Raises:
            AsdError: fewer rows than neighbours, no neighbour asked for, or values that are not finite.
        """
        if self.neighbours < 1:
            raise AsdError(f"neighbours is {self.neighbours}: at least 1 is needed")
        self.normal_ = checked(X)
        if len(self.normal_) < self.neighbours:
            raise AsdError(f"{len(self.normal_)} recordings: too few for the {self.neighbours} nearest neighbours")
        return self

    def distance(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """The mean squared distance of each row of (n, p) to its nearest normal ones: (n,), higher: more anomalous."""
        check_is_fitted(self)
        X = checked(X)
        if X.shape[1] != self.normal_.shape[1]:
            raise AsdError(f"embeddings of {X.shape[1]} values; this model was fitted on {self.normal_.shape[1]}")
        search = NearestNeighbors(n_neighbors=self.neighbours, algorithm="kd_tree").fit(self.normal_)
        distances, _ = search.kneighbors(X)
        squared: NDArray[np.float64] = np.square(distances).mean(axis=1)
        return squared

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything fitted, as arrays without objects, for an npz file."""
        check_is_fitted(self)
        return {"neighbours": np.array(self.neighbours), "normal": self.normal_}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "NeighbourModel":
        """The fitted model that `to_arrays` described."""
        return cls(arrays["neighbours"].item()).fit(arrays["normal"])
