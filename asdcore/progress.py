"""A progress bar on stderr; silent if stderr is not a terminal."""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from asdcore.terminal import Terminal

T = TypeVar("T")


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` unchanged while drawing a bar with ``description``, count and remaining time.

    ``total`` is needed only for items without a length.
    """
    if total is None:
        total = len(items) if isinstance(items, Sized) else None
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield from bar.track(items, total=total, description=description)


@contextmanager
def bar() -> Iterator[Callable[[int, int, str], None]]:
    """A bar to call with the number of finished steps, the total, and a description."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as drawn:
        task = drawn.add_task("starting")
        yield lambda done, total, text: drawn.update(task, completed=done, total=total, description=text)


def say(message: str) -> None:
    """Print a line on stderr, above any active bar."""
    Terminal(stderr=True, soft_wrap=True).print(message, markup=False, highlight=False)
