"""Who may see the board, and what a browser may do with its pages."""

import secrets
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.board.rendering import page
from flows.environment import LOOPBACK_NAMES

SIGN_IN = "/sign-in"
STYLE = "/board.css"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; media-src data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: with it a browser hides the origin of a form, which `same_origin` needs.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SAFE = frozenset({"GET", "HEAD"})
_DAYS = 30
"""that a browser keeps the token"""


class Access:
    """Lets through what may see the board, and answers the rest; adds `HEADERS` to every answer.

    Without a token, only requests to a name of this machine are answered: a page of another site that has pointed its
    own name to 127.0.0.1 (DNS rebinding) gets nothing. With one, the first request brings it in the address or in the
    form of `SIGN_IN`, and a cookie from then on. Whatever changes something has to come from a page of the board.

    Args:
        app: what is protected.
        token: None: none is needed.
        cookie: its name; boards on several ports of one machine need several.
    """

    def __init__(self, app: ASGIApp, token: str | None, cookie: str = "asd_board") -> None:
        self.app, self.token, self.cookie = app, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = self._answer(Request(scope, receive)) or self.app
        await answer(scope, receive, send_with_headers)

    def _answer(self, request: Request) -> Response | None:
        """What is answered instead of the page; None: the page."""
        if self.token is None and _name_of_server(request) not in LOOPBACK_NAMES:
            return refusal(
                403,
                "Not under this name",
                f"This board answers to {', '.join(sorted(LOOPBACK_NAMES))} only. To reach it under another name, such "
                "as that of a proxy, set ASD_BOARD_TOKEN before it starts.",
            )
        if request.method not in _SAFE and not same_origin(request):
            return refusal(
                403, "Not from here", "Nothing was changed: the request did not come from a page of this board."
            )
        # Not request.url: older versions of Starlette read it from the header Host, which may name any path.
        is_open = self.token is None or request.scope["path"] in (SIGN_IN, STYLE)
        if is_open or self.knows(request.cookies.get(self.cookie)):
            return None
        if request.method == "GET" and self.knows(request.query_params.get("token")):
            return self.signed_in(request.scope["path"])
        return page("sign_in.html", 401, wrong="token" in request.query_params)

    def knows(self, token: str | None) -> bool:
        """Whether it is the token, in a time that does not say how much of it is right."""
        return token is not None and secrets.compare_digest(token.encode(), (self.token or "").encode())

    def signed_in(self, path: str = "/") -> Response:
        """A page that keeps the token and goes on to a page of the board.

        Not a redirect: in a chain that began at another site, such as a link in a message, no browser sends the cookie.
        """
        # One slash: two would lead to another site.
        answer = page("signed_in.html", path=quote("/" + path.lstrip("/\\")))
        answer.set_cookie(
            self.cookie, self.token or "", max_age=_DAYS * 86_400, path="/", httponly=True, samesite="strict"
        )
        return answer


def same_origin(request: HTTPConnection) -> bool:
    """Whether a browser says that the request comes from a page of this server."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    # Over http, and older browsers, say the origin only.
    host = request.headers.get("host", "")
    return request.headers.get("origin") in (f"http://{host}", f"https://{host}")


def _name_of_server(request: HTTPConnection) -> str:
    """As the browser knows it. Starlette's own is the address of the socket if the header is not plausible."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def refusal(status: int, title: str, *sentences: str, links: Iterable[tuple[str, str]] = ()) -> Response:
    """A page that says what is wrong."""
    return page("error.html", status, title=title, sentences=sentences, links=links)
