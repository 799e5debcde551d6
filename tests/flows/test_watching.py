"""When a file has arrived."""

from pathlib import Path

import pytest

from flows.watching import Arriving


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_file_has_arrived_when_it_has_not_changed_for_a_while_and_only_once(tmp_path: Path, clock: Clock) -> None:
    file, arriving = tmp_path / "a.wav", Arriving(10, clock)
    file.write_bytes(b"begin")
    arriving.look([file])
    assert arriving.arrived() == []
    for content in (b"beginning", b"beginning and more"):
        clock.now += 9
        file.write_bytes(content)
        arriving.look([file])
        assert arriving.arrived() == []
    clock.now += 9
    assert arriving.arrived() == []
    clock.now += 1
    assert arriving.arrived() == [file]
    clock.now += 100
    assert arriving.arrived() == []


def test_a_file_that_grows_again_after_it_had_arrived_arrives_again(tmp_path: Path, clock: Clock) -> None:
    file, arriving = tmp_path / "a.wav", Arriving(1, clock)
    for content in (b"first", b"second"):
        file.write_bytes(content)
        arriving.look([file])
        arriving.arrived()
        clock.now += 1
        assert arriving.arrived() == [file]


def test_a_file_that_is_gone_before_it_was_whole_is_forgotten(tmp_path: Path, clock: Clock) -> None:
    file, arriving = tmp_path / "a.wav", Arriving(1, clock)
    file.write_bytes(b"begin")
    arriving.look([file])
    file.unlink()
    clock.now += 5
    assert arriving.arrived() == []
