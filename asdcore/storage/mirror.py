"""A home in object storage: worked on in a folder of this machine, its mirror, which is kept the same as the bucket.

Nearly every file of a home is named after its content or its key, and is never changed: it is enough to fetch those
that are missing and to send those that are new, first what is referred to, then what refers to it. Nothing is ever
deleted in the bucket. The one file that changes is MLflow's sqlite file, the registry: it is sent only if nobody else
has sent one since it was fetched. Models are written to the bucket by MLflow itself.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asdcore.errors import AsdError
from asdcore.storage.files import atomic_write, digest_of
from asdcore.storage.s3 import ELSEWHERE, Bucket, Changed, Found, at_once, cache_folder

NOTES = ".mirror.json"
REGISTRY = "mlflow.db"
RESULTS = "prefect/results"
ORDER = (("features", "runs", "recordings", "scores"), (RESULTS,))
"""The folders that are sent: a result claims files, so it comes after them."""
OWN = {"scratch", "registrations", "verified.json"}
"""What concerns this machine alone: trainings and registrations that have not ended, shards that it has verified."""


def mirror_folder(address: str) -> Path:
    """The folder on this machine that a home in object storage is worked on in. It knows its address."""
    # No percent signs: MLflow would decode them in the URI of its sqlite file.
    name = f"{address.removeprefix('s3://').replace('/', '-')}-{digest_of(address)[:6]}"
    folder = cache_folder() / "homes" / name
    if not (folder / NOTES).exists():
        with atomic_write(folder / NOTES, ELSEWHERE) as temporary:
            temporary.write_text(json.dumps({"address": address}))
    return folder


def address_of(folder: Path) -> str | None:
    """The address of the home that ``folder`` is the mirror of, if it is one."""
    try:
        return str(json.loads((folder / NOTES).read_text())["address"])
    except (OSError, ValueError, KeyError):
        return None


class Mirror:
    """Copies in ``folder`` of the objects below ``address``, under the same names.

    Notes keep the size, time of change and ETag that each copy had when it was fetched or sent. Processes that share a
    mirror may lose each other's notes: that costs a transfer, nothing else.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.bucket = folder, Bucket(address)

    def pull(self, below: str, wanted: Callable[[str], bool] = lambda _: True) -> None:
        """Fetch the objects whose names begin with ``below`` that are new, or changed there and not here."""
        there = {name: found for name, found in self.bucket.find(below).items() if wanted(name)}
        notes = self._notes()["files"]
        self._fetch({name: found for name, found in there.items() if self._is_behind(name, found, notes.get(name))})

    def fetch(self, names: Iterable[str]) -> None:
        """Fetch the named objects that have no copy. One that is not there either is left out."""
        lacking = {name for name in names if not (self.folder / name).exists()}
        there = [self.bucket.find(folder) for folder in {f"{name.rpartition('/')[0]}/" for name in lacking}]
        self._fetch({name: found for some in there for name, found in some.items() if name in lacking})

    def push(self) -> None:
        """Send the files that are new or changed here, all but the registry."""
        for folders in ORDER:
            files = self._notes()["files"]
            names = [name for name in self._names(folders) if files.get(name, [])[:2] != self._state(name)]
            sent: dict[str, list[Any]] = {}

            def send(name: str, sent: dict[str, list[Any]] = sent) -> None:
                state = self._state(name)
                sent[name] = [*state, self.bucket.send(self.folder / name, name)]

            self._noted(send, names, f"to {self.bucket.address}", sent)

    def pull_registry(self, *, to_write: bool) -> str:
        """Fetch the registry if somebody else has changed it.

        Args:
            to_write: by the one who holds the home's lock, and calls `push_registry` when all went well.

        Returns:
            What there is to tell: empty, or that changes made here have been set aside.
        """
        notes, told = self._notes(), ""
        found = self.bucket.find(REGISTRY).get(REGISTRY)
        if notes["writing"] and not to_write:
            return ""  # Another process of this machine is at work on it.
        if found and found.tag != notes["registry"]:
            if notes["writing"]:
                aside = self.folder / f"mlflow-{datetime.now(UTC):%Y%m%dT%H%M%S}.db"
                _copy_database(self.folder / REGISTRY, aside)
                told = (
                    f"the registry of {self.bucket.address} was changed elsewhere before what was made here got there; "
                    f"that was set aside in {aside.name}. A retraining registers its detector again, if it is repeated"
                )
            temporary = self.folder / f".{REGISTRY}.partial"
            self.bucket.fetch(REGISTRY, temporary)
            # Page by page into the old file: who has it open sees the new content.
            _copy_database(temporary, self.folder / REGISTRY)
            temporary.unlink()
        self._note(registry=found.tag if found else None, writing=to_write)
        return told

    def push_registry(self) -> None:
        """Send the registry.

        Raises:
            AsdError: somebody else has sent one since `pull_registry`.
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
                f"{self.bucket.address}: another machine has changed the registry while this one was at work. Nothing "
                "is lost: the same command, repeated, does nothing but register. Where several machines write, give "
                "them one MLflow server: MLFLOW_TRACKING_URI"
            ) from error
        finally:
            snapshot.unlink(missing_ok=True)
        self._note(registry=tag, writing=False)

    def _fetch(self, objects: dict[str, Found]) -> None:
        got: dict[str, list[Any]] = {}

        def fetch(name: str) -> None:
            self.bucket.fetch(name, self.folder / name)
            got[name] = [*self._state(name), objects[name].tag]

        self._noted(fetch, list(objects), f"from {self.bucket.address}", got)

    def _noted(self, work: Callable[[str], None], names: list[str], what: str, done: dict[str, list[Any]]) -> None:
        try:
            at_once(work, names, what)
        finally:
            if done:
                self._note(files=self._notes()["files"] | done)

    def _is_behind(self, name: str, found: Found, noted: list[Any] | None) -> bool:
        if not (self.folder / name).exists():
            return True
        return noted is not None and noted[:2] == self._state(name) and noted[2] != found.tag

    def _names(self, folders: Iterable[str]) -> Iterator[str]:
        """The files that are sent, relative to the mirror."""
        for folder in folders:
            for path in sorted((self.folder / folder).rglob("*")):
                name = path.relative_to(self.folder)
                if path.is_file() and not OWN & {*name.parts} and not any(part.startswith(".") for part in name.parts):
                    yield name.as_posix()

    def _state(self, name: str) -> list[int]:
        found = (self.folder / name).stat()
        return [found.st_size, found.st_mtime_ns]

    def _notes(self) -> dict[str, Any]:
        notes: dict[str, Any] = {"address": self.bucket.address, "files": {}, "registry": None, "writing": False}
        with suppress(OSError, ValueError):
            notes |= json.loads((self.folder / NOTES).read_text())
        return notes

    def _note(self, **changed: Any) -> None:
        with atomic_write(self.folder / NOTES, ELSEWHERE) as temporary:
            temporary.write_text(json.dumps(self._notes() | changed))


def _copy_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
