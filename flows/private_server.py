"""A Prefect server for a single command, if the user has named none."""

import errno
import os
import socket
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import IO, TYPE_CHECKING
from urllib.error import URLError

from asdcore.errors import AsdError
from asdcore.storage.files import disk_remedies, is_full
from asdcore.storage.home import Home, without_userinfo
from flows import leashed
from flows.prefect_database import check_prefect_database

if TYPE_CHECKING:
    import subprocess

LOOPBACK = "127.0.0.1"
SECONDS_TO_START = 90
LEAST_SPACE = 5_000_000
"""bytes that Prefect's database needs at first, and a little more"""
SECONDS_TO_SEND = 10
"""for log lines and events that are still on their way to the server when a flow has ended"""


@contextmanager
def prefect_server(home: Home) -> Iterator[None]:
    """Provide a Prefect server for the flows of the block: the one that is configured, else a private one.

    Prefect would start one itself, but in a process that Ctrl-C in the terminal ends before the flow, which then waits
    two minutes for it; and it would not say why a server does not start.

    Raises:
        AsdError: the server does not start, or the one that is configured does not answer.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if named := PREFECT_API_URL.value():
        try:
            yield
        except RuntimeError as error:
            if not str(error).startswith("Failed to reach API"):
                raise
            raise AsdError(
                f"no Prefect server answers at {without_userinfo(named)}, as PREFECT_API_URL says: start it, such as "
                "with `asd ui`, or unset the variable"
            ) from error
        return
    check_prefect_database(home)
    _check_space(home)
    with tempfile.TemporaryFile() as log:
        port = _free_port()
        server = leashed.start(_command(port), os.environ | _VARIABLES, None if os.environ.get("ASD_DEBUG") else log)
        try:
            _wait(server, port, log, home)
            with temporary_settings({PREFECT_API_URL: f"http://{LOOPBACK}:{port}/api"}):
                try:
                    yield
                finally:
                    _send_the_rest()
        finally:
            leashed.stop(server)


_NOT_NEEDED = (
    *("SCHEDULER", "LATE_RUNS", "FOREMAN", "CANCELLATION_CLEANUP"),
    *("PAUSE_EXPIRATIONS", "REPOSSESSOR", "CLEANUP_RECONCILER"),
)
"""Services of Prefect that serve deployments and workers."""
_VARIABLES = {
    "PREFECT_UI_ENABLED": "0",
    # As Prefect sets it for a server that it starts itself. Not PREFECT__SERVER_EPHEMERAL: such a server never deletes
    # old flow runs, and that of `asd watch` runs for a year.
    "PREFECT__SERVER_FINAL": "1",
    **{f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false" for service in _NOT_NEEDED},
    # The reason why it does not start, which `_wait` reports.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR",
}


def _command(port: int) -> list[str]:
    options = ["--host", LOOPBACK, "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    return ["uvicorn", "--factory", "prefect.server.api.server:create_app", *options]


def _free_port() -> int:
    with closing(socket.socket()) as attempt:
        attempt.bind((LOOPBACK, 0))
        return int(attempt.getsockname()[1])


def _wait(server: "subprocess.Popen[bytes]", port: int, log: IO[bytes], home: Home) -> None:
    # Whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + float(
        os.environ.get("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", SECONDS_TO_START)
    )
    while time.monotonic() < until and server.poll() is None:
        try:
            with opener.open(f"http://{LOOPBACK}:{port}/api/health", timeout=5):
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    _check_space(home)
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    why = "it did not answer in time" if server.poll() is None else "it has ended"
    raise AsdError(f"Prefect's server did not start: {why}. The end of its log: " + " / ".join(lines[-3:] or ["none"]))


def _check_space(home: Home) -> None:
    """Refuse a full disk: the server would start there, and answer with internal errors."""
    if is_full(home.root, LEAST_SPACE):
        with disk_remedies(home.root):
            raise OSError(errno.ENOSPC, "")


def _send_the_rest() -> None:
    """Let Prefect's threads send what they still have for the server, while it runs."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=SECONDS_TO_SEND)
    EventsWorker.drain_all(timeout=SECONDS_TO_SEND)
