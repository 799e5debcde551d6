"""Intervals of a rate, from how often something happened."""

from scipy.stats import binomtest


def rate_interval(count: int, n: int) -> tuple[float, float]:
    """Exact 95 % interval of a rate (Clopper and Pearson 1934).

    Args:
        count: how often it happened.
        n: out of how many; 0 says nothing about the rate.

    Returns:
        Lower and upper end, 0 to 1.

    >>> [round(end, 3) for end in rate_interval(1, 20)]
    [0.001, 0.249]
    >>> rate_interval(0, 0)
    (0.0, 1.0)
    """
    if not n:
        return 0.0, 1.0
    interval = binomtest(count, n).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)
