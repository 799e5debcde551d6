"""Files that are written atomically, digests of files, and disk errors with their remedies."""

import errno
import hashlib
import os
import shutil
import sqlite3
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from asdcore.errors import AsdError

ANOTHER_HOME = "set ASD_HOME to a folder on another disk"


@contextmanager
def atomic_write(path: Path, elsewhere: str = ANOTHER_HOME) -> Iterator[Path]:
    """Yield a temporary path in ``path``'s folder; rename it to ``path`` if the block succeeds, else delete it.

    ``elsewhere``: see `disk_remedies`.

    The file is flushed to disk before it is renamed, so readers never see a partial one, even if the writer is killed.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with atomic_write(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    with disk_remedies(path, elsewhere):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """As `atomic_write`, for a folder; an older folder of that name is replaced."""
    name = f".{path.name}.{uuid.uuid4().hex[:8]}"
    temporary, older = path.with_name(f"{name}.partial"), path.with_name(f"{name}.old.partial")
    with disk_remedies(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    with file.open("rb") as written:
                        os.fsync(written.fileno())
            # Deleting takes time: the older folder is renamed first, so that it is never seen half deleted.
            if path.exists():
                path.replace(older)
            temporary.replace(path)
            shutil.rmtree(older, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def sweep_partial(folder: Path) -> int:
    """Delete the temporary files of killed writers in ``folder``; return how many. Requires the lock of its writers."""
    partials = list(folder.rglob(".*.partial")) if folder.exists() else []
    for path in partials:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return len(partials)


def listed(folder: Path, pattern: str) -> list[Path]:
    """The paths in a folder whose names match, sorted; none if there is no such folder.

    Raises:
        AsdError: it cannot be listed, such as on a share that is not mounted: its content is not known.

    >>> import tempfile
    >>> listed(Path(tempfile.mkdtemp()) / "none", "*.parquet")
    []
    """
    try:
        return sorted(path for path in folder.iterdir() if fnmatchcase(path.name, pattern))
    except OSError as error:
        # A dangling link is a folder that is not mounted, not one that was never made.
        if isinstance(error, FileNotFoundError) and not folder.is_symlink():
            return []
        raise AsdError(f"{folder}: cannot be listed ({error.strerror}). Is the drive or the share mounted?") from error


def set_aside(path: Path) -> Path:
    """Give a damaged file another name beside it, so that a new one can take its place; return that name."""
    aside = path.with_name(f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{path.name}")
    # And the journal of a SQLite file: SQLite would apply it to the new one.
    for suffix in ("-journal", "-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(f"{path.name}{suffix}").replace(f"{aside}{suffix}")
    return aside


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file is damaged, or is not a database."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def may_be_damaged(error: Exception) -> bool:
    """Whether an error on reading a file is about its content; otherwise the disk or the share did not answer."""
    # PyArrow's errors about content have no number; neither have those about a file that it cannot find or open.
    silent = isinstance(error, OSError) and (error.errno or isinstance(error, FileNotFoundError | PermissionError))
    return not silent


def digest_of_file(path: Path) -> str:
    """SHA-256 of the content, 64 hexadecimal digits.

    Raises:
        OSError: it cannot be read, or is a named pipe or a device: reading these may never end.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # To open a folder is an error anyhow.
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(*parts: str) -> str:
    """16 hexadecimal digits that identify the parts and their order."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:16]


@contextmanager
def disk_remedies(path: Path, elsewhere: str = ANOTHER_HOME) -> Iterator[None]:
    """Raise an OSError of the block as an AsdError with the remedy, where there is one.

    Args:
        path: what is being written.
        elsewhere: how to choose another place, for the error message.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise AsdError(
                f"{path}: the disk is full. Nothing partial was kept; free some space, or {elsewhere}, "
                "and run the same command again: it resumes where it stopped."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise AsdError(f"{path}: not writable ({_why(path, error)}). Make it writable, or {elsewhere}.") from error
        raise


def is_full(folder: Path, least: int) -> bool:
    """Whether the disk of a folder has fewer than ``least`` bytes left; not where it does not say, as some shares."""
    usage = shutil.disk_usage(folder)
    return usage.total > 0 and usage.free < least


def owner_of(path: Path) -> str:
    """The user that a file or folder belongs to, by name where it has one."""
    try:
        return path.owner()
    except KeyError:  # As in many containers.
        return f"user {path.stat().st_uid}"


def _why(path: Path, error: OSError) -> str:
    """Why a path cannot be written; if it belongs to another user, who that is."""
    assert error.errno is not None
    said = os.strerror(error.errno)  # What the error itself says may be long: pyarrow's names the path once more.
    there = next((place for place in (path, *path.parents) if os.path.lexists(place)), None)
    if error.errno == errno.EROFS or there is None or there.stat().st_uid == os.geteuid():
        return said
    return f"{said}: {there} belongs to {owner_of(there)}"
