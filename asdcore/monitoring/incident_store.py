"""Where incidents are kept: a SQLite file in the home, with the messages about them that are still to be sent.

An incident and its message are written in one transaction, so that neither is lost without the other if a process is
killed, and several processes can write at the same time.
"""

import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

from asdcore.errors import AsdError
from asdcore.storage.files import disk_remedies
from asdcore.storage.home import Home

SECONDS_TO_WAIT = 60
"""for another process that writes"""
FORMAT = 1
"""of the file, as ``PRAGMA user_version``"""
TABLES = """
CREATE TABLE incidents (n INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, is_open INTEGER NOT NULL, json TEXT NOT NULL);
CREATE INDEX open_incidents ON incidents (n) WHERE is_open;
CREATE TABLE messages (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, at TEXT NOT NULL, event TEXT NOT NULL, json TEXT NOT NULL);
CREATE TABLE followed (file TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE heard (machine TEXT, recording TEXT, PRIMARY KEY (machine, recording)) WITHOUT ROWID;
CREATE TABLE machines (name TEXT PRIMARY KEY, recent TEXT NOT NULL DEFAULT '[]', drifts INTEGER NOT NULL DEFAULT 0);
CREATE TABLE channels (
    name TEXT PRIMARY KEY, sent INTEGER NOT NULL, failures INTEGER NOT NULL DEFAULT 0, retry_at TEXT, error TEXT);
"""


class Transaction:
    """What is read and written at once. Incidents and recent recordings are JSON that is not looked into here."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.run = connection.execute

    def incidents(self, *, only_open: bool = False) -> list[str]:
        """The newest first."""
        where = "WHERE is_open" if only_open else ""
        return [text for (text,) in self.run(f"SELECT json FROM incidents {where} ORDER BY n DESC")]

    def new_id(self) -> str:
        """8 hexadecimal digits that no incident has."""
        while self.run("SELECT 1 FROM incidents WHERE id = ?", (name := secrets.token_hex(4),)).fetchone():
            pass
        return name

    def put(self, name: str, text: str, *, is_open: bool) -> None:
        """Keep an incident, a new or a changed one."""
        self.run(
            "INSERT INTO incidents (id, is_open, json) VALUES (?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET is_open = excluded.is_open, json = excluded.json",
            (name, is_open, text),
        )

    def add_message(self, event: str, text: str) -> None:
        """A message that waits to be sent."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self.run(
            "INSERT INTO messages (id, at, event, json) VALUES (?, ?, ?, ?)", (secrets.token_hex(16), at, event, text)
        )

    def followed(self) -> set[str]:
        """The names of the files in ``scores/`` that have been looked at."""
        return {name for (name,) in self.run("SELECT file FROM followed")}

    def follow(self, files: Iterable[str]) -> None:
        """These have been looked at."""
        for name in files:
            self.run("INSERT OR IGNORE INTO followed VALUES (?)", (name,))

    def first_heard(self, machine: str, recording: str) -> bool:
        """Whether a recording (digest) of a machine is new; from now on it is not."""
        new = self.run("INSERT OR IGNORE INTO heard VALUES (?, ?)", (machine, recording[:16]))
        return new.rowcount == 1

    def recent(self, machine: str) -> str:
        """What `keep_recent` kept of a machine: JSON, at first ``[]``."""
        found = self.run("SELECT recent FROM machines WHERE name = ?", (machine,)).fetchone()
        return str(found[0]) if found else "[]"

    def keep_recent(self, machine: str, text: str) -> None:
        """Keep the last recordings of a machine, as JSON."""
        self._keep_of_machine(machine, "recent", text)

    def drifts(self, machine: str) -> bool:
        """What `keep_drifts` kept of a machine, at first False."""
        found = self.run("SELECT drifts FROM machines WHERE name = ?", (machine,)).fetchone()
        return bool(found and found[0])

    def keep_drifts(self, machine: str, drifts: bool) -> None:
        """Keep whether a machine drifts."""
        self._keep_of_machine(machine, "drifts", int(drifts))

    def _keep_of_machine(self, machine: str, column: str, value: str | int) -> None:
        self.run("INSERT OR IGNORE INTO machines (name) VALUES (?)", (machine,))
        self.run(f"UPDATE machines SET {column} = ? WHERE name = ?", (value, machine))


@contextmanager
def changing(home: Home) -> Iterator[Transaction]:
    """Read and write as the only process that does so; nothing is kept if the block raises an error.

    A new file takes everything in ``scores/`` as looked at: what was scored before it opens no incident.

    Raises:
        AsdError: the disk is full, or the file is not one of this version.
    """
    with disk_remedies(home.incidents):
        home.root.mkdir(parents=True, exist_ok=True)
    with _errors(home), closing(_connected(f"file:{_quoted(home)}?mode=rwc")) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            stored = Transaction(connection)
            if _is_new(home, connection):
                for statement in TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {FORMAT}")
                stored.follow(path.name for path in home.scores.glob("*.parquet"))
            yield stored
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


@contextmanager
def reading(home: Home) -> Iterator[Transaction | None]:
    """Read only; None if nothing was ever written."""
    if not home.incidents.exists():
        yield None
        return
    with _errors(home), closing(_connected(f"file:{_quoted(home)}?mode=rw")) as connection:
        yield None if _is_new(home, connection) else Transaction(connection)


def _is_new(home: Home, connection: sqlite3.Connection) -> bool:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, FORMAT):
        raise AsdError(f"{home.incidents} has format {version}, of a newer asd; this one reads {FORMAT}: upgrade it")
    return bool(version == 0)


def _connected(address: str) -> sqlite3.Connection:
    connection: Any = sqlite3.connect(address, timeout=SECONDS_TO_WAIT, isolation_level=None, uri=True)
    return connection  # type: ignore[no-any-return]


def _quoted(home: Home) -> str:
    return home.incidents.as_uri().removeprefix("file:")


@contextmanager
def _errors(home: Home) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise AsdError(
            f"{home.incidents}: {error}. If it is damaged, move it away: incidents begin anew, scores are not affected."
        ) from error
