"""Stored scores: looked up in an index of the score tables, as each scoring run writes a file of its own.

The index, `INDEX` in the home, is made of the score tables and the table of recordings alone: it can be deleted.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from asdcore.progress import progress, say
from asdcore.recordings.found import DETECTOR
from asdcore.recordings.names import label_in_name
from asdcore.recordings.paths import nfc
from asdcore.storage.files import is_damage, listed, may_be_damaged, set_aside
from asdcore.storage.home import Home

T = TypeVar("T")
INDEX = "scores.db"
FORMAT = 2
NOT_SCORED = "not scored"
"""what a recording without a verdict is called"""
COLUMNS = (
    "scored_at",
    "machine",
    "score",
    "p_value",
    "verdict",
    "triggered_by",
    "label",
    "path",
    "recording",
    "detector",
    "in_training",
    "clips",
    "strangest_at",
    "reason",
    "table",
)

_OF_FILES = tuple(name for name in COLUMNS if name not in ("scored_at", "label", "table"))
_SCHEMA = f"""
    CREATE TABLE files (name TEXT PRIMARY KEY, size INTEGER, modified INTEGER);
    CREATE TABLE scores (file TEXT, scored_at TEXT, named TEXT, {", ".join(_OF_FILES)});
    CREATE INDEX scores_of_file ON scores (file);
    CREATE INDEX scores_in_time ON scores (scored_at);
    CREATE TABLE labels (file TEXT, recording TEXT, label TEXT);
    CREATE INDEX labels_of_file ON labels (file);
    CREATE INDEX labels_of_recording ON labels (recording);
    PRAGMA user_version = {FORMAT};"""
# What a detector has called normal is no label: it would agree with itself.
_SELECT = f"""
    SELECT scored_at, file, {", ".join(f"scores.{name}" for name in _OF_FILES)}, nullif(coalesce(nullif((
        SELECT label FROM labels WHERE labels.recording = scores.recording ORDER BY file DESC, rowid DESC LIMIT 1
    ), ''), nullif(named, '')), 'unknown') AS label
    FROM scores"""
_ALWAYS = {"scores": {"path", "machine", "score"}, "recordings": {"recording", "label", "reason"}}
"""folder: columns that each of its files has, whichever version of asd wrote it"""
_BATCH = 1000
"""files that are read before their rows are written"""


class Stored(NamedTuple):
    """Stored scores."""

    rows: list[dict[str, Any]]
    """with `COLUMNS`"""
    counts: dict[str, int]
    """verdict: how many there are, also where ``rows`` has not all of them"""


def stored_scores(
    home: Home,
    machines: Sequence[str] | None = None,
    since: datetime | None = None,
    verdicts: Sequence[str] | None = None,
    most: int | None = None,
) -> Stored:
    """Scores that scoring runs have stored, the newest run first, the strangest recording of a run first.

    Args:
        home: the score tables are in its folder ``scores``.
        machines: only these; None: all.
        since: only runs since then, an aware time.
        verdicts: only these; `NOT_SCORED` is one.
        most: so many rows; None: all.

    Returns:
        ``rows`` with scored_at: of the run, ISO 8601, UTC; label: normal or anomaly, as a person, a manifest or
        the name of the file says, None if nobody does; detector: its version; table: the file of the run; the others as
        in `asdcore.heard.score_table`, with None where there is nothing.
    """
    wanted, values = [], list[Any]()
    for name, allowed in (("machine", machines and [nfc(machine) for machine in machines]), ("verdict", verdicts)):
        if allowed is not None:
            wanted.append(f"scores.{name} IN ({', '.join('?' * len(allowed))})")
            values += allowed
    if since is not None:
        wanted.append("scored_at >= ?")
        values.append(_utc(since))
    where = f" WHERE {' AND '.join(wanted)}" if wanted else ""
    order = "ORDER BY scored_at DESC, file DESC, score IS NULL, score DESC, scores.rowid LIMIT ?"

    def looked_up(index: sqlite3.Connection) -> tuple[list[dict[str, Any]], dict[str, int]]:
        rows = index.execute(f"{_SELECT}{where} {order}", [*values, -1 if most is None else most])
        names = [column[0] for column in rows.description]
        found = [dict(zip(names, row, strict=True)) for row in rows]
        counted = index.execute(f"SELECT verdict, count(*) FROM scores{where} GROUP BY verdict", values)
        return found, dict(counted.fetchall())

    found, counts = _asked(home, looked_up)
    for row in found:
        row["table"] = str(home.root / row.pop("file"))
        row["in_training"] = None if row["in_training"] is None else bool(row["in_training"])
    return Stored([{name: row[name] for name in COLUMNS} for row in found], counts)


def scored_machines(home: Home) -> list[str]:
    """The machines that there are stored scores of."""
    return _asked(
        home,
        lambda index: [name for (name,) in index.execute("SELECT DISTINCT machine FROM scores ORDER BY machine")],
    )


def add_to_index(home: Home, table: Path) -> None:
    """Add a score table that has just been written. If that cannot be done, `stored_scores` will do it."""
    with suppress(sqlite3.Error, OSError), closing(_opened(home.root / INDEX)) as index:
        _read_into(index, home, {table.relative_to(home.root).as_posix(): _state(table.stat())})


def _asked(home: Home, question: Callable[[sqlite3.Connection], T]) -> T:
    """The answer of the index, which is brought up to date first."""
    present = dict(_files(home))
    if present:
        for _ in range(2):
            file = home.root / INDEX
            try:
                with closing(_opened(file)) as index:
                    _bring_up_to_date(index, home, present)
                    return question(index)
            except sqlite3.Error as error:
                if is_damage(error):
                    say(f"{file} is damaged ({error}): it was set aside as {set_aside(file).name} and is made again")
                    continue
                # Locked for a long time, on a disk that is full or read-only, or on one where SQLite cannot lock.
                say(f"the index {file} cannot be used ({error}), so every score table is read")
                break
    with closing(_opened(":memory:")) as index:
        _bring_up_to_date(index, home, present)
        return question(index)


def _opened(file: Path | str) -> sqlite3.Connection:
    """The database, empty if it is new or of another version of asd."""
    for _ in range(2):
        index = sqlite3.connect(file, timeout=10, isolation_level=None)
        try:
            (found,) = index.execute("PRAGMA user_version").fetchone()
            if found == FORMAT:
                return index
            if found == 0:
                index.execute("BEGIN IMMEDIATE")
                if index.execute("PRAGMA user_version").fetchone() == (0,):  # Nobody has made it in the meantime.
                    for statement in _SCHEMA.split(";")[:-1]:
                        index.execute(statement)
                index.execute("COMMIT")
                return index
        except BaseException:
            index.close()
            raise
        # Of another version of asd.
        index.close()
        Path(file).unlink(missing_ok=True)
    raise sqlite3.OperationalError("it cannot be made again")


def _files(home: Home) -> Iterator[tuple[str, tuple[int, int]]]:
    """The files that the index is made of: name below the home, size and time of the last change."""
    for folder, pattern in ((home.scores, "score-*.parquet"), (home.recordings, "part-*.parquet")):
        for path in listed(folder, pattern):
            with suppress(FileNotFoundError):
                yield f"{folder.name}/{path.name}", _state(path.stat())


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _bring_up_to_date(index: sqlite3.Connection, home: Home, present: Mapping[str, tuple[int, int]]) -> None:
    known = {name: (size, modified) for name, size, modified in index.execute("SELECT * FROM files")}
    # Another process may have added one since this one has looked.
    gone = [name for name in sorted(known.keys() - present.keys()) if not (home.root / name).exists()]
    if gone:
        with _transaction(index):
            for name in gone:
                _forget(index, name)
    new = {name: state for name, state in sorted(present.items()) if known.get(name) != state}
    if new:
        _read_into(index, home, new)


def _read_into(index: sqlite3.Connection, home: Home, new: Mapping[str, tuple[int, int]]) -> None:
    import pyarrow as pa

    def read(name: str) -> tuple[str, list[dict[str, Any]] | None]:
        try:
            return name, _rows(home.root / name)
        except FileNotFoundError:
            return name, None
        except (pa.ArrowException, OSError, ValueError) as error:
            why = "it is damaged" if may_be_damaged(error) else "it could not be read"
            say(f"left out, since {why}: {home.root / name}: {error}")
            return name, None

    waiting = progress(list(new), "reading scores") if len(new) > _BATCH else iter(new)
    with ThreadPoolExecutor(2) as threads:
        while batch := list(threads.map(read, islice(waiting, _BATCH))):
            with _transaction(index):
                for name, rows in batch:
                    if rows is not None:
                        _forget(index, name)
                        _insert(index, name, rows)
                        index.execute("INSERT INTO files VALUES (?, ?, ?)", [name, *new[name]])


@contextmanager
def _transaction(index: sqlite3.Connection) -> Iterator[None]:
    index.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        index.execute("ROLLBACK")
        raise
    index.execute("COMMIT")


def _forget(index: sqlite3.Connection, name: str) -> None:
    for table, column in (("files", "name"), ("scores", "file"), ("labels", "file")):
        index.execute(f"DELETE FROM {table} WHERE {column} = ?", [name])


def _rows(file: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as parquet:
        wanted = {*_OF_FILES, "decision", "seen_by", "label", "labelled_by", "forgotten_by"}
        columns = [name for name in parquet.schema_arrow.names if name in wanted]
        if missing := sorted(_ALWAYS[file.parent.name] - {*columns}):
            raise ValueError(f"it has no column {', '.join(missing)}")
        rows: list[dict[str, Any]] = parquet.read(columns, use_threads=False).to_pylist()
    return rows


def _insert(index: sqlite3.Connection, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    if name.startswith("recordings/"):
        labels = [(name, row["recording"], _label(row)) for row in rows if row["recording"] and not row["reason"]]
        index.executemany("INSERT INTO labels VALUES (?, ?, ?)", labels)
        return
    at = _time_of(name)
    index.executemany(
        f"INSERT INTO scores VALUES ({', '.join('?' * (len(_OF_FILES) + 3))})",
        [(name, at, label_in_name(Path(row["path"])), *_values(row)) for row in rows],
    )


def _label(row: Mapping[str, Any]) -> str:
    """What a person or a manifest says; empty: nobody does. A person's "unknown" is a word on the recording, too."""
    by = row.get("labelled_by") or ""
    nobody = row["label"] == "unknown" and not by
    return "" if nobody or by.startswith(DETECTOR) or row.get("forgotten_by") else str(row["label"])


def _values(row: Mapping[str, Any]) -> Iterator[Any]:
    """The values of `_OF_FILES`; files of version 0.1 have no verdict, and another name for triggered_by."""
    scored = row.get("score") is not None and row["score"] == row["score"]
    verdict = row.get("verdict") or ("anomalous" if row.get("decision") == 1 else "normal")
    words = {"verdict": verdict if scored else NOT_SCORED, "triggered_by": row.get("triggered_by", row.get("seen_by"))}
    for name in _OF_FILES:
        value = words.get(name, row.get(name))
        yield None if value == "" or value != value else value


def _time_of(name: str) -> str:
    """When a scoring run wrote its table, as its name says."""
    stamp = Path(name).stem.split("-")[1]
    with suppress(ValueError):
        return _utc(datetime.strptime(stamp, "%Y%m%dT%H%M%S").replace(tzinfo=UTC))
    return ""


def _utc(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")
