"""Incidents and their messages, from the command line and from flows, with a server on loopback that takes them."""

import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asdcore.errors import AsdError
from asdcore.monitoring.incidents import incidents, open_incidents, run_failed
from asdcore.storage.home import Home
from flows.arrivals import arrivals
from flows.score import score

pytestmark = pytest.mark.flow

Asd = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a server, and the messages that it gets."""
    messages: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", messages
    server.shutdown()
    server.server_close()


@pytest.fixture
def plant(pump_place: Path, tmp_path: Path) -> Home:
    """A home of its own with the champion of ``pump_place``."""
    shutil.copytree(pump_place / ".asd", tmp_path / ".asd", ignore=shutil.ignore_patterns("features", "incidents.db"))
    return Home.at(tmp_path / ".asd")


def test_a_recording_that_is_scored_opens_one_incident_which_is_told_of_and_closed(
    asd: Asd, plant: Home, pump_place: Path, received: tuple[str, list[dict[str, Any]]]
) -> None:
    address, messages = received
    (plant.root / "notify.yaml").write_text(f"office:\n  type: webhook\n  url: {address}\n")
    alone = {"PREFECT_API_URL": ""}
    for _ in range(2):
        done = asd("score", pump_place / "pump" / "test", "--no-report", "--home", plant.root, **alone)
        assert done.returncode == 3, done.stderr
    (message,) = messages
    (incident,) = message["incidents"]
    assert (message["event"], incident["kind"], incident["machine"]) == ("opened", "anomaly", "pump")
    assert incident["worst"].endswith("new.wav") and "new.wav" in message["text"]
    listed = asd("incidents", "--home", plant.root, **alone)
    assert incident["id"] in listed.stdout and "new.wav" in listed.stdout, listed.stderr
    closed = asd("incidents", "close", incident["id"][:5], "--by", "anna", "--home", plant.root, **alone)
    assert closed.returncode == 0 and messages[1]["event"] == "closed", closed.stderr
    assert "No incident is open" in asd("incidents", "--home", plant.root, **alone).stdout
    assert "by anna" in asd("incidents", "--all", "--machine", "pump", "--home", plant.root, **alone).stdout


def test_a_server_that_is_down_and_a_configuration_that_is_wrong_change_nothing_of_the_answer(
    asd: Asd, plant: Home, pump_place: Path, received: tuple[str, list[dict[str, Any]]]
) -> None:
    new, alone = pump_place / "pump" / "test" / "new.wav", {"PREFECT_API_URL": ""}
    configuration = plant.root / "notify.yaml"
    configuration.write_text("office:\n  type: webhook\n  url: http://127.0.0.1:1/s3cret\n")
    done = asd("score", new, "--no-report", "--home", plant.root, **alone)
    assert done.returncode == 3 and "ANOMALOUS" in done.stdout
    assert "office did not accept a message" in done.stderr and "s3cret" not in done.stderr
    status = asd("notify", "status", "--home", plant.root, **alone)
    assert "no connection to 127.0.0.1" in status.stdout and "s3cret" not in status.stdout
    configuration.write_text("office:\n  type: pigeon\n")
    (incident,) = open_incidents(plant)
    done = asd("incidents", "close", incident.id, "--home", plant.root, **alone)
    assert done.returncode == 0 and "office: type: Input tag 'pigeon'" in done.stderr
    configuration.write_text(f"office:\n  type: webhook\n  url: {received[0]}\n")
    for what in ("test", "send"):
        done = asd("notify", what, "--home", plant.root, **alone)
        assert done.returncode == 0, done.stderr
    assert [message["event"] for message in received[1]] == ["test", "opened", "closed"]


def test_a_run_that_a_person_waits_for_opens_no_incident_and_one_that_completes_closes_it(
    prefect_api: str, plant: Home, tmp_path: Path
) -> None:
    empty = Home.at(tmp_path / "empty")
    with pytest.raises(AsdError):
        score([tmp_path], home=empty.root)
    assert open_incidents(empty) == []
    with pytest.raises(AsdError):
        arrivals(model="7", home=plant.root)
    assert open_incidents(plant) == []
    run_failed(plant, "arrivals", "a run of a worker")
    arrivals(home=plant.root)
    assert open_incidents(plant) == [] and incidents(plant)[0].closed_by == "a run that completed"
