"""Where incidents are kept: a SQLite file in the home, with the messages about them that are still to be sent.

An incident and its message are written in one transaction, so that neither is lost without the other if a process is
killed, and several processes can write at the same time.
"""

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from filelock import FileLock

from asdcore.errors import AsdError
from asdcore.progress import say
from asdcore.storage.files import disk_remedies, is_damage, listed, set_aside
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


@dataclass(frozen=True)
class StoredMessage:
    """What has happened to an incident. ``json``: the incident as it was then."""

    n: int
    id: str
    at: datetime
    event: str
    json: str


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

    def rename(self, old: str, new: str) -> None:
        """What was kept of a machine is kept under another name; what was kept under that name already stays."""
        for table, column in (("heard", "machine"), ("machines", "name")):
            self.run(f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {column} = ?", (new, old))
            self.run(f"DELETE FROM {table} WHERE {column} = ?", (old,))

    def _keep_of_machine(self, machine: str, column: str, value: str | int) -> None:
        self.run("INSERT OR IGNORE INTO machines (name) VALUES (?)", (machine,))
        self.run(f"UPDATE machines SET {column} = ? WHERE name = ?", (value, machine))

    def messages(self, channel: str) -> list[StoredMessage]:
        """Those that a channel has not sent yet, oldest first."""
        rows = self.run(
            "SELECT n, id, at, event, json FROM messages "
            "WHERE n > (SELECT sent FROM channels WHERE name = ?) ORDER BY n",
            (channel,),
        )
        return [StoredMessage(n, name, datetime.fromisoformat(at), event, text) for n, name, at, event, text in rows]

    def subscribe(self, channel: str, since: datetime) -> None:
        """Let a channel that is new send what has happened since then."""
        self.run(
            "INSERT OR IGNORE INTO channels (name, sent) "
            "VALUES (?, (SELECT coalesce(max(n), 0) FROM messages WHERE at < ?))",
            (channel, since.astimezone(UTC).isoformat(timespec="seconds")),
        )

    def knows(self, channel: str) -> bool:
        """Whether `subscribe` was called for it."""
        return self.run("SELECT 1 FROM channels WHERE name = ?", (channel,)).fetchone() is not None

    def sent(self, channel: str, n: int) -> None:
        """A channel has sent the messages up to this one."""
        self.run(
            "UPDATE channels SET sent = ?, failures = 0, retry_at = NULL, error = NULL WHERE name = ?", (n, channel)
        )

    def failed(self, channel: str, error: str, at: datetime, pause: Callable[[int], timedelta]) -> None:
        """A channel has failed; ``pause``: how long it waits, by the number of earlier failures in a row."""
        (failures,) = self.run("SELECT failures FROM channels WHERE name = ?", (channel,)).fetchone()
        self.run(
            "UPDATE channels SET failures = failures + 1, retry_at = ?, error = ? WHERE name = ?",
            ((at + pause(failures)).isoformat(timespec="seconds"), error, channel),
        )

    def failure(self, channel: str) -> tuple[datetime, str] | None:
        """The time of a channel's next attempt and its last error; None if it did not fail."""
        row = self.run("SELECT retry_at, error FROM channels WHERE name = ? AND retry_at IS NOT NULL", (channel,))
        found = row.fetchone()
        return (datetime.fromisoformat(found[0]), str(found[1])) if found else None

    def expire(self, before: datetime) -> dict[str, int]:
        """Delete messages of before this time; how many each channel has not sent."""
        at = before.isoformat(timespec="seconds")
        lost = self.run(
            "SELECT name, count(*) FROM channels JOIN messages ON n > sent WHERE at < ? GROUP BY name", (at,)
        ).fetchall()
        self.run("DELETE FROM messages WHERE at < ?", (at,))
        return dict(lost)


@contextmanager
def changing(home: Home) -> Iterator[Transaction]:
    """Read and write as the only process that does so; nothing is kept if the block raises an error.

    In a new file everything in ``scores/`` counts as followed already: what was scored before opens no incident. A
    damaged file is set aside, and a new one begins.

    Raises:
        AsdError: the disk is full, or the file is not one of this version.
    """
    with disk_remedies(home.incidents):
        home.root.mkdir(parents=True, exist_ok=True)
    if home.incidents.exists() and not is_usable(home):
        set_damaged_aside(home)
    with _errors(home), closing(_connected(f"file:{_quoted(home)}?mode=rwc")) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            stored = Transaction(connection)
            if _is_new(home, connection):
                for statement in TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {FORMAT}")
                stored.follow(path.name for path in listed(home.scores, "*.parquet"))
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


def is_usable(home: Home, *, thorough: bool = False) -> bool:
    """Whether there is a file that is not damaged; one that is locked is usable. ``thorough``: read all of it."""
    if not home.incidents.exists():
        return False
    try:
        with closing(_connected(f"file:{_quoted(home)}?mode=rw")) as connection:
            question = "PRAGMA quick_check(1)" if thorough else "SELECT 'ok' FROM (SELECT count(*) FROM sqlite_master)"
            return bool(connection.execute(question).fetchone() == ("ok",))
    except sqlite3.Error as error:
        return not is_damage(error)


def set_damaged_aside(home: Home) -> None:
    """Move a damaged file away, so that a new one can begin."""
    with FileLock(home.root / "incidents.lock"):
        if home.incidents.exists() and not is_usable(home, thorough=True):  # Else another process has done it.
            aside = set_aside(home.incidents)
            say(f"{home.incidents} was damaged: it was set aside as {aside.name}; incidents start again, scores stay")


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
        if is_damage(error):
            said = "The next scoring run sets it aside, and incidents start again; scores stay."
        elif "locked" in str(error):
            said = f"Another program has kept it locked for {SECONDS_TO_WAIT} s: close it, and try again."
        elif "full" in str(error):
            said = "Free some space."
        else:
            said = "Can this user write to it and to its folder?"
        raise AsdError(f"{home.incidents}: {error}. {said}") from error
