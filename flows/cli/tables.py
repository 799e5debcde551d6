"""Tables for the terminal."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from asdcore.terminal import Terminal
from flows.cli.console import out


def print_table(
    header: list[str], rows: Sequence[Sequence[str | Text]], right: Iterable[int] = (), title: str | None = None
) -> None:
    """Print a table as wide as it is: a line that is longer than the terminal can still be read, a folded one not.

    Nothing is printed where standard output has the table as data, see `flows.cli.output`.
    """
    if out.stderr:
        return
    drawn = table(header, rows, right, title)
    width = Measurement.get(out, out.options.update(max_width=10_000), drawn).maximum
    Terminal(width=max(out.width, width), highlight=False, markup=False).print(drawn)


def table(
    header: list[str], rows: Sequence[Sequence[str | Text]], right: Iterable[int] = (), title: str | None = None
) -> Table:
    """A table in which a first cell that repeats the one above is left empty."""
    drawn = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for index, name in enumerate(header):
        drawn.add_column(name, justify="right" if index in right else "left", overflow="fold")
    above = None
    for first, *rest in rows:
        drawn.add_row("" if first == above else _one_line(first), *map(_one_line, rest))
        above = first
    return drawn


def _one_line(cell: str | Text) -> str | Text:
    """Without line breaks: one in the name of a file would look like another row."""
    return cell.replace("\n", r"\n") if isinstance(cell, str) else cell
