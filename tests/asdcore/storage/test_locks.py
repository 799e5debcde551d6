"""The two locks of a home, between processes."""

import os
import time
from pathlib import Path

import pytest

from asdcore.storage.home import Home
from tests.asdcore.storage.processes import SECONDS, kill, line, start

LOCK = """
import sys, time
from asdcore.storage.home import Home
with Home.at(sys.argv[1]).lock(lambda words: print(words, flush=True)):
    print("inside", flush=True)
    time.sleep(float(sys.argv[2]))
print("done", flush=True)
"""


def test_a_second_process_waits_says_for_whom_and_goes_on_when_the_first_is_killed(tmp_path: Path) -> None:
    first = start(LOCK, tmp_path, 60)
    assert line(first) == "inside"
    second = start(LOCK, tmp_path, 0)
    assert line(second) == f"waiting for process {first.pid}, which is using {tmp_path}"
    time.sleep(0.3)
    assert second.poll() is None
    kill(first)
    assert second.communicate(timeout=SECONDS)[0].split() == ["inside", "done"]
    assert second.returncode == 0


def test_a_second_process_goes_on_when_the_first_is_done(tmp_path: Path) -> None:
    with Home.at(tmp_path).lock():
        second = start(LOCK, tmp_path, 0)
        assert line(second) == f"waiting for process {os.getpid()}, which is using {tmp_path}"
    assert second.communicate(timeout=SECONDS)[0].split() == ["inside", "done"]


def test_the_same_process_may_take_the_lock_again_and_keeps_it_to_the_outer_end(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    with home.lock(pytest.fail):
        with Home.at(tmp_path).lock(pytest.fail):
            pass
        second = start(LOCK, tmp_path, 0)
        assert line(second).startswith("waiting for")
    assert second.communicate(timeout=SECONDS)[0].split() == ["inside", "done"]


def test_an_exception_frees_the_lock(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Home.at(tmp_path).lock():
        raise RuntimeError
    second = start(LOCK, tmp_path, 0)
    assert second.communicate(timeout=SECONDS)[0].split() == ["inside", "done"]


TABLE = LOCK.replace(".lock(", ".lock_table(")
BOTH = """
import sys
from asdcore.storage.home import Home
home = Home.at(sys.argv[1])
with home.lock(print):
    print("home", flush=True)
    sys.stdin.readline()
    with home.lock_table(lambda words: print(words, flush=True)):
        print("both", flush=True)
"""


def test_the_table_of_recordings_changes_while_the_home_is_used(tmp_path: Path) -> None:
    training = start(LOCK, tmp_path, 60)
    assert line(training) == "inside"
    with Home.at(tmp_path).lock_table(pytest.fail):
        ingest = start(TABLE, tmp_path, 0)
        assert (
            line(ingest)
            == f"waiting for process {os.getpid()}, which is changing the table of recordings in {tmp_path}"
        )
    assert ingest.communicate(timeout=SECONDS)[0].split() == ["inside", "done"]
    assert training.poll() is None
    kill(training)


def test_who_uses_the_home_waits_for_who_changes_the_table_and_goes_on_if_that_one_is_killed(tmp_path: Path) -> None:
    ingest = start(TABLE, tmp_path, 60)
    assert line(ingest) == "inside"
    both = start(BOTH, tmp_path)
    assert line(both) == "home"
    assert both.stdin is not None
    both.stdin.write("\n")
    both.stdin.flush()
    assert line(both) == f"waiting for process {ingest.pid}, which is changing the table of recordings in {tmp_path}"
    kill(ingest)
    assert both.communicate(timeout=SECONDS)[0].split() == ["both"]


def test_who_has_only_the_table_must_not_wait_for_the_home(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    with home.lock_table():
        with pytest.raises(RuntimeError, match="before that of its table"), home.lock():
            pytest.fail("two processes could wait for each other")
        with pytest.raises(RuntimeError, match="before that of its table"), home.lock_if_free():
            pytest.fail("two processes could wait for each other")
    with home.lock(pytest.fail), home.lock_table(pytest.fail), home.lock(pytest.fail), home.lock_table(pytest.fail):
        assert Home.current() == home


def test_the_home_is_locked_if_it_is_free_and_otherwise_it_is_said_who_uses_it(tmp_path: Path) -> None:
    home, other = Home.at(tmp_path), start(LOCK, tmp_path, 60)
    assert line(other) == "inside"
    with home.lock_if_free(pytest.fail) as busy:
        assert busy == f"process {other.pid}"
        with home.lock_table(pytest.fail), pytest.raises(RuntimeError), home.lock():
            pytest.fail("the home is not locked here")
    kill(other)
    with home.lock_if_free(pytest.fail) as busy, home.lock(pytest.fail):
        assert busy == "" and Home.current() == home
        second = start(LOCK, tmp_path, 0)
        assert line(second).startswith(f"waiting for process {os.getpid()}")
    assert second.communicate(timeout=SECONDS)[0].split() == ["inside", "done"]


@pytest.mark.parametrize("folder", ["features", "runs"])
def test_a_sweep_leaves_what_is_being_written_to_the_table_of_recordings(tmp_path: Path, folder: str) -> None:
    home = Home.at(tmp_path)
    writing, left = home.recordings / ".part-1.partial", home.root / folder / "a" / ".left.partial"
    for path in (writing, left):
        path.parent.mkdir(parents=True)
        path.touch()
    with home.lock():
        assert home.sweep() == 1
    assert writing.exists() and not left.exists()
