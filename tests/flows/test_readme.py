"""What README and docs tell people to type, letter by letter."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asdcore.detector import Detector

pytestmark = pytest.mark.flow

ROOT = Path(__file__).parents[2]
SERVING = (ROOT / "docs" / "how-to" / "serving.md").read_text()
README_LINES = 120
SECONDS_TO_START = 240


def environment() -> dict[str, str]:
    """As after ``. .venv/bin/activate``."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}


def the_line(pattern: str) -> str:
    (line,) = re.findall(f"^{pattern}.*$", SERVING, re.MULTILINE)
    return str(line)


def typed(line: str, place: Path) -> str:
    """What a line prints that is typed in ``place``."""
    done = subprocess.run(line, shell=True, cwd=place, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def score(pump_place: Path) -> float:
    """Of ``pump/test/new.wav``, by the champion."""
    (folder,) = (pump_place / ".asd" / "runs" / "detectors").iterdir()
    table = Detector.load(folder).score([pump_place / "pump" / "test" / "new.wav"])
    return float(table["score"].iloc[0])


@pytest.fixture(scope="module")
def port(pump_place: Path) -> Iterator[int]:
    """Of a server started with the line of the docs, but for the port: 5002 may be taken."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    line = the_line("MLFLOW_TRACKING_URI=.* mlflow models serve")
    assert "--host 127.0.0.1" in line and "--port 5002" in line
    log = pump_place / "server.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            line.replace("--port 5002", f"--port {port}"),
            shell=True,
            cwd=pump_place,
            env=environment(),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + SECONDS_TO_START
        while subprocess.run(["curl", "-sf", f"http://127.0.0.1:{port}/ping"], capture_output=True).returncode:
            assert server.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.5)
        yield port
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def test_the_line_that_scores_from_the_registry_works(pump_place: Path, score: float) -> None:
    printed = typed(the_line("MLFLOW_TRACKING_URI=.* python -c"), pump_place)
    (row,) = [line.split() for line in printed.splitlines() if re.search(r"\bpump\b", line)]
    assert float(row[2]) == pytest.approx(score, rel=1e-4)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize("line", ["curl http://127", r"python -c .*\| curl http://127"], ids=["path", "samples"])
def test_curl_gets_the_score_of_a_wav_from_the_served_champion(
    pump_place: Path, port: int, score: float, line: str
) -> None:
    printed = typed(the_line(line).replace(":5002/", f":{port}/"), pump_place)
    (row,) = json.loads(printed)["predictions"]
    assert (row["machine"], row["decision"], row["triggered_by"], row["reason"]) == ("pump", 1.0, "spectrum", "")
    assert row["score"] == pytest.approx(score, rel=1e-6)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_is_told_the_enrolled_machines_where_it_names_another(pump_place: Path, port: int) -> None:
    line = the_line("curl http://127").replace(":5002/", f":{port}/").replace('"machine": "pump"', '"machine": "fan"')
    printed = typed(line, pump_place)
    assert "machine 'fan' is not enrolled; this detector knows pump" in printed
    assert "Traceback" not in printed


def test_the_readme_is_short_and_every_file_that_it_names_is_there() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= README_LINES
    named = re.findall(r"\]\(([^)#:]+)\)", readme)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
