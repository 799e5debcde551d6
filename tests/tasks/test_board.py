"""The board does not wait at every page for a registry or a bucket that does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from asdcore.errors import AsdError
from asdcore.storage.home import Home
from tasks import board
from tasks.board import Records


class Silent:
    """A server that is asked for an hour before it is known not to answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.asked = 0.0, 0
        monkeypatch.setattr(board, "time", SimpleNamespace(monotonic=lambda: self.seconds))

    @contextmanager
    def __call__(self, *_: object) -> Iterator[None]:
        self.asked += 1
        self.seconds += 3600
        raise AsdError("no answer")
        yield


def test_a_registry_that_does_not_answer_is_asked_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Silent(monkeypatch)
    monkeypatch.setattr(board, "registered_folder", silent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    records = Records(Home.at(tmp_path))
    for asked in (1, 1, 2):
        with pytest.raises(AsdError, match="no answer"):
            records.champion()
        assert silent.asked == asked
        silent.seconds += 40


def test_a_bucket_that_does_not_answer_is_asked_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Silent(monkeypatch)
    monkeypatch.setattr(Home, "address", "s3://plant/asd")
    monkeypatch.setattr(Home, "synchronised", silent)
    monkeypatch.setattr(Home, "fetch_folder", lambda *_: None)
    records = Records(Home.at(tmp_path))
    with pytest.raises(AsdError, match="no answer"):
        records.recordings()
    silent.seconds += 40
    assert records.recordings().empty
    assert silent.asked == 1
