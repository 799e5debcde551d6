from pathlib import Path
from typing import Any

import pytest

from asdcore.errors import AsdError
from asdcore.recordings.fetch import fetched

PUMP = Path("s3://plant/line/pump")


@pytest.fixture
def pump(s3: Any) -> Any:
    """Puts content under a name of the folder that `PUMP` is the address of."""

    def put(name: str, content: bytes) -> None:
        s3.put_object(Bucket="plant", Key=f"line/pump/{name}", Body=content)

    for name in ("a.wav", "b.wav", "notes.txt", ".hidden.wav"):
        put(name, name.encode())
    return put


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_on_this_machine_is_left_where_it_is(tmp_path: Path) -> None:
    assert fetched(tmp_path) == tmp_path


def test_the_audio_files_are_fetched_into_folders_of_the_same_names(pump: Any) -> None:
    folder = fetched(PUMP)
    assert folder.parts[-3:] == ("plant", "line", "pump")
    assert names(folder) == ["a.wav", "b.wav"]
    assert (folder / "a.wav").read_bytes() == b"a.wav"


def test_only_what_is_new_or_changed_is_fetched_again(pump: Any) -> None:
    folder = fetched(PUMP)
    before = (folder / "a.wav").stat().st_ino
    pump("b.wav", b"another")
    pump("c.wav", b"more")
    fetched(PUMP)
    assert (folder / "a.wav").stat().st_ino == before
    assert (folder / "b.wav").read_bytes() == b"another"
    assert names(folder) == ["a.wav", "b.wav", "c.wav"]


def test_the_copy_of_what_is_no_longer_there_is_deleted(pump: Any, s3: Any) -> None:
    fetched(PUMP)
    s3.delete_object(Bucket="plant", Key="line/pump/a.wav")
    assert names(fetched(PUMP)) == ["b.wav"]


def test_one_recording_is_fetched_alone_and_deletes_no_other_copy(pump: Any) -> None:
    file = fetched(PUMP / "a.wav")
    assert names(file.parent) == ["a.wav"]
    folder = fetched(PUMP)
    assert fetched(PUMP / "a.wav") == folder / "a.wav"
    assert names(folder) == ["a.wav", "b.wav"]


def test_a_manifest_brings_what_lies_beside_it(pump: Any) -> None:
    pump("list.csv", b"path\na.wav\n")
    file = fetched(PUMP / "list.csv")
    assert names(file.parent) == ["a.wav", "b.wav", "list.csv"]


def test_a_place_without_recordings_is_an_error(s3: Any) -> None:
    with pytest.raises(AsdError, match="s3://plant/empty: no wav, flac or other audio file"):
        fetched(Path("s3://plant/empty"))
