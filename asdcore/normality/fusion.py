"""Two scorers, one verdict: the p-values of embedding and spectrum fused into one, without labels."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from asdcore.errors import AsdError
from asdcore.normality.embeddings import Floats

Rule = Literal["minimum", "fisher", "harmonic"]


def minimum(p: Floats) -> Floats:
    """1 - (1 - smallest) ** 2 (Tippett 1931)."""
    fused: Floats = -np.expm1(2 * np.log1p(-np.minimum(p.min(axis=1), 1 - 1e-16)))
    return fused


def fisher(p: Floats) -> Floats:
    """q (1 - log q) of the product q (Fisher 1932)."""
    product = np.log(p).sum(axis=1)
    fused: Floats = np.exp(product + np.log1p(-product))
    return fused


def harmonic(p: Floats, weight: float = 0.5) -> Floats:
    """x + v w x ** 2 log((1 - v x) (1 - w x) / (v w x ** 2)) of the harmonic mean x with the weights v and w = 1 - v
    (Wilson 2019 for many; of two, integrated exactly).
    """
    weights = np.array([weight, 1 - weight])
    smallest = p.min(axis=1, keepdims=True)
    # Ratios first: the inverse of a p-value that is next to nothing would overflow.
    x = smallest[:, 0] / (weights * (smallest / p)).sum(axis=1)
    inside = np.log1p(-weights[0] * x) + np.log1p(-weights[1] * x) - np.log(weights).sum() - 2 * np.log(x)
    fused: Floats = x + weights.prod() * x * x * inside
    return fused


RULES: dict[Rule, Callable[..., Floats]] = {"minimum": minimum, "fisher": fisher, "harmonic": harmonic}


def fuse(p_values: ArrayLike, rule: Rule = "harmonic", weight: float = 0.5) -> Floats:
    """One p-value from those of two scorers; each rule is exact where the scorers are independent.

    The harmonic mean was chosen by measurement (benchmarks/fusion.py, docs/evidence/calibration.md): where the scorers
    depend on each other it still keeps the false-alarm rate, which Fisher's rule does not, and where one is useless
    it finds most of what the other one finds. Nothing is learnt from the training recordings: a rank among their
    fused p-values costs a third of the faults found with 30 recordings, and a single odd one among 16 would blind both
    scorers.

    Args:
        p_values: (m, 2), of `Calibration.p_value` of each scorer.
        rule: ``harmonic``, ``minimum`` or ``fisher``.
        weight: of the first scorer, of ``harmonic``; that of the second is 1 less it. A useless scorer costs the
            other one the less the lower its weight.

    Returns:
        (m,), above 0, at most 1; never larger for smaller p-values.

    Raises:
        AsdError: no such rule, or values that are no p-values.

    >>> fuse([[0.03, 0.03], [0.03, 1.0], [1.0, 1.0]]).round(3).tolist()
    [0.032, 0.064, 1.0]
    """
    if rule not in RULES:
        raise AsdError(f"rule {rule!r} is none of {', '.join(RULES)}")
    p: Floats = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] != 2:
        raise AsdError(f"p-values must be (recordings, 2), got the shape {p.shape}")
    if not ((p > 0) & (p <= 1)).all():
        raise AsdError(f"{np.count_nonzero(~((p > 0) & (p <= 1)))} of {p.size} p-values are not above 0 and at most 1")
    parameters = {"weight": weight} if rule == "harmonic" else {}
    fused: Floats = np.clip(RULES[rule](p, **parameters), np.finfo(np.float64).tiny, 1.0)
    return fused
