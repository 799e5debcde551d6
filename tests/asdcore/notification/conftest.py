"""Servers on loopback that take messages, a certificate authority, and incidents to tell of."""

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from asdcore.monitoring.incidents import Incident
from asdcore.notification.message import Message
from asdcore.storage.home import Home

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@dataclass
class Receiver:
    """An HTTP server that answers with the next of ``answers``, or else with 204."""

    port: int = 0
    answers: list[int] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    """headers, body"""
    server: http.server.ThreadingHTTPServer | None = None

    def start(self, context: ssl.SSLContext | None = None) -> "Receiver":
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = receiver.answers.pop(0) if receiver.answers else 204
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver().start()
    yield receiver
    receiver.stop()


@dataclass
class Certificates:
    """Of a server on loopback, and of the authority that signed it."""

    server: ssl.SSLContext
    ca: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    ca = tmp_path_factory.mktemp("certificates") / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    return Certificates(context, ca)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def incident(machine: str = "pump", name: str = "0a1b2c3d", closed: datetime | None = None) -> Incident:
    return Incident(
        name,
        "anomaly",
        machine,
        machine,
        opened=NOON,
        last_seen=NOON,
        recordings=1,
        sentence="1 recording anomalous",
        worst="/data/a.wav",
        worst_p_value=0.01,
        closed=closed,
        closed_by="anna" if closed else "",
    )


@pytest.fixture
def message() -> Message:
    return Message("msg1", "opened", NOON, "/home/asd", (incident(),), (incident(),))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path / "home")
