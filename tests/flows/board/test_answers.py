"""`asd score` where its answer cannot be written: the exit code and the messages stand."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asdcore.storage.home import Home
from tests.asdcore.notification.conftest import Receiver
from tests.asdcore.reports.conftest import Plant
from tests.flows.board.conftest import notify_by


@pytest.mark.parametrize(("where", "options"), [("a full disk", ["--json"]), ("a pipe that nobody reads", [])])
def test_an_alarm_is_told_of_and_keeps_its_exit_code_wherever_the_answer_was_to_go(
    home: Home, plant: Plant, receiver: Receiver, tmp_path: Path, where: str, options: list[str]
) -> None:
    own = Home.at(shutil.copytree(home.root, tmp_path / "home", ignore=shutil.ignore_patterns("incidents.db*")))
    notify_by(receiver, own)
    recording = plant.recording("pump/test/new.wav", 300 + len(where) + len(options), 1.0)
    command = [sys.executable, "-m", "flows.cli", "score", str(recording), "--no-report", *options]
    if where == "a full disk":
        place = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, place = os.pipe()
        os.close(reader)
    done = subprocess.run(
        command,
        env=os.environ | {"ASD_HOME": str(own.root)},
        stdout=place,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(place)
    assert done.returncode == 3, done.stderr
    assert "alarm: pump" in done.stderr and "Traceback" not in done.stderr
    assert len(receiver.requests) == 1
