"""The number of threads for linear algebra."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """One thread for the linear algebra of single recordings.

    Its matrices are small: several threads gain nothing on idle cores, and on busy ones they wait for each other, which
    takes twice as long or more.
    """
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    """Created once: finding the libraries takes longer than scoring a recording."""
    return ThreadpoolController()
