"""Warnings that are shown both in the terminal and in the Prefect UI."""

from contextlib import suppress

from prefect import get_run_logger
from prefect.exceptions import MissingContextError

from asdcore.progress import say
from asdcore.terminal import visible


def warn(message: str) -> None:
    """Log ``message`` in the run and print it on stderr: the command line keeps Prefect's own log off the terminal."""
    with suppress(MissingContextError):  # `asd clean` is no run.
        get_run_logger().warning(visible(message))
    say(message)
