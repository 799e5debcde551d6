"""The command that reports what was scored since a time."""

import re
from datetime import datetime, timedelta
from typing import Annotated

import typer

from flows.cli.console import out
from flows.cli.options import HomeOption, ModelOption
from flows.cli.startup import imports, start

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def report(
    since: Annotated[
        str | None,
        typer.Option(
            help="A time such as 2026-05-01 or 2026-05-01T06:00, or how long ago: 90m, 12h, 7d, 2w; default: midnight "
            "today",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = "champion",
    home: HomeOption = None,
) -> None:
    """Write an HTML report about everything that was scored since a time, by `asd watch`, a schedule or `asd score`."""
    begin = since_of(since, datetime.now().astimezone())
    place = start(home)
    with imports():
        from tasks.registered import load_detector
        from tasks.reports import day_page

    with place.synchronised(out.print):
        page = day_page(place, *load_detector(place, model), begin)
    if not page:
        raise typer.Exit(1)
    out.print(f"Report: {page}", highlight=False, markup=False)


def since_of(text: str | None, now: datetime) -> datetime:
    """The time that a person means.

    Raises:
        typer.BadParameter: it is not a time, or in the future.
    """
    if text is None:
        return now.replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        if ago := re.fullmatch(r"(\d+)\s*([mhdw])", text.strip()):
            begin = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            begin = datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"--since {text!r} is not a time; write 2026-05-01, 2026-05-01T06:00, or how long ago: 90m, 12h, 7d, 2w"
        ) from None
    if begin > now:
        raise typer.BadParameter(f"--since {text!r} is in the future")
    return begin
