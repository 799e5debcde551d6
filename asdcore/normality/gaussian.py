"""Gaussian normality models: squared Mahalanobis distance from a mean (paper 2.2)."""

from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
from scipy.linalg import pinvh
from sklearn.covariance import EmpiricalCovariance, LedoitWolf

from asdcore.arrays import Floats, Indices
from asdcore.normality.base import NormalityModel, collapsed, seen_variances
from asdcore.normality.leave_out import (
    domain_means,
    domain_weights,
    leave_group_out,
    leave_one_out_pseudo_inverse,
)
from asdcore.settings import NormalitySettings

ENOUGH_FOR_TIED = 2
"""recordings for each value from which the pooled covariance is not shrunk: below, its inverse is mostly noise"""


class GaussianModel(NormalityModel):
    """Squared Mahalanobis distance from one mean.

    Attributes:
        location_: (p,) the mean.
        precision_: (p, p) the inverse of the covariance.
    """

    location_: Floats
    precision_: Floats

    def _distance(self, X: Floats) -> Floats:
        # Row by row: in a product of all at once the last digits of a row depend on how many there are.
        return np.array([row @ self.precision_ @ row for row in X - self.location_], dtype=np.float64)

    def _fit_ledoit_wolf(self, X: Floats) -> None:
        model = LedoitWolf().fit(X)
        self.location_, self.precision_ = model.location_, model.get_precision()
        self.report_ = replace(self.report_, used=LedoitWolfCovariance.name, shrinkage=float(model.shrinkage_))

    def _fall_back(self, X: Floats, reason: str) -> None:
        """`LedoitWolfCovariance` instead, and a note that says why."""
        self._fit_ledoit_wolf(X)
        self.report_ = replace(self.report_, note=f"{reason}; ledoit_wolf used")

    def _left_out(self, X: Floats, domain: Indices, group: Indices) -> Floats | None:
        return leave_group_out(X, group, self.report_.shrinkage)


class LedoitWolfCovariance(GaussianModel):
    """Covariance shrunk towards a sphere, which needs no more recordings than values (Ledoit and Wolf 2004).

    >>> rng = np.random.default_rng(0)
    >>> model = LedoitWolfCovariance().fit(rng.normal(size=(50, 4)))
    >>> bool(model.distance(np.full((1, 4), 9.0))[0] > model.left_out_.max())
    True
    """

    name: ClassVar[str] = "ledoit_wolf"

    def _fit(self, X: Floats, domain: Indices) -> None:
        self._fit_ledoit_wolf(X)


class MaximumLikelihood(GaussianModel):
    """scikit-learn's EmpiricalCovariance: the paper's best.

    It needs more recordings than values, also without the largest group; with fewer it falls back to
    `LedoitWolfCovariance`, and ``report_.note`` says so.

    Args:
        force_estimator: no fallback. The pseudo-inverse is then blind to what lies outside the training span.
    """

    name: ClassVar[str] = "ml"

    def __init__(self, force_estimator: bool = False) -> None:
        self.force_estimator = force_estimator

    @classmethod
    def of(cls, settings: NormalitySettings) -> Self:
        return cls(settings.force_estimator)

    def _fit(self, X: Floats, domain: Indices) -> None:
        (n, p), report = X.shape, self.report_
        # One more than spans the space, so that every group can be left out.
        few = n - report.largest_group < p + 1
        if (few or report.rank < p) and not self.force_estimator:
            reason = f"{n} recordings of {p} values" if few else f"the embeddings span {report.rank} of {p} directions"
            if few and report.largest_group > 1:
                reason = f"{n} recordings, {n - report.largest_group} without the largest session, of {p} values"
            self._fall_back(X, f"{reason}: {self.name} would miss what lies outside the training span")
            return
        model = EmpiricalCovariance().fit(X)
        self.location_, self.precision_ = model.location_, model.get_precision()

    def _left_out(self, X: Floats, domain: Indices, group: Indices) -> Floats | None:
        blind = self.report_.used == self.name and self.report_.rank < X.shape[1]
        if not blind:
            return super()._left_out(X, domain, group)
        if self.report_.largest_group == 1:
            return leave_one_out_pseudo_inverse(X)
        return self._refitted(X, domain, group, len(X))


class TiedCovariance(GaussianModel):
    """One covariance for all domains, each with its own mean, and the distance from the nearest of them.

    Attributes:
        locations_: (k, p) the mean of each domain, in the order of their sorted names.
        counts_: (k,) recordings of each domain.
    """

    name: ClassVar[str] = "tied"

    def _fit(self, X: Floats, domain: Indices) -> None:
        domain = self._told_apart(X, domain)
        n, p = X.shape
        self.locations_, self.counts_ = domain_means(X, domain)
        self.location_ = X.mean(axis=0)
        k = len(self.counts_)
        within = X - self.locations_[domain]
        left = n - self.report_.largest_group + 1
        few = left - k < ENOUGH_FOR_TIED * p or len(seen_variances(within)) < p
        shared = within[self.counts_[domain] > 1]
        shrinkage = float(LedoitWolf(assume_centered=True).fit(shared).shrinkage_) if few else 0.0
        covariance = within.T @ within / (n - k + 1)
        sphere = np.trace(covariance) / p * np.eye(p)
        self.precision_ = pinvh((1 - shrinkage) * covariance + shrinkage * sphere)
        self.report_ = replace(self.report_, shrinkage=shrinkage, domains=k)

    def _distance(self, X: Floats) -> Floats:
        each = [
            [weight * (row @ self.precision_ @ row) for row in X - location]
            for location, weight in zip(self.locations_, domain_weights(self.counts_), strict=True)
        ]
        nearest: Floats = np.asarray(each, dtype=np.float64).min(axis=0)
        return nearest

    def _left_out(self, X: Floats, domain: Indices, group: Indices) -> Floats | None:
        return leave_group_out(X, group, self.report_.shrinkage, self._told_apart(X, domain))

    @staticmethod
    def _told_apart(X: Floats, domain: Indices) -> Indices:
        """The domains, or a single one where nothing varies within them: only all together say what is normal."""
        together = domain.max() > 0 and collapsed(X - domain_means(X, domain)[0][domain] + X.mean(axis=0))
        return np.zeros_like(domain) if together else domain
