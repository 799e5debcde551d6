"""Warnings that are shown both in the terminal and in the Prefect UI."""

from prefect import get_run_logger

from asdcore.progress import say
from asdcore.terminal import visible


def warn(message: str) -> None:
    """Log ``message`` in the run and print it on stderr: the command line keeps Prefect's own log off the terminal."""
    get_run_logger().warning(visible(message))
    say(message)
