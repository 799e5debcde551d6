"""A home in object storage, worked on by machines with separate caches."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asdcore.errors import AsdError
from asdcore.storage.home import Home
from asdcore.storage.mirror import Mirror, address_of, mirror_folder
from asdcore.storage.s3 import Bucket

ADDRESS = "s3://plant/home"


@pytest.fixture
def machine(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Mirror]:
    """The mirror of the same home on the machine of a name."""

    def mirror(name: str = "here") -> Mirror:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return Mirror(mirror_folder(ADDRESS), ADDRESS)

    return mirror


@pytest.fixture
def mirror(machine: Callable[[], Mirror]) -> Mirror:
    return machine()


@pytest.fixture
def put(s3: Any) -> Callable[[str, bytes], None]:
    """Put an object into the home, as another machine would."""

    def put(name: str, content: bytes) -> None:
        s3.put_object(Bucket="plant", Key=f"home/{name}", Body=content)

    return put


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the objects that are sent, in their order."""
    names: list[str] = []
    send = Bucket.send

    def noted(bucket: Bucket, path: Path, name: str, **condition: str) -> str:
        names.append(name)
        return send(bucket, path, name, **condition)

    monkeypatch.setattr(Bucket, "send", noted)
    return names


def write(mirror: Mirror, name: str, content: bytes = b"content") -> Path:
    path = mirror.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(mirror: Mirror) -> list[str]:
    """The copies, relative to the mirror."""
    files = (path.relative_to(mirror.folder).as_posix() for path in mirror.folder.rglob("*") if path.is_file())
    return sorted(name for name in files if not name.startswith("."))


def set_model(mirror: Mirror, name: str) -> None:
    """Write one model into the registry, in place of the one that was there."""
    with closing(sqlite3.connect(mirror.folder / "mlflow.db")) as database, database:
        database.execute("create table if not exists models (name text)")
        database.execute("delete from models")
        database.execute("insert into models values (?)", (name,))


def model(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("select name from models").fetchone()[0])


def test_a_mirror_knows_its_address_and_another_folder_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert address_of(mirror_folder("s3://plant/pumps")) == "s3://plant/pumps"
    assert mirror_folder("s3://plant/pumps") == mirror_folder("s3://plant/pumps")
    assert mirror_folder("s3://plant/pumps") != mirror_folder("s3://plant-pumps")
    assert address_of(tmp_path) is None
    (tmp_path / ".mirror.json").write_text("no JSON")
    with pytest.raises(AsdError, match="damaged"):  # Taken for a local home, it would send nothing any more.
        address_of(tmp_path)


def test_what_is_new_there_is_fetched_once(mirror: Mirror, put: Any) -> None:
    put("recordings/a", b"a")
    put("features/b", b"b")
    mirror.pull("recordings/")
    assert names(mirror) == ["recordings/a"]
    before = (mirror.folder / "recordings/a").stat().st_ino
    mirror.pull("recordings/")
    assert (mirror.folder / "recordings/a").stat().st_ino == before


def test_only_wanted_objects_are_fetched(mirror: Mirror, put: Any) -> None:
    put("runs/key/model.npz", b"1")
    put("runs/key/deep/other.npz", b"2")
    Home(mirror.folder).fetch_folder(mirror.folder / "runs" / "key")
    assert names(mirror) == ["runs/key/model.npz"]


def test_what_changed_there_is_fetched_again_unless_it_changed_here(mirror: Mirror, put: Any) -> None:
    for name in ("a", "b"):
        put(f"recordings/{name}", b"1")
    mirror.pull("recordings/")
    write(mirror, "recordings/a", b"changed here")
    for name in ("a", "b"):
        put(f"recordings/{name}", b"changed there")
    mirror.pull("recordings/")
    assert (mirror.folder / "recordings/a").read_bytes() == b"changed here"
    assert (mirror.folder / "recordings/b").read_bytes() == b"changed there"


def test_named_files_are_fetched_where_they_are_missing(mirror: Mirror, put: Any) -> None:
    write(mirror, "runs/old.npz", b"here")
    for name in ("runs/old.npz", "runs/new.npz", "features/shard", "runs/other.npz"):
        put(name, b"there")
    mirror.fetch(["runs/old.npz", "runs/new.npz", "features/shard", "runs/nowhere.npz"])
    assert names(mirror) == ["features/shard", "runs/new.npz", "runs/old.npz"]
    assert (mirror.folder / "runs/old.npz").read_bytes() == b"here"


def test_a_result_is_sent_after_the_files_that_it_refers_to(mirror: Mirror, sent: list[str]) -> None:
    for name in ("prefect/results/0", "features/a", "runs/key/b", "recordings/c", "scores/d"):
        write(mirror, name)
    mirror.push()
    assert sorted(sent[:-1]) == ["features/a", "recordings/c", "runs/key/b", "scores/d"]
    assert sent[-1] == "prefect/results/0"


def test_what_concerns_one_machine_alone_is_not_sent(mirror: Mirror, sent: list[str]) -> None:
    for name in (
        "runs/.model.npz.0123.partial",
        "runs/scratch/key/step-1.pt",
        "runs/registrations/1.json",
        "features/verified.json",
        "mlflow.db",
        "lock",
    ):
        write(mirror, name)
    mirror.push()
    assert not sent


def test_a_file_is_sent_again_only_if_it_has_changed(mirror: Mirror, sent: list[str], put: Any) -> None:
    put("recordings/fetched", b"there")
    mirror.pull("recordings/")
    write(mirror, "scores/a", b"1")
    mirror.push()
    mirror.push()
    assert sent == ["scores/a"]
    write(mirror, "scores/a", b"longer")
    mirror.push()
    assert sent == ["scores/a", "scores/a"]
    assert mirror.bucket.find("scores/a")["scores/a"].size == len(b"longer")


def test_what_is_deleted_here_stays_there(mirror: Mirror) -> None:
    write(mirror, "runs/model.npz")
    mirror.push()
    (mirror.folder / "runs/model.npz").unlink()
    mirror.push()
    assert mirror.bucket.find().keys() == {"runs/model.npz"}
    mirror.pull("runs/")
    assert names(mirror) == ["runs/model.npz"]


def test_what_was_sent_before_a_transfer_failed_is_not_sent_again(
    mirror: Mirror, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("features/a", "features/b", "scores/c"):
        write(mirror, name)
    send = Bucket.send

    def fails(bucket: Bucket, path: Path, name: str, **condition: str) -> str:
        if name == "features/b":
            raise AsdError("no network")
        return send(bucket, path, name, **condition)

    with monkeypatch.context() as patch, pytest.raises(AsdError, match="no network"):
        patch.setattr(Bucket, "send", fails)
        mirror.push()
    arrived = set(sent)
    mirror.push()
    assert arrived < set(sent) == {"features/a", "features/b", "scores/c"}
    assert len(sent) == 3


def test_the_registry_of_one_machine_is_that_of_the_next(machine: Callable[[str], Mirror]) -> None:
    one = machine("one")
    assert one.pull_registry(to_write=True) == ""
    set_model(one, "pump")
    one.push_registry()
    two = machine("two")
    assert two.pull_registry(to_write=False) == ""
    assert model(two.folder / "mlflow.db") == "pump"


def test_an_open_registry_shows_what_was_fetched(machine: Callable[[str], Mirror]) -> None:
    one, two = machine("one"), machine("two")
    for mirror, name in ((one, "pump"), (two, "fan")):
        mirror.pull_registry(to_write=True)
        set_model(mirror, name)
        mirror.push_registry()
    with closing(sqlite3.connect(one.folder / "mlflow.db")) as opened:
        assert opened.execute("select name from models").fetchone() == ("pump",)
        one.pull_registry(to_write=False)
        assert opened.execute("select name from models").fetchone() == ("fan",)


def test_a_registry_that_another_machine_has_changed_meanwhile_is_not_overwritten(
    machine: Callable[[str], Mirror],
) -> None:
    one, two = machine("one"), machine("two")
    one.pull_registry(to_write=True)
    set_model(one, "pump")
    two.pull_registry(to_write=True)
    set_model(two, "fan")
    two.push_registry()
    with pytest.raises(AsdError, match=r"another machine has changed the registry.*MLFLOW_TRACKING_URI"):
        one.push_registry()
    told = one.pull_registry(to_write=True)
    (aside,) = one.folder.glob("mlflow-*.db")
    assert aside.name in told and "set aside" in told
    assert (model(aside), model(one.folder / "mlflow.db")) == ("pump", "fan")
    set_model(one, "valve")
    one.push_registry()
    two.pull_registry(to_write=False)
    assert model(two.folder / "mlflow.db") == "valve"


def test_a_reader_leaves_the_registry_to_the_process_that_writes_it(machine: Callable[[str], Mirror]) -> None:
    one, two = machine("one"), machine("two")
    one.pull_registry(to_write=True)
    set_model(one, "pump")
    two.pull_registry(to_write=True)
    set_model(two, "fan")
    two.push_registry()
    assert one.pull_registry(to_write=False) == ""
    assert model(one.folder / "mlflow.db") == "pump"


def test_where_nothing_was_registered_no_registry_is_sent(mirror: Mirror, sent: list[str]) -> None:
    mirror.pull_registry(to_write=True)
    mirror.push_registry()
    assert not sent


def test_damaged_notes_cost_a_transfer_and_nothing_else(mirror: Mirror, sent: list[str]) -> None:
    write(mirror, "runs/model.npz", b"1")
    mirror.push()
    (mirror.folder / ".mirror.json").write_text("{")
    mirror.push()
    assert sent == ["runs/model.npz", "runs/model.npz"]
    assert address_of(mirror.folder) == ADDRESS


def test_a_home_in_object_storage_is_synchronised_around_its_lock(
    machine: Callable[[str], Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    one, two = machine("one"), machine("two")
    assert Home(one.folder).name == ADDRESS
    with Home(one.folder).lock():
        write(one, "recordings/a")
        set_model(one, "pump")
    with pytest.raises(RuntimeError), Home(two.folder).lock():
        assert names(two) == ["lock", "lock.holder", "mlflow.db", "recordings/a"]
        write(two, "recordings/b")
        set_model(two, "fan")
        raise RuntimeError
    with Home(one.folder).synchronised():
        assert names(one)[-2:] == ["recordings/a", "recordings/b"], "what was made before an error is sent"
        assert model(one.folder / "mlflow.db") == "fan"
