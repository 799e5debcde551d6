"""The web application: addresses, forms, and what is said when something fails."""

import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from asdcore import __version__
from asdcore.errors import AsdError
from asdcore.monitoring.incidents import close_incident, incidents
from asdcore.recordings.catalog import LABELS
from flows.board.access import SIGN_IN, STYLE, Access, refusal
from flows.board.machines import Machines, incident_links
from flows.board.recording import Comparisons, recording_page
from flows.board.rendering import page, style
from tasks.board import Records, label
from tasks.notification import notified

MOST_FORM = 10_000
"""bytes"""
MOST_NAME = 100
"""characters of who says something"""
MOST_CLOSED = 100
"""incidents that are over, on their page"""
TO_MACHINES = ("/", "All machines")


def application(records: Records, token: str | None = None, cookie: str = "asd_board") -> Access:
    """The board of a home.

    Args:
        records: its files.
        token: see `Access`.
        cookie: see `Access`.
    """
    board = Board(records)

    async def sign_in(request: Request) -> Response:
        known = token is not None and access.knows((await _form(request)).get("token"))
        return access.signed_in() if known else page("sign_in.html", 401, wrong=True)

    async def stylesheet(_: Request) -> Response:
        return style()

    routes = [
        Route("/", board.machines),
        Route("/machines/{name:path}", board.machine),
        Route("/recordings/{digest}", board.recording),
        Route("/recordings/{digest}/label", board.label, methods=["POST"]),
        Route("/incidents", board.incidents),
        Route("/incidents/{id}/close", board.close, methods=["POST"]),
        Route(SIGN_IN, sign_in, methods=["POST"]),
        Route(STYLE, stylesheet),
    ]
    handlers: dict[Any, Callable[[Request, Exception], Response]] = {
        HTTPException: _http_error,
        AsdError: _known_error,
        OSError: _known_error,
        Exception: _unknown_error,
    }
    access = Access(Starlette(routes=routes, exception_handlers=handlers), token, cookie)
    return access


class Board:
    """The pages. Those that only read run in threads; the forms are read first, and then written in one."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.of_home = Machines(records)
        self.comparisons = Comparisons(records)

    def machines(self, request: Request) -> Response:
        return self._page("machines.html", self.of_home.all(), refresh=60)

    def machine(self, request: Request) -> Response:
        values = self.of_home.one(request.path_params["name"])
        if values is None:
            return refusal(404, "No such machine", request.path_params["name"], links=[TO_MACHINES])
        return self._page("machine.html", values, refresh=60)

    def recording(self, request: Request) -> Response:
        values = recording_page(self.records, self.comparisons, request.path_params["digest"])
        if values is None:
            return _no_such_recording()
        return self._page("recording_page.html", values)

    def incidents(self, request: Request) -> Response:
        every = incidents(self.records.home)
        over = [one for one in every if not one.is_open]
        links = incident_links(self.records.recordings(), every)
        lasting = [one for one in every if one.is_open]
        values = {"lasting": lasting, "over": over[:MOST_CLOSED], "left_out": over[MOST_CLOSED:], "links": links}
        return self._page("incidents.html", values)

    async def label(self, request: Request) -> Response:
        form, digest = await _form(request), request.path_params["digest"]
        said = form.get("label", "")
        if said not in LABELS:
            return refusal(400, "Not saved", f"{said!r} is not a label.")
        if not await run_in_threadpool(self.records.knows, digest):
            return _no_such_recording()
        await run_in_threadpool(label, self.records, digest, said, _by(form))
        return RedirectResponse(f"/recordings/{digest}#label", 303)

    async def close(self, request: Request) -> Response:
        form = await _form(request)
        await run_in_threadpool(close_incident, self.records.home, request.path_params["id"], _by(form))
        return RedirectResponse("/incidents", 303, background=BackgroundTask(notified, self.records.home))

    def _page(self, template: str, values: dict[str, Any], refresh: int = 0) -> Response:
        """``refresh``: seconds after which a browser asks again; 0: it does not."""
        usual: dict[str, Any] = {
            "problems": [],
            "simulated": "",
            "champion": None,
            "refresh": refresh,
            "asd": __version__,
        }
        usual |= {"now": datetime.now(UTC), "home": self.records.home.name}
        return page(template, **(usual | values))


def _no_such_recording() -> Response:
    return refusal(404, "No such recording", "No recording with this digest was scored.", links=[TO_MACHINES])


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form.

    Raises:
        HTTPException: it is too long.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_FORM:
            raise HTTPException(413)
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _by(form: dict[str, str]) -> str:
    """Who says it: the name in the form, in one line, or the board."""
    return (
        " ".join("".join(c if c.isprintable() else " " for c in form.get("by", "")).split())[:MOST_NAME] or "the board"
    )


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = {404: "No such page", 405: "Not possible", 413: "Too much"}.get(error.status_code, error.detail)
    return refusal(error.status_code, title, links=[TO_MACHINES])


def _known_error(request: Request, error: Exception) -> Response:
    said = str(error) if isinstance(error, AsdError) else f"{error.__class__.__name__}: {error}"
    return refusal(503, "Not now", said, links=[TO_MACHINES])


def _unknown_error(request: Request, error: Exception) -> Response:
    traceback.print_exception(error, file=sys.stderr)
    return refusal(500, "Something went wrong", f"{type(error).__name__}: {error}", links=[TO_MACHINES])
