"""Robust normality models: covariances that a few odd training recordings do not move."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Self

import numpy as np
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold, KFold

from asdcore.arrays import Floats, Indices
from asdcore.normality.gaussian import GaussianModel
from asdcore.progress import progress
from asdcore.settings import NormalitySettings

MOST_COMPONENTS = 128
"""of h where the settings name none: as many as z has values, so that it takes no longer"""


class RobustCovariance(GaussianModel):
    """scikit-learn's EllipticEnvelope: the paper's second best.

    It needs more than twice as many recordings as values; with fewer it falls back to `LedoitWolfCovariance`, and
    ``report_.note`` says so.

    Args:
        components: principal components kept before it; None keeps all. What lies outside them is not seen.
        force_estimator: no fallback.
        seed: random state, also of the folds.
        folds: of the cross-fitting that stands in for leaving one out, each as expensive as the fit; 0: none, and
            ``left_out_`` is None.
    """

    name: ClassVar[str] = "elliptic"

    def __init__(
        self, components: int | None = None, force_estimator: bool = False, seed: int = 0, folds: int = 5
    ) -> None:
        self.components = components
        self.force_estimator = force_estimator
        self.seed = seed
        self.folds = folds

    @classmethod
    def of(cls, settings: NormalitySettings) -> Self:
        components = settings.elliptic_components or (MOST_COMPONENTS if settings.layer == "h" else None)
        return cls(components, settings.force_estimator, settings.seed)

    def _fit(self, X: Floats, domain: Indices) -> None:
        n, size = len(X), self._size(X)
        rank = min(self.report_.rank, size)
        if n <= 2 * size and not self.force_estimator:
            why = f"a robust covariance of the half of the recordings that agree most needs more than {2 * size}"
            self._fall_back(X, f"{n} recordings of {size} values: {why}")
        elif rank < size and not self.force_estimator:
            why = f"{self.name} would miss what lies outside the training span"
            self._fall_back(X, f"the embeddings span {rank} of {size} directions: {why}")
        else:
            self.location_, self.precision_ = self._envelope(X, size)

    def _left_out(self, X: Floats, domain: Indices, group: Indices) -> Floats | None:
        """Fits without each fold, a minute each for 1000 x 128."""
        if self.report_.used != self.name:
            return super()._left_out(X, domain, group)
        if self.folds < 2:
            return None
        distances = np.full(len(X), np.nan)
        folds = min(self.folds, int(group.max()) + 1)
        alone = self.report_.largest_group == 1
        splitter = KFold(folds, shuffle=True, random_state=self.seed) if alone else GroupKFold(folds)
        parts = list(splitter.split(X, groups=None if alone else group))
        for others, fold in progress(parts, "elliptic envelopes"):
            location, precision = self._envelope(X[others], self._size(X))
            away = X[fold] - location
            distances[fold] = np.einsum("ij,ij->i", away @ precision, away)
        return distances

    def _size(self, X: Floats) -> int:
        return self.components if self.components and self.components < min(X.shape) else X.shape[1]

    def _envelope(self, X: Floats, size: int) -> tuple[Floats, Floats]:
        """Location and precision, behind the ``size`` first principal components."""
        model = EllipticEnvelope(random_state=self.seed)
        with _quiet():
            if size >= X.shape[1]:
                return model.fit(X).location_, model.get_precision()
            axes = PCA(size, random_state=self.seed).fit(X).components_
            model.fit(X @ axes.T)
        # The same distances, written in the values of an embedding: axes is orthonormal.
        return model.location_ @ axes, axes.T @ model.get_precision() @ axes


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of many small fits: rank and condition are in the report."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
