"""A p-value in words."""

from asdcore.normality.machine import SUSPECT


def odds(p_value: float, verdict: str) -> str:
    """A p-value in words.

    >>> odds(0.04, "normal")
    'about 1 in 25 normal recordings of this machine looks as strange (p = 0.04)'
    >>> odds(0.6, "normal")
    'more than half of the normal recordings of this machine look as strange (p = 0.6)'
    >>> odds(0.02, "suspect")
    'stranger than the normal recordings that it was fitted on; they support no lower rate (p = 0.02)'
    """
    if verdict == SUSPECT:
        return (
            f"stranger than the normal recordings that it was fitted on; they support no lower rate (p = {p_value:.2g})"
        )
    if p_value > 0.5:
        return f"more than half of the normal recordings of this machine look as strange (p = {p_value:.2g})"
    count = float(f"{1 / p_value:.2g}")
    return f"about 1 in {count:,.0f} normal recordings of this machine looks as strange (p = {p_value:.2g})"
