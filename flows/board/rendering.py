"""Pages from templates: those of the board, which share style and pieces with the reports."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from starlette.responses import HTMLResponse, Response

_TEMPLATES = Path(__file__).with_name("templates")


def page(template: str, status: int = 200, **values: Any) -> Response:
    """The page of a template; every value is escaped, but for `markupsafe.Markup`."""
    return HTMLResponse(_environment().get_template(template).render(values), status)


def style() -> Response:
    """The style sheet: that of the reports, and what the board adds."""
    return Response(_style(), media_type="text/css")


@cache
def _style() -> str:
    from asdcore.reports.page import TEMPLATES

    return "\n".join(file.read_text(encoding="utf-8") for file in (TEMPLATES / "style.css", _TEMPLATES / "board.css"))


@cache
def _environment() -> jinja2.Environment:
    from asdcore.reports.page import template_environment

    environment = template_environment(_TEMPLATES)
    environment.filters |= {"ago": ago, "local": local, "machine_url": machine_url}
    return environment


def machine_url(name: str) -> str:
    """Where the page of a machine is, whatever its name.

    >>> machine_url("pump 7/a?")
    '/machines/pump%207%2Fa%3F'
    """
    return f"/machines/{quote(name, safe='')}"


def local(time: datetime) -> str:
    """A time by the clock of this machine."""
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


def ago(time: datetime, now: datetime | None = None) -> str:
    """How long ago a time was.

    >>> ago(datetime(2026, 5, 1, 10, tzinfo=UTC), datetime(2026, 5, 1, 13, 20, tzinfo=UTC))
    '3 h ago'
    """
    seconds = ((now or datetime.now(UTC)) - time).total_seconds()
    for unit, name in ((86_400 * 2, "days"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            length = 86_400 if name == "days" else unit
            return f"{int(seconds // length)} {name} ago"
    return "just now"
