"""Many scorers, one score: their distances brought to one scale and fused, without labels."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from asdcore.arrays import Floats
from asdcore.errors import AsdError

SMALLEST_SCALE = 0.05
"""of the logarithm of a scorer's distances: one whose training recordings all but agree would otherwise call every new
one the strangest"""
TRUST = 100
"""independent groups from which the sharpness of the fusion is a half"""
_SMALLEST_DISTANCE = float(np.finfo(np.float64).tiny)


class Fusion(BaseEstimator):  # type: ignore[misc]
    """One score from standardised logarithms of distances: their mean with few sessions, the largest with many.

    x = (log d - median) / deviation for each scorer, median and standard deviation those of the logarithms of its
    left-out distances. The fused score is log(mean(exp(k x))) / k. With k near 1 it follows the
    scorer that finds a recording strangest, and the others hardly shift it: a scorer that is useless costs next to
    nothing. With k near 0 it is the mean. k grows with the number of independent groups (sessions, or recordings where
    these are unknown), see `TRUST`: from few of them the deviations are estimated badly, and the scorer with the
    largest x would often be the one whose deviation is too small. The price is that a useless scorer then counts as
    much as the others (both measured in docs/evidence/representation.md).

    It is a score, not a p-value: what it means is for a `Calibration` of the fused scores of left-out recordings to
    say, so that no scorer's extrapolated tail decides.

    The standard deviation was chosen over more robust scales by measurement: a scorer with heavy tails gets a larger
    one and counts for less, and an odd recording among n is at most sqrt(n) deviations away, so that it cannot hide
    what another scorer finds.

    Attributes:
        centre_: (k,) medians.
        scale_: (k,) standard deviations, at least `SMALLEST_SCALE`.
        sharpness_: k, between 0 and 1.

    >>> fusion = Fusion().fit(np.exp([[0.0, 10.0], [1.0, 10.5], [2.0, 11.0]]))
    >>> fusion.score(np.exp([[1.0, 10.5], [8.0, 10.5]])).round(2).tolist()
    [0.0, 3.68]
    """

    def fit(self, left_out: ArrayLike, y: object = None, groups: ArrayLike | None = None) -> Self:
        """Learn what is usual of each scorer.

        Args:
            left_out: (n, k) left-out distances of k scorers; infinite ones do not count for median and deviation.
            y: ignored.
            groups: (n,), the session of each; None: each is one of its own.

        Raises:
            AsdError: a scorer without a finite distance, or a negative one or NaN.
        """
        logarithms = _logarithms(left_out)
        finite = np.isfinite(logarithms)
        if not len(logarithms) or not finite.any(axis=0).all():
            raise AsdError("a scorer has no finite left-out distance: it cannot be fused with others")
        known = np.where(finite, logarithms, np.nan)
        self.centre_: Floats = np.nanmedian(known, axis=0)
        several = finite.sum(axis=0) > 1
        deviation = np.nanstd(known[:, several], axis=0, ddof=1)
        self.scale_: Floats = np.full(known.shape[1], SMALLEST_SCALE)
        self.scale_[several] = np.maximum(deviation, SMALLEST_SCALE)
        independent = len(known) if groups is None else len(np.unique(np.asarray(groups)))
        self.sharpness_ = independent / (independent + TRUST)
        return self

    def standardised(self, distances: ArrayLike) -> Floats:
        """(m, k) distances to (m, k) x: how strange each scorer finds a recording, in its usual deviations."""
        check_is_fitted(self)
        x: Floats = (_logarithms(distances) - self.centre_) / self.scale_
        return x

    def score(self, distances: ArrayLike) -> Floats:
        """(m, k) distances to (m,) fused scores, any real number; higher is more anomalous."""
        x = self.sharpness_ * self.standardised(distances)
        fused: Floats = (np.logaddexp.reduce(x, axis=1) - np.log(x.shape[1])) / self.sharpness_
        return fused


def _logarithms(distances: ArrayLike) -> Floats:
    values: Floats = np.asarray(distances, dtype=np.float64)
    if values.ndim != 2:
        raise AsdError(f"distances must be (recordings, scorers), got the shape {values.shape}")
    if np.isnan(values).any() or (values < 0).any():
        raise AsdError(f"{np.count_nonzero(~(values >= 0))} of {values.size} distances are negative or NaN")
    logarithms: Floats = np.log(np.maximum(values, _SMALLEST_DISTANCE))
    return logarithms
