"""Check Prefect's SQLite file before a server opens it: the server would give no reason for a minute and a half."""

import errno
import os
import re
import sqlite3
from contextlib import closing
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from asdcore.errors import AsdError
from asdcore.storage.files import disk_remedies
from asdcore.storage.home import Home

URL = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
"""Environment variable: Prefect's database, where it is not the file of the home."""
_REVISION = re.compile(r"""^revision(?:: str)? = ["'](\w+)["']""", re.MULTILINE)
_LOSS = (
    "Delete it: it holds flow runs and schedules, but no recording, label, score or detector. "
    "Then run `asd deploy` again if you use deployments"
)


def check_prefect_database(home: Home) -> None:
    """Check that the file can be opened, is a database, and is not newer than the installed Prefect.

    Raises:
        AsdError: otherwise; says which file may be deleted, and what is lost.
    """
    if os.environ.get(URL, "").startswith("postgresql"):
        return
    file = Path(os.environ.get("PREFECT_HOME", home.prefect)) / "prefect.db"
    folder = file.parent
    with disk_remedies(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):  # SQLite keeps its journal there.
            raise OSError(errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES, "")
    for path in (file, *(file.with_name(f"{file.name}-{end}") for end in ("wal", "shm"))):
        if path.is_file():
            with disk_remedies(path, "run asd as its owner"):
                path.open("r+b").close()
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(file, timeout=10)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            found = database.execute("SELECT version_num FROM alembic_version").fetchall() if tables else []
    except sqlite3.OperationalError as error:
        if "locked" in str(error):  # A server is using it.
            return
        raise AsdError(f"{file} cannot be read: {error}. {_LOSS}") from error
    except sqlite3.DatabaseError as error:
        raise AsdError(f"{file} is damaged: {error}. {_LOSS}") from error
    known = _known_revisions()
    if known and any(revision not in known for (revision,) in found):
        raise AsdError(
            f"{file} was written by a newer Prefect than the installed one ({version('prefect')}). Install the newer "
            f"one, or give up what is in the file. {_LOSS}"
        )


def _known_revisions() -> set[str]:
    """The revisions of the database that the installed Prefect has a migration for; empty if that cannot be told."""
    # The folder of a package is found without importing it: Prefect takes two seconds.
    spec = find_spec("prefect")
    if spec is None or spec.origin is None:
        return set()
    folder = Path(spec.origin).parent / "server" / "database" / "_migrations" / "versions" / "sqlite"
    found = (_REVISION.search(file.read_text(encoding="utf-8")) for file in folder.glob("*.py"))
    return {match[1] for match in found if match}
