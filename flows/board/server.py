"""The server of the board: a socket, an address to open, an end within a second of Ctrl-C."""

import gc
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import uvicorn

from asdcore.errors import AsdError
from asdcore.storage.home import Home
from flows.environment import LOOPBACK_NAMES

if TYPE_CHECKING:
    from tasks.board import Records

TOKEN = "ASD_BOARD_TOKEN"  # nosec B105 # Its name.
"""Environment variable: the access token."""
NOT_ENCRYPTED = "HTTP is not encrypted: outside a network that you trust, put a proxy with TLS in front."
SECONDS_TO_WARM_UP = 2.0
SHORTEST_TOKEN = 12
"""characters"""
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # nosec B104 # To be told what to open.
"""addresses that stand for all of a machine, and one of them that a browser here can open"""


def serve(home: Home, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve the board of a home until Ctrl-C.

    Args:
        home: what it shows.
        host: address to listen on; any but loopback requires the access token, which is made here unless `TOKEN` has
            one.
        port: 0: any free one.
        say: called with the address to open.

    Raises:
        AsdError: the address or port cannot be listened on, or the token is too short.
    """
    token = access_token(host)
    listening = _listening(host, port)
    # systemd and containers stop a program this way.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        port = listening.getsockname()[1]
        shown = _EVERYWHERE.get(host, host)
        address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
        # A token from the environment is not printed: under systemd, output goes to a log that others may read.
        made = token if token != os.environ.get(TOKEN) else None
        say(f"{address}?token={quote(made, safe='')}" if made else address)
        if token and not made:
            say(f"It asks for the access token, which is that of {TOKEN}.")
        if host not in LOOPBACK_NAMES:
            say(f"Anyone who has the token can listen to your recordings. {NOT_ENCRYPTED}")
        say("Ctrl-C stops it.")
        _run(home, listening, token, f"asd_board_{port}")
    finally:
        listening.close()


def _run(home: Home, listening: socket.socket, token: str | None, cookie: str) -> None:
    """Answer requests. Those that come during the imports, which take two seconds, wait in the socket."""
    from flows.board.app import application
    from tasks.board import Records

    records = Records(home)
    config = uvicorn.Config(
        application(records, token, cookie),
        lifespan="off",
        # The first address has the token in it.
        access_log=False,
        log_level="error",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    # So that nobody has to wait for PyTorch and the detector; after the first page, which needs neither.
    warm_up = threading.Timer(SECONDS_TO_WARM_UP, _warm_up, (records,))
    warm_up.daemon = True
    warm_up.start()
    uvicorn.Server(config).run(sockets=[listening])


def _warm_up(records: "Records") -> None:
    with suppress(AsdError, OSError):  # A page says what is wrong.
        records.recordings()
        records.detector()
    gc.freeze()  # What is loaded now lives as long as the program: nothing to look through when it ends.


def access_token(host: str) -> str | None:
    """The token that the board of this address asks for: that of the environment, else a new one; None on loopback."""
    token = os.environ.get(TOKEN, "")
    if token and len(token) < SHORTEST_TOKEN:
        raise AsdError(f"{TOKEN} has {len(token)} characters: it needs at least {SHORTEST_TOKEN}, hard to guess")
    if token or host in LOOPBACK_NAMES:
        return token or None
    return secrets.token_urlsafe(16)


def _listening(host: str, port: int) -> socket.socket:
    try:
        ((family, *_, address), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        raise AsdError(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose another one, or port 0 for any free one"
        ) from error
    return listening
