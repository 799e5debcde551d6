"""A home in object storage: a local folder, its mirror, is kept synchronised with the bucket.

Nearly every file of a home is named after its content or its key, and is never changed: it is enough to fetch those
that are missing and to send those that are new, referenced files before the files that refer to them. Nothing is ever
deleted in the bucket. The one file that changes is MLflow's SQLite file, the registry: it is sent only if it has not
changed in the bucket since it was fetched. Models are written to the bucket by MLflow itself.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from asdcore.errors import AsdError
from asdcore.progress import say
from asdcore.storage.files import atomic_write, digest_of, set_aside
from asdcore.storage.s3 import ELSEWHERE, Bucket, Changed, Found, at_once, cache_folder

NOTES = ".mirror.json"
REGISTRY = "mlflow.db"
RESULTS = "prefect/results"
ORDER = (("features", "runs", "recordings", "scores", "reports"), (RESULTS,))
"""The folders to send: a result refers to files, so it comes after them."""
FETCHED = "fetched"
OWN = {"scratch", "registrations", "verified.json"}
"""Local to this machine: unfinished trainings and registrations, and the list of verified shards."""


def mirror_folder(address: str) -> Path:
    """The local folder that mirrors a home in object storage. A file in it records the address."""
    # No percent signs: MLflow would decode them in the URI of its sqlite file.
    name = f"{address.removeprefix('s3://').replace('/', '-')}-{digest_of(address)[:6]}"
    folder = cache_folder() / "homes" / name
    if not _repaired(folder):
        with atomic_write(folder / NOTES, ELSEWHERE) as temporary:
            temporary.write_text(json.dumps({"address": address}))
    return folder


def address_of(folder: Path) -> str | None:
    """The address of the home that ``folder`` is the mirror of, if it is one.

    Raises:
        AsdError: not known, because the file that says so is damaged or its disk does not answer.
    """
    notes = _read_notes(folder)
    return str(notes["address"]) if notes else None


def _read_notes(folder: Path) -> dict[str, Any]:
    file = folder / NOTES
    try:
        notes = json.loads(file.read_text())
        if "address" not in notes:
            raise ValueError("no address")
        return dict(notes)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise AsdError(f"{file}: unreadable ({error.strerror})") from error
    except (ValueError, TypeError) as error:
        raise _DamagedNotesError(
            f"{file}: damaged ({error}). A command that names the address of the home, s3://..., makes it again"
        ) from error


def _repaired(folder: Path) -> dict[str, Any]:
    """The notes, where the address is known; none if they are damaged: they are set aside, which costs a transfer."""
    try:
        return _read_notes(folder)
    except _DamagedNotesError:
        say(f"{folder / NOTES} was damaged: it was set aside as {set_aside(folder / NOTES).name}, and is made again")
        return {}


class _DamagedNotesError(AsdError):
    pass


class Mirror:
    """Copies in ``folder`` of the objects below ``address``, under the same names.

    Notes keep the size, time of change and ETag that each copy had when it was fetched or sent, and whether it was
    fetched.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.bucket = folder, Bucket(address)

    def pull(self, below: str, wanted: Callable[[str], bool] = lambda _: True) -> None:
        """Fetch the objects whose names begin with ``below`` that are new or have changed only in the bucket."""
        objects = {name: found for name, found in self.bucket.find(below).items() if wanted(name)}
        notes = self._notes()["files"]
        self._fetch({name: found for name, found in objects.items() if self._is_behind(name, found, notes.get(name))})

    def fetch(self, names: Iterable[str]) -> None:
        """Fetch the named objects that have no copy. Names without an object are ignored."""
        lacking = {name for name in names if not (self.folder / name).exists()}
        there = [self.bucket.find(folder) for folder in {f"{name.rpartition('/')[0]}/" for name in lacking}]
        self._fetch({name: found for some in there for name, found in some.items() if name in lacking})

    def push(self) -> None:
        """Send the files that are new or changed locally, except the registry."""
        for folders in ORDER:
            files = self._notes()["files"]
            names = [name for name in self._names(folders) if files.get(name, [])[:2] != self._state(name)]
            sent: dict[str, list[Any]] = {}

            def send(name: str, sent: dict[str, list[Any]] = sent) -> None:
                state = self._state(name)
                sent[name] = [*state, self.bucket.send(self.folder / name, name)]

            self._noted(send, names, f"to {self.bucket.address}", sent)

    def fetched(self, below: str) -> set[str]:
        """The names below ``below`` of the files that were fetched, and not written on this machine."""
        files = self._notes()["files"].items()
        return {name for name, noted in files if name.startswith(below) and FETCHED in noted[3:]}

    def pull_registry(self, *, to_write: bool) -> str:
        """Fetch the registry if it has changed in the bucket.

        Args:
            to_write: whether the caller holds the home's lock and will call `push_registry` on success.

        Returns:
            A message for the user: empty, or a note that local changes have been set aside.
        """
        notes, message = self._notes(), ""
        remote = self.bucket.find(REGISTRY).get(REGISTRY)
        if notes["writing"] and not to_write:
            return ""  # Another process of this machine is using it.
        if remote and remote.tag != notes["registry"]:
            # Without the notes it is not known what the local file has that the bucket lacks.
            if notes["writing"] or (notes["registry"] is None and (self.folder / REGISTRY).exists()):
                aside = self.folder / f"mlflow-{datetime.now(UTC):%Y%m%dT%H%M%S}.db"
                _copy_database(self.folder / REGISTRY, aside)
                message = (
                    f"the registry of {self.bucket.address} was changed elsewhere before the local changes were sent; "
                    f"those are set aside in {aside.name}. Repeat the retraining to register its detector again"
                )
            temporary = self.folder / f".{REGISTRY}.partial"
            self.bucket.fetch(REGISTRY, temporary)
            # Page by page into the old file, so that processes that have it open see the new content.
            _copy_database(temporary, self.folder / REGISTRY)
            temporary.unlink()
        # A process that holds the lock may have begun to write meanwhile.
        self._note(registry=remote.tag if remote else None, **({"writing": True} if to_write else {}))
        return message

    def push_registry(self) -> None:
        """Send the registry.

        Raises:
            AsdError: the registry in the bucket has changed since `pull_registry`.
        """
        if not (self.folder / REGISTRY).exists():
            self._note(writing=False)
            return
        before = self._notes()["registry"]
        snapshot = self.folder / f".{REGISTRY}.sent.partial"
        try:
            _copy_database(self.folder / REGISTRY, snapshot)
            condition = {"IfMatch": before} if before else {"IfNoneMatch": "*"}
            tag = self.bucket.send(snapshot, REGISTRY, **condition)
        except Changed as error:
            raise AsdError(
                f"{self.bucket.address}: another machine has changed the registry in the meantime. Nothing is lost: "
                "repeating the same command only registers. If several machines write, use one MLflow server for "
                "all of them: MLFLOW_TRACKING_URI"
            ) from error
        finally:
            snapshot.unlink(missing_ok=True)
        self._note(registry=tag, writing=False)

    def _fetch(self, objects: dict[str, Found]) -> None:
        fetched: dict[str, list[Any]] = {}

        def fetch(name: str) -> None:
            self.bucket.fetch(name, self.folder / name)
            fetched[name] = [*self._state(name), objects[name].tag, FETCHED]

        self._noted(fetch, list(objects), f"from {self.bucket.address}", fetched)

    def _noted(self, work: Callable[[str], None], names: list[str], what: str, done: dict[str, list[Any]]) -> None:
        try:
            at_once(work, names, what)
        finally:
            if done:
                self._note(files=done)

    def _is_behind(self, name: str, found: Found, noted: list[Any] | None) -> bool:
        if not (self.folder / name).exists():
            return True
        return noted is not None and noted[:2] == self._state(name) and noted[2] != found.tag

    def _names(self, folders: Iterable[str]) -> Iterator[str]:
        """The files to send, relative to the mirror."""
        for folder in folders:
            for path in sorted((self.folder / folder).rglob("*")):
                name = path.relative_to(self.folder)
                if path.is_file() and not OWN & {*name.parts} and not any(part.startswith(".") for part in name.parts):
                    yield name.as_posix()

    def _state(self, name: str) -> list[int]:
        status = (self.folder / name).stat()
        return [status.st_size, status.st_mtime_ns]

    def _notes(self) -> dict[str, Any]:
        notes: dict[str, Any] = {"address": self.bucket.address, "files": {}, "registry": None, "writing": False}
        return notes | _repaired(self.folder)

    def _note(self, **changed: Any) -> None:
        """Change the notes. ``files``: are added."""
        # Processes that hold different locks of the home share them.
        with FileLock(self.folder / f"{NOTES}.lock"), atomic_write(self.folder / NOTES, ELSEWHERE) as temporary:
            notes = self._notes()
            files = notes["files"] | changed.get("files", {})
            temporary.write_text(json.dumps(notes | changed | {"files": files}))


def _copy_database(source: Path, target: Path) -> None:
    try:
        with closing(sqlite3.connect(source, timeout=60)) as old, closing(sqlite3.connect(target, timeout=60)) as new:
            old.backup(new)
    except sqlite3.Error as error:
        raise AsdError(f"{source} could not be copied to {target.name}: {error}") from error
