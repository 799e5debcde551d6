"""The Prefect and MLflow servers of a home, on loopback."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from asdcore import progress
from asdcore.errors import AsdError
from asdcore.storage.files import disk_remedies
from asdcore.storage.home import Home, without_userinfo
from flows import leashed
from flows.prefect_database import check_prefect_database
from tasks.notification import SECONDS_BETWEEN_MESSAGES, Every, notified

LOOPBACK = "127.0.0.1"
SECONDS_TO_START = 120


def serve(home: Home, prefect_port: int, mlflow_port: int, say: Callable[[str], None]) -> None:
    """Start both servers, say where they are once they answer, and stop both on Ctrl-C or when one of them ends.

    Raises:
        AsdError: a port is taken, or a server does not come up.
    """
    with disk_remedies(home.root):
        home.root.mkdir(parents=True, exist_ok=True)
        home.mlartifacts.mkdir(exist_ok=True)
    check_prefect_database(home)
    prefect, mlflow = _free(prefect_port), _free(mlflow_port)
    environment = os.environ | {
        "PREFECT_HOME": str(home.prefect),
        # Not as an argument: it may hold a password.
        "MLFLOW_BACKEND_STORE_URI": home.mlflow_uri,
        # Where a browser finds the API: not here, if it comes through a proxy.
        "PREFECT_UI_API_URL": os.environ.get("PREFECT_UI_API_URL", f"http://{LOOPBACK}:{prefect}/api"),
        # In memory, as by default, a restart would forget who holds the one slot of a deployment: minutes later the run
        # that held it is cancelled, and where that one died too, no other one ever starts.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    commands = {
        f"http://{LOOPBACK}:{prefect}": ["prefect", "server", "start", "--host", LOOPBACK, "--port", str(prefect)],
        f"http://{LOOPBACK}:{mlflow}": [
            *("mlflow", "server", "--host", LOOPBACK, "--port", str(mlflow), "--workers", "1"),
            *("--artifacts-destination", home.mlartifacts.as_uri()),
        ],
    }
    if home.mlflow_uri.startswith(("http:", "https:")):
        del commands[f"http://{LOOPBACK}:{mlflow}"]
        say(f"{'mlflow':8} {home.registry_name}, as MLFLOW_TRACKING_URI says")
    # systemd and containers stop a program this way; without it the servers would live on.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    say("Starting the servers; this takes about half a minute.")
    logs = home.root / "logs"
    with disk_remedies(logs):
        logs.mkdir(exist_ok=True)
    servers = {}
    try:
        for url, command in commands.items():
            file = logs / f"{command[0]}-server.log"
            if file.exists():  # What it said before a restart.
                file.replace(file.with_suffix(".log.1"))
            with file.open("wb") as log:
                servers[url] = leashed.start(command, environment, log)
        for url, server in servers.items():
            _wait(url, server, logs)
        for url, command in commands.items():
            say(f"{command[0]:8} {url}")
        say(f"To run flows against this server: export PREFECT_API_URL=http://{LOOPBACK}:{prefect}/api")
        say("Ctrl-C stops both.")
        # In a process of its own: in this one, MLflow's modules would take up memory as long as the servers run.
        logging = multiprocessing.get_context("spawn").Process(target=_log_drift, args=(home,), daemon=True)
        logging.start()
        logging.join()
        messages = Every(SECONDS_BETWEEN_MESSAGES)
        while all(server.poll() is None for server in servers.values()):
            time.sleep(0.5)
            if messages.due():
                notified(home)
        raise AsdError(f"a server has ended; its last words are in {logs}")
    finally:
        leashed.stop(*servers.values())


def _log_drift(home: Home) -> None:
    """Show in MLflow what `asd score` has found while there was no server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the servers; it goes to every process of a terminal.
    from tasks.publishing import log_drift

    try:
        log_drift(home)
    except Exception as error:
        progress.say(f"drift over time is not in MLflow: {type(error).__name__}: {without_userinfo(error)}")


def _free(port: int) -> int:
    with socket.socket() as attempt:
        try:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind((LOOPBACK, port))
        except OSError as error:
            raise AsdError(f"port {port} is taken; choose another one, or 0 for any free one") from error
        return int(attempt.getsockname()[1])


def _wait(url: str, server: "subprocess.Popen[bytes]", logs: object) -> None:
    # Whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until:
        if server.poll() is not None:
            break
        try:
            with opener.open(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    raise AsdError(f"the server for {url} did not start; see {logs}")
