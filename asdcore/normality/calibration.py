"""From distances to p-values and decisions that keep a false-alarm rate, also in a session not heard before.

Left-out distances of the training recordings are what distances of new normal recordings look like, so the rank of a
new distance among them is a p-value whatever their distribution is (conformal prediction). Recordings of one session (a
day, say) are alike, so they count as fewer than they are: `Calibration.n_effective_`. No p-value is below
1 / (n_effective + 1), and nothing is extrapolated: a rate below that is not supported by the recordings.
"""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, norm, rankdata
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from asdcore.arrays import Arrays, Floats
from asdcore.errors import AsdError

KIND = "calibration"


class Calibration(BaseEstimator):  # type: ignore[misc]
    """Conformal p-values from left-out distances of K sessions.

    With F(d) the mean over the sessions of the fraction of their distances that are at least d,

        p(d) = (1 + N F(d)) / (1 + N),    N = K / (icc + (1 - icc) / m),

    where m is the harmonic mean of the recordings per session, and icc, the intraclass correlation of the normal scores
    of the distances' ranks (one-way analysis of variance), is shrunk towards 1 as if by one more session: few sessions
    cannot show that they are alike. N is the number of independent recordings that the sessions are worth (the design
    effect of cluster sampling; Kish 1965). Where each recording is a session of its own, N = n, and p is the rank among
    n + 1. With a single session N = 1: of another one nothing is known.

    On simulated sessions (3 to 20 of 2 to 100 recordings, intraclass correlation 0 to 0.9) the realised rate was at
    most the one asked for on average, where ranks among all recordings gave up to twice of it; it is an estimate, no
    guarantee, and single sessions scatter (benchmarks/sessions.py, docs/evidence/sessions.md).

    Attributes:
        distances_: (n,) as given.
        groups_: (n,) 0 to K-1, the session of each.
        n_effective_: N.
        largest_: the largest finite distance.

    >>> calibration = Calibration().fit(np.arange(1.0, 100.0))
    >>> calibration.p_value([0.0, 90.0, 99.0, 200.0]).round(4).tolist()
    [1.0, 0.11, 0.02, 0.01]
    >>> bool(calibration.decision([calibration.threshold(0.05)], 0.05)[0]), calibration.threshold(0.001)
    (True, inf)
    """

    def fit(self, distances: ArrayLike, y: object = None, *, groups: ArrayLike | None = None) -> Self:
        """Take the left-out distances of normal recordings.

        Args:
            distances: (n,). Infinite ones (a recording that alone spans a direction) count as larger than any other.
            y: ignored.
            groups: (n,) names of the sessions; None: each recording is a session of its own.

        Raises:
            AsdError: no finite distance, NaN, or another number of groups than of distances.
        """
        values = _checked(distances)
        if values.ndim != 1 or not np.isfinite(values).any():
            raise AsdError(f"{values.size} left-out distances, none of them finite: a calibration needs some")
        named = np.arange(len(values)) if groups is None else np.asarray(groups)
        if named.shape != values.shape:
            raise AsdError(f"groups must be one name for each of {len(values)} distances, got the shape {named.shape}")
        self.distances_: Floats = values
        self.groups_ = np.unique(named, return_inverse=True)[1].astype(np.intp)
        self.n_effective_ = n_effective(values, self.groups_)
        self.largest_ = float(values[np.isfinite(values)].max())
        order = np.argsort(values)
        counts = np.bincount(self.groups_)
        weights = 1 / (len(counts) * counts[self.groups_])
        self._sorted = values[order]
        # The fraction, with equal weight for each session, of the distances from this one on.
        self._at_least = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)
        return self

    def p_value(self, distances: ArrayLike) -> Floats:
        """How often a normal recording is at least as far.

        Args:
            distances: any shape.

        Returns:
            The same shape: at least `supported_rate`, at most 1, never larger for a larger distance.

        Raises:
            AsdError: NaN among the distances.
        """
        check_is_fitted(self)
        fraction = self._at_least[np.searchsorted(self._sorted, _checked(distances), side="left")]
        p: Floats = np.minimum((1 + self.n_effective_ * fraction) / (1 + self.n_effective_), 1.0)
        return p

    def rank_p_value(self, distances: ArrayLike) -> Floats:
        """The p-value as if all recordings were independent: what a suspicion, not a promise, is based on."""
        check_is_fitted(self)
        n = len(self._sorted)
        rank: Floats = (1 + n - np.searchsorted(self._sorted, _checked(distances), side="left")) / (n + 1)
        return rank

    def beyond(self, distances: ArrayLike) -> NDArray[np.bool_]:
        """Which distances are larger than every finite one of a normal recording.

        Raises:
            AsdError: NaN among the distances.
        """
        check_is_fitted(self)
        larger: NDArray[np.bool_] = _checked(distances) > self.largest_
        return larger

    @property
    def supported_rate(self) -> float:
        """The smallest false-alarm rate that the recordings can promise."""
        return float(1 / (1 + self.n_effective_))

    def interval(self, false_alarm_rate: float, confidence: float = 0.9) -> tuple[float, float]:
        """Where the realised rate lies that a decision at this rate has, over training sets: 0 to 0 if unsupported.

        Beta(j, N + 1 - j) with j = rate (N + 1): the coverage of a conformal prediction set given its calibration
        recordings (Vovk 2012), with N for their number.
        """
        j = _rate(false_alarm_rate) * (self.n_effective_ + 1)
        if j < 1:
            return 0.0, 0.0
        ends = beta.ppf([(1 - confidence) / 2, (1 + confidence) / 2], j, max(self.n_effective_ + 1 - j, 1e-9))
        return float(ends[0]), float(ends[1])

    def threshold(self, false_alarm_rate: float) -> float:
        """The smallest distance with a p-value of at most ``false_alarm_rate``; infinite if the rate is not supported.

        Args:
            false_alarm_rate: above 0, below 1.

        Raises:
            AsdError: a rate that is none.
        """
        check_is_fitted(self)
        rate = _rate(false_alarm_rate)
        candidates = self._candidates()
        allowed = candidates[self.p_value(candidates) <= rate]
        return float(allowed[0]) if len(allowed) else float("inf")

    def suspicion_threshold(self, false_alarm_rate: float) -> float:
        """The smallest distance that is `suspect`.

        >>> calibration = Calibration().fit(np.arange(1.0, 10.0))
        >>> round(calibration.suspicion_threshold(0.01), 6), calibration.threshold(0.01)
        (9.0, inf)
        """
        check_is_fitted(self)
        candidates = self._candidates()
        return float(candidates[self.suspect(candidates, false_alarm_rate)][0])

    def _candidates(self) -> Floats:
        """The smallest distances beyond each of a normal recording, where a p-value changes."""
        beyond: Floats = np.nextafter(np.unique(self._sorted[np.isfinite(self._sorted)]), np.inf)
        return beyond

    def decision(self, distances: ArrayLike, false_alarm_rate: float) -> NDArray[np.bool_]:
        """Which distances are anomalous: a p-value of at most ``false_alarm_rate``.

        Args:
            distances: any shape.
            false_alarm_rate: fraction of normal recordings that may be called anomalous; above 0, below 1.

        Raises:
            AsdError: NaN among the distances, or a rate that is none.
        """
        anomalous: NDArray[np.bool_] = self.p_value(distances) <= _rate(false_alarm_rate)
        return anomalous

    def suspect(self, distances: ArrayLike, false_alarm_rate: float) -> NDArray[np.bool_]:
        """Which distances are suspect: larger than every one of a normal recording, or than all but as many as the rate
        allows among all recordings; anomalous or not.
        """
        strange: NDArray[np.bool_] = self.beyond(distances) | (self.rank_p_value(distances) <= _rate(false_alarm_rate))
        return strange | self.decision(distances, false_alarm_rate)

    def to_arrays(self) -> Arrays:
        """Everything fitted, as arrays without objects, for an npz file."""
        check_is_fitted(self)
        return {"kind": np.array(KIND), "distances": self.distances_, "groups": self.groups_}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "Calibration":
        """The fitted calibration that `to_arrays` described."""
        return cls().fit(arrays["distances"], groups=arrays["groups"])


def n_effective(distances: NDArray[np.floating], groups: NDArray[np.intp]) -> float:
    """The number of independent recordings that those of K sessions are worth; see `Calibration`.

    Args:
        distances: (n,) left-out distances.
        groups: (n,) 0 to K-1.

    >>> float(n_effective(np.arange(6.0), np.arange(6)))
    6.0
    >>> float(round(n_effective(np.array([1, 2, 3, 11, 12, 13.0]), np.array([0, 0, 0, 1, 1, 1])), 1))
    2.2
    """
    counts = np.bincount(groups)
    n, k = len(distances), len(counts)
    if k == n:
        return float(n)
    if k == 1:
        return 1.0
    icc = _intraclass_correlation(norm.ppf(rankdata(distances) / (n + 1)), groups, counts)
    icc = (icc * (k - 1) + 1) / k
    return float(k / (icc + (1 - icc) * np.mean(1 / counts)))


def _intraclass_correlation(scores: Floats, groups: NDArray[np.intp], counts: NDArray[np.intp]) -> float:
    """Of one-way analysis of variance, 0 to 1."""
    n, k = len(scores), len(counts)
    means = np.bincount(groups, weights=scores) / counts
    between = float((counts * (means - scores.mean()) ** 2).sum()) / (k - 1)
    within = float(((scores - means[groups]) ** 2).sum()) / (n - k)
    size = (n - float((counts**2).sum()) / n) / (k - 1)
    variance = (between - within) / size
    return float(np.clip(variance / (variance + within), 0, 1)) if variance + within > 0 else 0.0


def _checked(distances: ArrayLike) -> Floats:
    values: Floats = np.asarray(distances, dtype=np.float64)
    if np.isnan(values).any():
        raise AsdError(f"{np.isnan(values).sum()} of {values.size} distances are NaN: they have no p-value")
    return values


def _rate(false_alarm_rate: float) -> float:
    if not 0 < false_alarm_rate < 1:
        raise AsdError(f"false_alarm_rate is {false_alarm_rate}: it must be above 0 and below 1")
    return float(false_alarm_rate)
