"""What a folder holds besides recordings that can be read: the others are still found."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asdcore.errors import AsdError
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.listing import audio_files, summed_up
from asdcore.recordings.names import contents_of, find_recordings
from asdcore.screening import screen
from asdcore.settings import RecordingSettings
from asdcore.storage.files import digest_of_file


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Root is not, so another user runs the block."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may read, but for some of what is in it."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        touch(place / "pump" / "a.wav", place / "fan" / "a.wav", place / "closed" / "a.wav", place / "open" / "a.wav")
        touch(place / "open" / "below" / "a.wav", place / "lost+found" / "a.wav")
        closed = {place / "closed": 0, place / "open": 0o444, place / "lost+found": 0, place / "pump" / "a.wav": 0}
        for path, mode in closed.items():
            path.chmod(mode)
        yield place
        for path in closed:
            path.chmod(0o755)


def test_what_may_not_be_read_does_not_stop_the_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Catalog, "append", lambda self, rows: None)  # The user of this test may write nowhere.
    with bound_by_permissions():
        recordings, left_out, _ = contents_of(place)
        reasons = Catalog(place / "none").ingest(recordings, RecordingSettings()).quarantined
    assert [str(one.path.relative_to(place)) for one in recordings] == ["fan/a.wav", "open/a.wav", "pump/a.wav"]
    said = [f"the folder {place / name} cannot be listed (Permission denied)" for name in ("closed", "open/below")]
    assert summed_up(left_out) == [f"{line}: check its permissions" for line in said]
    denied = {name for name, reason in reasons.items() if reason == "unreadable: Permission denied"}
    assert denied == {str(place / "open" / "a.wav"), str(place / "pump" / "a.wav")}


def test_a_manifest_that_cannot_be_read_is_not_taken_for_none(place: Path) -> None:
    manifest = place / "manifest.csv"
    manifest.touch(mode=0)
    with bound_by_permissions(), pytest.raises(AsdError, match=r"manifest\.csv: cannot be read \(Permission denied"):
        find_recordings(place)
    manifest.unlink()
    manifest.symlink_to("a share that is not mounted")
    with pytest.raises(AsdError, match=r"manifest\.csv: cannot be read \(No such file"):
        find_recordings(place)


def test_a_place_that_cannot_be_reached_is_named(place: Path) -> None:
    with bound_by_permissions(), pytest.raises(AsdError, match=r"below: cannot be reached \(Permission denied\)"):
        find_recordings(place / "open" / "below")


def test_a_pipe_or_a_device_is_never_read(tmp_path: Path) -> None:
    place = tmp_path / "place"
    touch(place / "pump" / "a.wav")
    os.mkfifo(tmp_path / "pipe")
    for name, target in {"pipe": tmp_path / "pipe", "zero": Path("/dev/zero"), "broken link": Path("nowhere")}.items():
        (place / "pump" / f"{name}.wav").symlink_to(target)
    # A link to nothing is kept: it is quarantined as unreadable.
    assert [path.name for path in audio_files(place).files] == ["a.wav", "broken link.wav"]
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            digest_of_file(path)
    (place / "manifest.csv").write_text("path,machine\n../pipe,pump\n/dev/zero,pump\n")
    assert set(screen(place)["reason"]) == {"unreadable: not a regular file"}


def test_what_file_systems_and_network_storage_keep_is_left_out(tmp_path: Path) -> None:
    for name in ("lost+found", "#snapshot", "@Recycle", "RECYCLER", ".Trash-1000", "#3 pump", "@pump"):
        touch(tmp_path / name / "a.wav")
    assert [path.parent.name for path in audio_files(tmp_path).files] == ["#3 pump", "@pump"]
