import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from asdcore.errors import AsdError
from asdcore.features.store import write_shard
from asdcore.storage.files import atomic_folder, atomic_write, digest_of, digest_of_file, sweep_partial
from asdcore.storage.home import Home
from tests.asdcore.storage.processes import SECONDS, kill, line, start


def test_a_whole_file_has_its_name_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_an_exception_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("older")
    with pytest.raises(RuntimeError, match="stop"), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_whole_folder_replaces_the_older_one_entirely(tmp_path: Path) -> None:
    path = tmp_path / "detector"
    for name in ("older", "newer"):
        with atomic_folder(path) as temporary:
            (temporary / "deep").mkdir()
            (temporary / "deep" / name).write_text(name)
    assert [file.name for file in path.rglob("*")] == ["deep", "newer"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_the_older_folder_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "detector"
    path.mkdir()
    (path / "older").touch()
    with pytest.raises(RuntimeError, match="stop"), atomic_folder(path) as temporary:
        (temporary / "newer").touch()
        raise RuntimeError("stop")
    assert list(path.iterdir()) == [path / "older"]
    assert list(tmp_path.iterdir()) == [path]


WRITE_FILE = """
import sys, time
from pathlib import Path
from asdcore.storage.files import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary, temporary.open("wb") as file:
    file.write(bytes(1_000_000))
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""
WRITE_FOLDER = """
import sys, time
from pathlib import Path
from asdcore.storage.files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as temporary:
    (temporary / "encoder").write_bytes(bytes(1_000_000))
    print("half", flush=True)
    time.sleep(60)
"""
WRITE_SHARD = """
import sys, time
from pathlib import Path
import numpy as np
from asdcore.features.store import write_shard
def rows():
    for number in range(3):
        yield str(number), {"original": np.zeros((128, 300), np.float16)}
    print("half", flush=True)
    time.sleep(60)
write_shard(Path(sys.argv[1]).parent, rows())
"""


@pytest.mark.parametrize("code", [WRITE_FILE, WRITE_FOLDER, WRITE_SHARD], ids=["file", "folder", "shard"])
def test_a_writer_killed_half_way_leaves_nothing_that_a_reader_sees(tmp_path: Path, code: str) -> None:
    path = tmp_path / "home" / "result"
    writer = start(code, path)
    assert line(writer) == "half"
    kill(writer)
    left = list(path.parent.iterdir())
    assert left
    assert all(name.name.startswith(".") and name.name.endswith(".partial") for name in left)
    assert sweep_partial(tmp_path / "home") == len(left)
    assert list(path.parent.iterdir()) == []


REPLACE_FOLDER = """
import os, signal, sys
from pathlib import Path
from asdcore.storage.files import atomic_folder
unlink = os.unlink
def unlink_one_and_die(*arguments, **keywords):
    unlink(*arguments, **keywords)
    os.kill(os.getpid(), signal.SIGKILL)
with atomic_folder(Path(sys.argv[1])) as temporary:
    for name in "ab":
        (temporary / name).write_text("newer")
    os.unlink = unlink_one_and_die
"""


def test_a_writer_killed_while_it_deletes_the_older_folder_leaves_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "detector"
    with atomic_folder(path) as temporary:
        for name in "ab":
            (temporary / name).write_text("older")
    writer = start(REPLACE_FOLDER, path)
    assert writer.communicate(timeout=SECONDS)[0] == ""
    assert writer.returncode == -signal.SIGKILL
    assert {file.name: file.read_text() for file in path.iterdir()} == {"a": "newer", "b": "newer"}
    assert sweep_partial(tmp_path) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_sweeping_takes_only_what_killed_writers_left(tmp_path: Path) -> None:
    kept = [tmp_path / "a.partial", tmp_path / ".hidden", tmp_path / "deep" / "part-000000.parquet"]
    swept = [tmp_path / ".a.txt.0123abcd.partial", tmp_path / "deep" / ".shard-01234567.partial"]
    (tmp_path / "deep").mkdir()
    for path in (*kept, *swept):
        path.touch()
    folder = tmp_path / "deep" / ".detector.0123abcd.partial"
    folder.mkdir()
    (folder / "encoder").touch()
    assert sweep_partial(tmp_path) == 3
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in (*swept, folder))
    assert sweep_partial(tmp_path) == 0
    assert sweep_partial(tmp_path / "nowhere") == 0


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A real file system in memory; mounting it takes root."""
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or sys.platform != "linux":
        pytest.skip("no way to mount a small disk here")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_keeps_nothing_partial_and_says_what_to_do(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        whole = write_shard(disk, [("a", {"original": rng.random((128, 300), np.float32)})])
        assert whole is not None
        before = sorted(disk.iterdir())
        for write in (
            lambda: write_shard(disk, ((str(n), {"original": rng.random((128, 300), np.float32)}) for n in range(50))),
            lambda: _write_folder(disk / "detector"),
        ):
            with pytest.raises(AsdError, match=r"the disk is full.*run the same command again"):
                write()
            assert sorted(disk.iterdir()) == before
        with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="space"):
            while True:
                filler.write(bytes(4096))
        with pytest.raises(AsdError, match="the disk is full"), Home.at(disk).lock():
            pass
        (disk / "filler").unlink()
        assert write_shard(disk, [("b", {"original": rng.random((128, 300), np.float32)})]) is not None


def _write_folder(path: Path) -> None:
    with atomic_folder(path) as temporary:
        for number in range(4):
            (temporary / str(number)).write_bytes(bytes(500_000))


def test_a_disk_that_is_read_only_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=1m,ro") as disk:
        refuses_to_write(disk)


def test_a_folder_of_someone_else_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    root = os.geteuid() == 0
    if root:  # root may write anywhere
        os.seteuid(65_534)
    try:
        refuses_to_write(folder)
    finally:
        if root:
            os.seteuid(0)


def refuses_to_write(folder: Path) -> None:
    with pytest.raises(AsdError, match=r"not writable.*set ASD_HOME"), atomic_write(folder / "a") as temporary:
        temporary.touch()
    with pytest.raises(AsdError, match="not writable"), atomic_write(folder / "deep" / "a"):
        pass
    with pytest.raises(AsdError, match="not writable"), atomic_folder(folder / "b"):
        pass
    with pytest.raises(AsdError, match="not writable"), Home(folder / "home").lock():
        pass


def test_another_error_of_the_operating_system_is_passed_on_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error, atomic_write(tmp_path / "a"):
        (tmp_path / "nowhere").read_text()
    assert error.value.__cause__ is None


def test_the_home_is_where_asd_home_says_or_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASD_HOME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert Home.default().root == tmp_path / ".asd"
    assert Home.default().mlflow_uri == f"sqlite:///{tmp_path / '.asd' / 'mlflow.db'}"
    monkeypatch.setenv("ASD_HOME", str(tmp_path / "elsewhere"))
    assert Home.default().features == tmp_path / "elsewhere" / "features"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert Home.default().mlflow_uri == "http://127.0.0.1:5000"


def test_digests_tell_contents_and_the_order_of_parts_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert digest_of_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert len({digest_of("a", "b"), digest_of("b", "a"), digest_of("ab"), digest_of("a", "b", "")}) == 4
    assert digest_of("a", "b") == digest_of("a", "b")


def test_a_sweep_leaves_scores_and_a_home_inside_this_one_alone(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    left = [home.features / "a" / ".shard-1.partial", home.runs / ".encoder.partial"]
    others = [home.scores / ".score.parquet.1.partial", home.root / "demo" / "features" / ".shard-2.partial"]
    for path in [*left, *others]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert home.sweep() == 2
    assert [path.exists() for path in [*left, *others]] == [False, False, True, True]


def test_a_command_needs_no_option_to_find_the_default_home_and_a_quoted_one_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASD_HOME", str(tmp_path / "a"))
    assert Home.at(tmp_path / "a").option == ""
    assert Home.at(tmp_path / "b c").option == f"--home '{tmp_path}/b c'"
