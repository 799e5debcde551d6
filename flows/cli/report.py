"""The command that reports what was scored since a time."""

from datetime import datetime
from typing import Annotated

import typer

from flows.cli.console import out
from flows.cli.options import HomeOption, ModelOption, since_of
from flows.cli.startup import imports, start


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
    now = datetime.now().astimezone()
    begin = since_of(since, now) if since is not None else now.replace(hour=0, minute=0, second=0, microsecond=0)
    place = start(home)
    with imports():
        from tasks.registered import load_detector
        from tasks.reports import day_page

    with place.synchronised(out.print):
        page = day_page(place, *load_detector(place, model), begin)
    if not page:
        raise typer.Exit(1)
    out.print(f"Report: {page}")
