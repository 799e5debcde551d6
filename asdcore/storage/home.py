"""The home folder: its layout, and the lock that lets one process write at a time."""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from asdcore.errors import AsdError
from asdcore.storage.files import disk_remedies, sweep_partial
from asdcore.storage.mirror import Mirror, address_of, mirror_folder
from asdcore.storage.s3 import s3_address

_USERINFO = re.compile(r"(?<=:)//[^\s/?#'\"]*@")
_CURRENT: ContextVar["Home"] = ContextVar("home")


@dataclass(frozen=True)
class Home:
    """The folder that holds everything made from recordings. All of it can be deleted and is computed again.

    The root is ``ASD_HOME``, or ``.asd`` in the working directory. A home in object storage, ``s3://bucket/prefix``,
    has a local folder as its root, kept synchronised by an `asdcore.storage.mirror.Mirror`.
    """

    root: Path

    @classmethod
    def current(cls) -> "Home":
        """The home that is locked, synchronised or `at_work` in this thread or task.

        Raises:
            LookupError: there is none.
        """
        return _CURRENT.get()

    @classmethod
    def default(cls) -> "Home":
        return cls.at(os.environ.get("ASD_HOME") or ".asd")

    @classmethod
    def at(cls, root: str | Path) -> "Home":
        if address := s3_address(root):
            return cls(mirror_folder(address))
        return cls(Path(root).expanduser().resolve())

    @property
    def recordings(self) -> Path:
        return self.root / "recordings"

    @property
    def features(self) -> Path:
        return self.root / "features"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def scores(self) -> Path:
        return self.root / "scores"

    @property
    def incidents(self) -> Path:
        """SQLite file."""
        return self.root / "incidents.db"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def prefect(self) -> Path:
        return self.root / "prefect"

    @property
    def mlartifacts(self) -> Path:
        return self.root / "mlartifacts"

    @property
    def address(self) -> str | None:
        """``s3://bucket/prefix`` of a home in object storage."""
        return address_of(self.root)

    @property
    def name(self) -> str:
        """The name of this home on every machine: its address, or its folder."""
        return self.address or str(self.root)

    @property
    def option(self) -> str:
        """What a command needs to find this home, such as ``--home PATH``; empty if nothing."""
        return "" if self.root == self.default().root else f"--home {shlex.quote(self.name)}"

    @property
    def registry(self) -> str:
        """The name of MLflow's store on every machine."""
        return os.environ.get("MLFLOW_TRACKING_URI") or (
            f"{self.address}/mlflow.db" if self.address else self.mlflow_uri
        )

    @property
    def registry_name(self) -> str:
        """`registry` for people: without user and password."""
        return without_userinfo(self.registry)

    @property
    def mlflow_uri(self) -> str:
        """``MLFLOW_TRACKING_URI`` if set, else the SQLite file of this home."""
        return os.environ.get("MLFLOW_TRACKING_URI") or self.own_mlflow_uri

    @property
    def own_mlflow_uri(self) -> str:
        """The SQLite file of this home."""
        file = self.root / "mlflow.db"
        # MLflow makes the folder that the URL names, percent signs and all, unless the URL names the driver.
        plain = quoted_for_sqlite(file) == str(file)
        return f"sqlite:///{file}" if plain else f"sqlite+pysqlite:///{quoted_for_sqlite(file)}"

    @property
    def artifacts(self) -> str:
        """Where MLflow keeps models, if its store belongs to this home."""
        return f"{self.address}/mlartifacts" if self.address else self.mlartifacts.as_uri()

    @property
    def was_locked(self) -> bool:
        """Whether a command has ever worked on this home, here or on another machine that shares the folder."""
        return self._holder.is_file()

    @property
    def _holder(self) -> Path:
        return self.root / "lock.holder"

    def _mirror(self) -> Mirror | None:
        address = self.address
        return _mirror(self.root, address) if address else None

    def fetch(self, files: Iterable[str]) -> None:
        """Fetch missing files (relative to the root), if the home is in object storage."""
        if mirror := self._mirror():
            mirror.fetch(files)

    def fetch_folder(self, folder: Path) -> None:
        """Fetch the files of a folder, but not of its subfolders, if the home is in object storage."""
        if mirror := self._mirror():
            below = f"{folder.relative_to(self.root)}/"
            mirror.pull(below, lambda name: "/" not in name.removeprefix(below))

    def fetched(self, folder: Path) -> set[str]:
        """The names of the files of a folder that were fetched from object storage, where others have written them."""
        mirror = self._mirror()
        below = f"{folder.relative_to(self.root)}/"
        return {name.removeprefix(below) for name in mirror.fetched(below)} if mirror else set()

    def send(self) -> None:
        """Send new and changed files, if the home is in object storage."""
        if mirror := self._mirror():
            mirror.push()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Make this home `Home.current` for the duration of the block."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    @contextmanager
    def synchronised(self, say: Callable[[str], None] = lambda _: None, *, to_write: bool = False) -> Iterator[None]:
        """Synchronise a home in object storage: fetch what others have written, then send what the block writes.

        Args:
            say: called with a message about changes that could not be sent earlier.
            to_write: for more than scoring; requires the lock.

        Raises:
            AsdError: see `asdcore.storage.s3.Bucket`; or the registry has been changed elsewhere in the meantime.
        """
        mirror = self._mirror()
        if mirror is None:
            with self.at_work():
                yield
            return
        own_registry = not os.environ.get("MLFLOW_TRACKING_URI")
        for below in ("recordings/", "prefect/results/") if to_write else ("recordings/", "scores/drift-"):
            mirror.pull(below)
        if own_registry and (message := mirror.pull_registry(to_write=to_write)):
            say(message)

        def send() -> None:
            mirror.push()
            if own_registry and to_write:
                mirror.push_registry()

        try:
            with self.at_work():
                yield
        except Exception:
            with suppress(AsdError):  # The first error is the one to report. Unsent files are sent next time.
                send()
            raise
        send()

    def sweep(self) -> int:
        """Delete the temporary files of killed writers, where only the holder of the lock writes; return how many.

        Scores are written without the lock, and this folder may contain another home: both are skipped.
        """
        return sum(sweep_partial(folder) for folder in (self.recordings, self.features, self.runs))

    @contextmanager
    def lock(self, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Become the only process that writes here; wait for another one, after calling ``on_wait`` with a message.

        The operating system releases the lock of a killed process. The lock is reentrant within a process.
        """
        holder = self._holder
        with disk_remedies(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / "lock", thread_local=False, is_singleton=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                who = holder.read_text() if holder.exists() else "another process"
                on_wait(f"waiting for {who}, which is using {self.root}")
                lock.acquire()
        try:
            with disk_remedies(holder):
                holder.write_text(f"process {os.getpid()}")
            if lock.lock_counter > 1:
                with self.at_work():
                    yield
                return
            with self.synchronised(on_wait, to_write=True):
                yield
        finally:
            lock.release()


def quoted_for_sqlite(file: Path) -> str:
    """A path for a URL of SQLAlchemy. Only characters with another meaning there are quoted.

    >>> quoted_for_sqlite(Path("/data/press 3/what?/50%/mlflow.db"))
    '/data/press 3/what%3F/50%25/mlflow.db'
    """
    return re.sub(r"[%?\x00-\x1f]", lambda match: quote(match[0]), str(file))


def without_userinfo(text: object) -> str:
    """A text such as an error of MLflow, without the users and passwords of the URLs in it.

    >>> without_userinfo("no answer from http://anna:secret@mlflow.example/api")
    'no answer from http://mlflow.example/api'
    """
    return _USERINFO.sub("//", str(text))


@cache
def _mirror(root: Path, address: str) -> Mirror:
    return Mirror(root, address)
