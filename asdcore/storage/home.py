"""The home folder: its layout, and the two locks that keep writers apart."""

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

HOME_LOCK, TABLE_LOCK = LOCKS = "lock", "recordings.lock"
"""files in the root; see `Home.lock`"""


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
        return any((self.root / f"{lock}.holder").is_file() for lock in LOCKS)

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
            to_write: for more than scores and the table of recordings; requires `lock`.

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
        """Delete the temporary files of killed writers, where only the holder of `lock` writes; return how many.

        Scores are written without a lock, and this folder may contain another home: both are skipped. An ingest sweeps
        the table of recordings.
        """
        return sum(sweep_partial(folder) for folder in (self.features, self.runs))

    @contextmanager
    def lock(self, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Become the only process that trains, fits, registers or cleans here; wait for another one, after calling
        ``on_wait`` with a message.

        It may be held for hours, so recordings have a lock of their own, `lock_table`: they arrive, are judged and
        labelled in the meantime. What holds:

        - Whoever writes below ``features`` or ``runs``, or changes what is registered, holds this lock. Whoever changes
          the table of recordings holds `lock_table`. Scores, reports, incidents and runs of MLflow need neither.
        - Whoever needs both takes this one first. A process that holds only the table's must not wait for this one, or
          two processes could wait for each other forever.
        - The table may change while this lock is held. Long work reads it once, at its beginning, and does not
          assume later that a recording is still there, or still has the same name or label.
        - Readers need no lock: every file is written under another name and then renamed.
        - The operating system releases the locks of a killed process, and what it leaves are temporary files, which the
          next holder of the same lock deletes.

        Both locks are reentrant within a process.

        Raises:
            RuntimeError: this process holds the table's lock, and not this one.
        """
        with self._locked(HOME_LOCK, on_wait, f"which is using {self.root}"):
            yield

    @contextmanager
    def lock_if_free(self, say: Callable[[str], None] = lambda _: None) -> Iterator[str]:
        """As `lock`, without waiting: yield an empty text, or the process that holds it, such as ``process 4711``.

        ``say``: see `synchronised`.
        """
        with self._locked(HOME_LOCK, say) as holder:
            yield holder

    @contextmanager
    def lock_table(self, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Become the only process that changes the table of recordings, for moments or minutes; see `lock`."""
        with self._locked(TABLE_LOCK, on_wait, f"which is changing the table of recordings in {self.root}"):
            yield

    @contextmanager
    def _locked(self, name: str, say: Callable[[str], None], used_for: str = "") -> Iterator[str]:
        """Hold one of the two locks. ``used_for``: by another process that is waited for; empty: yield its name."""
        home, table = (FileLock(self.root / lock, thread_local=False, is_singleton=True) for lock in LOCKS)
        if name == HOME_LOCK and table.is_locked and not home.is_locked:
            raise RuntimeError("the home's lock has to be taken before that of its table of recordings")
        # The outermost block of a process synchronises.
        inside = home.is_locked or table.is_locked
        own, holder, busy = home if name == HOME_LOCK else table, self.root / f"{name}.holder", ""
        with disk_remedies(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                own.acquire(timeout=0)
            except Timeout:
                busy = (holder.read_text() if holder.exists() else "") or "another process"
                if used_for:
                    say(f"waiting for {busy}, {used_for}")
                    own.acquire()
                    busy = ""
        if busy:
            yield busy
            return
        try:
            with disk_remedies(holder):
                holder.write_text(f"process {os.getpid()}")
            with self.at_work() if inside else self.synchronised(say, to_write=name == HOME_LOCK):
                yield ""
        finally:
            own.release()


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
