"""From distances to p-values and decisions that keep a false-alarm rate.

Leave-one-out distances of the training recordings are what distances of new normal recordings look like, so the rank of
a new distance among them is a p-value whatever their distribution is (conformal prediction). Ranks end at 1 / (n + 1);
beyond the largest distance seen, a fitted tail goes on, and `Calibration.extrapolated` says so.
"""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from asdcore.errors import AsdError
from asdcore.normality.base import Floats

_TOP_SHARE, _TOP_FEWEST, _TOP_MOST = 0.1, 5, 200
"""largest distances that shape the tail: a tenth, within these bounds"""
_SMALLEST_DECAY = 0.01
"""of the tail's logarithm, where the largest distances are all but equal"""
_NEVER_ZERO = float(np.finfo(np.float64).tiny)


class Calibration(BaseEstimator):  # type: ignore[misc]
    """Conformal p-values from left-out distances, with a Pareto tail.

    Args:
        logarithmic: what is calibrated are logarithms of distances, such as fused scores: they may be negative, and
            the tail falls with their difference instead of their ratio.

    p = (1 + number of left-out distances >= d) / (n + 1) up to the largest of them, M; beyond, it falls from
    1 / (n + 1) like (d / M) ** (-1 / decay), the decay by Hill's estimator from the largest tenth. Of nine tails tried
    on nine distributions this one kept its promise best: it errs to the side of too few alarms where distances are
    light-tailed, as those of Gaussian embeddings are.

    What one gets on fresh normal recordings (simulated Gaussian embeddings, mean over training sets): the rate that was
    asked for, rounded down to a multiple of 1 / (n + 1): 10 % is 3 to 7 % with 16 recordings, 9 to 11 % with 60. A rate
    below 1 / (n + 1) comes from the tail: 1 % is 0.3 to 1.3 % with 16 and 0.8 to 1.2 % with 60 recordings. That is a
    mean: with one training set of 16, asked for 10 %, one gets between 0 and 19 % (nine sets in ten), with 60 between
    4 and 19 %, with 200 between 6 and 14 %; asked for 1 % with 16, up to 9 %. Only more recordings narrow it.

    Fitted: ``distances_`` (n,) in the order given; ``largest_``: finite distance, where the tail begins; ``decay_``:
    its shape.

    >>> calibration = Calibration().fit(np.arange(1.0, 100.0))
    >>> calibration.p_value([0.0, 90.0, 99.0, 200.0]).round(4).tolist()
    [1.0, 0.11, 0.02, 0.0]
    >>> calibration.extrapolated([99.0, 200.0]).tolist()
    [False, True]
    >>> bool(calibration.decision([calibration.threshold(0.05)], 0.05)[0])
    True
    """

    def __init__(self, logarithmic: bool = False) -> None:
        self.logarithmic = logarithmic

    def fit(self, distances: ArrayLike, y: object = None) -> Self:
        """Take the left-out distances of normal recordings.

        Args:
            distances: (n,), not negative unless ``logarithmic``. Infinite ones (a recording that alone spans a
                direction) count as larger than any other.
            y: ignored.

        Raises:
            AsdError: no finite distance, or a negative one or NaN.
        """
        own = _checked(distances)
        if own.ndim != 1 or not np.isfinite(own).any():
            raise AsdError(f"{own.size} left-out distances, none of them finite: a calibration needs some")
        if own.min() < 0 and not self.logarithmic:
            raise AsdError(f"a left-out distance of {own.min()}: distances are not negative")
        self.distances_: Floats = own
        self._sorted = np.sort(own)
        finite = self._sorted[np.isfinite(self._sorted)]
        self.largest_ = float(finite[-1])
        self.decay_ = _decay(finite if self.logarithmic else np.log(finite[finite > 0]))
        return self

    def p_value(self, distances: ArrayLike) -> Floats:
        """How often a normal recording is at least as far.

        Args:
            distances: any shape.

        Returns:
            The same shape: above 0, at most 1, never larger for a larger distance.

        Raises:
            AsdError: NaN among the distances.
        """
        check_is_fitted(self)
        values = _checked(distances)
        n = len(self._sorted)
        ranks = (1 + n - np.searchsorted(self._sorted, values, side="left")) / (n + 1)
        beyond = self._tail(values)
        p: Floats = np.where(values > self.largest_, beyond, ranks)
        return p

    def extrapolated(self, distances: ArrayLike) -> NDArray[np.bool_]:
        """Which p-values come from the fitted tail: those of distances beyond every finite one seen.

        Args:
            distances: any shape.

        Raises:
            AsdError: NaN among the distances.
        """
        check_is_fitted(self)
        beyond: NDArray[np.bool_] = _checked(distances) > self.largest_
        return beyond

    def threshold(self, false_alarm_rate: float) -> float:
        """The smallest distance with a p-value of at most ``false_alarm_rate``.

        Args:
            false_alarm_rate: above 0, below 1. Below 1 / (n + 1) the threshold is extrapolated.

        Raises:
            AsdError: a rate that is none.
        """
        check_is_fitted(self)
        rate = _rate(false_alarm_rate)
        n = len(self._sorted)
        most = int(rate * (n + 1))
        most += (most + 1) / (n + 1) <= rate
        allowed = most - 1
        """so many left-out distances may be as large"""
        if allowed >= np.isinf(self._sorted).sum():
            return float(np.nextafter(self._sorted[n - 1 - allowed], np.inf))
        fall = self.decay_ * np.log(self._start / rate)
        beyond = self.largest_ + fall if self.logarithmic else self.largest_ * np.exp(fall)
        threshold = float(np.nextafter(beyond, np.inf))
        while self.p_value(threshold) > rate:
            threshold = float(np.nextafter(threshold + 1e-15 * abs(threshold), np.inf))
        return threshold

    def decision(self, distances: ArrayLike, false_alarm_rate: float) -> NDArray[np.bool_]:
        """Which distances are anomalous: a p-value of at most ``false_alarm_rate``.

        Args:
            distances: any shape.
            false_alarm_rate: share of normal recordings that may be called anomalous; above 0, below 1.

        Raises:
            AsdError: NaN among the distances, or a rate that is none.
        """
        anomalous: NDArray[np.bool_] = self.p_value(distances) <= _rate(false_alarm_rate)
        return anomalous

    @property
    def _start(self) -> float:
        """The p-value where the tail begins."""
        return float((1 + np.isinf(self._sorted).sum()) / (len(self._sorted) + 1))

    def _tail(self, values: Floats) -> Floats:
        """p-values beyond the largest distance seen."""
        with np.errstate(divide="ignore", invalid="ignore"):
            farther = np.maximum(values, self.largest_)
            excess = farther - self.largest_ if self.logarithmic else np.log(farther / self.largest_)
            exponent = -excess / self.decay_
        p: Floats = np.maximum(self._start * np.exp(np.nan_to_num(exponent, nan=0.0, neginf=-np.inf)), _NEVER_ZERO)
        return p


def _decay(logarithms: Floats) -> float:
    """Hill's estimator: by how much, on average, the largest logarithms exceed the next one.

    Args:
        logarithms: (n,), sorted, smallest first.
    """
    top = min(int(np.clip(round(_TOP_SHARE * len(logarithms)), _TOP_FEWEST, _TOP_MOST)), len(logarithms) - 1)
    if top < 1:
        return 1.0
    largest = logarithms[-top - 1 :]
    return max(float((largest[1:] - largest[0]).mean()), _SMALLEST_DECAY)


def _checked(distances: ArrayLike) -> Floats:
    values: Floats = np.asarray(distances, dtype=np.float64)
    if np.isnan(values).any():
        raise AsdError(f"{np.isnan(values).sum()} of {values.size} distances are NaN: they have no p-value")
    return values


def _rate(false_alarm_rate: float) -> float:
    if not 0 < false_alarm_rate < 1:
        raise AsdError(f"false_alarm_rate is {false_alarm_rate}: it must be above 0 and below 1")
    return float(false_alarm_rate)
