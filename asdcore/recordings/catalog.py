"""The table of recordings: Parquet parts to which rows are only added, see `asdcore.recordings.parts`.

One row says what was known of one recording at one ingest; a later row about the same content replaces an earlier one
on reading. Rows with a ``reason`` are the quarantine.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from asdcore.errors import AsdError
from asdcore.progress import progress
from asdcore.recordings.copies import without_copies
from asdcore.recordings.found import Found
from asdcore.recordings.parts import read_parts
from asdcore.recordings.paths import nfc
from asdcore.recordings.renamed import rename, renamed
from asdcore.recordings.rows import (
    FACTS,
    UNREAD,
    label_stays,
    news_of,
    plain,
    row_of,
    settings_key,
    settled_of,
    supersedes,
    usable_of,
    without_conflicts,
)
from asdcore.recordings.sessions import sessions_by_time, time_stamp
from asdcore.recordings.training import training_recordings
from asdcore.settings import RecordingSettings
from asdcore.storage.files import atomic_write

SCHEMA = pa.schema(
    [
        ("recording", pa.string()),  # SHA-256 of the file's content
        ("path", pa.string()),
        ("machine", pa.string()),
        ("section", pa.string()),
        ("domain", pa.string()),  # source, target, unknown
        ("split", pa.string()),  # train, test
        ("label", pa.string()),  # normal, anomaly, unknown
        ("attributes", pa.string()),  # a JSON object of strings
        ("seconds", pa.float64()),
        ("sample_rate", pa.int32()),  # Hz, of the file
        ("channels", pa.int32()),
        ("treatment", pa.string()),  # what was done to get the waveform
        ("reason", pa.string()),  # why it is in quarantine; empty: it is not
        ("ingested_at", pa.timestamp("us", tz="UTC")),  # later than in every part before, whatever the clock does
        ("settings", pa.string()),  # digest of those it was decoded and judged with; null in parts of older versions
        ("labelled_by", pa.string()),  # who has settled the label, or looked at it; null: the place of the file says it
        ("labelled_at", pa.timestamp("us", tz="UTC")),
        ("session", pa.string()),  # what was recorded in one go; empty: unknown; null in parts of older versions
        ("forgotten_by", pa.string()),  # who has removed it from the table; null: nobody
        ("codec", pa.string()),  # a lossy one; empty: none; null in parts of older versions
        ("sound", pa.string()),  # digest of the decoded samples; null in parts of older versions
        ("stat", pa.string()),  # size and time of change of the file as it was read; null in parts of older versions
    ]
)
LABELS = ("normal", "anomaly", "unknown")

Review = Callable[[Sequence[Mapping[str, Any]]], Mapping[str, str]]
"""Looks at rows that are about to become normal training data: digest: who says that a person has to decide first."""


@dataclass(frozen=True)
class Ingested:
    """What one ingest did. ``machines``: all that the place holds, new or not."""

    added: int
    known: int
    duplicates: int
    quarantined: dict[str, str]
    """path: reason"""
    machines: list[str]
    pending: list[str]
    """paths of new recordings that do not train until a person decides, see `Review`"""
    forgotten: list[str]
    """paths of recordings that were left out, see `Catalog.forget`"""


class Catalog:
    """The table of recordings in a folder.

    Args:
        folder: where the parts are; need not exist yet.

    Raises:
        AsdError: the folder cannot be listed, or a part cannot be read: what was ingested is not known.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        table, self._next_part = read_parts(folder, SCHEMA)
        rows = table.to_pandas()
        rows["session"] = rows["session"].fillna("")
        rows["machine"] = rows["machine"].map(nfc)  # From versions that stored names as they are on the disk.
        self._newest: pd.Timestamp = rows["ingested_at"].max()  # NaT: there is none
        # The newest word on a path and on a content is the one that holds.
        contents = rows[rows["recording"] != ""].drop_duplicates("recording", keep="last")
        self.forgotten: pd.DataFrame = contents[contents["forgotten_by"].notna()].reset_index(drop=True)
        """Recordings that a person has removed, one row each; they stay out whatever is ingested."""
        rows = rows.drop_duplicates("path", keep="last")
        rows = rows[~rows["recording"].isin(self.forgotten["recording"])]
        readable = rows["recording"] != ""
        rows = pd.concat([rows[~readable], rows[readable].drop_duplicates("recording", keep="last")])
        bad = rows["reason"] != ""
        self.recordings: pd.DataFrame = rows[~bad].sort_values(["machine", "recording"]).reset_index(drop=True)
        """Usable recordings, one row each."""
        # Of those in use, their rows say it.
        replaced = contents["labelled_by"].notna() & ~contents.index.isin(rows.index[~bad])
        self._settled = contents[replaced].set_index("recording")
        self.quarantined: pd.DataFrame = rows[bad].sort_values("path").reset_index(drop=True)

    def of_machines(self, machines: Iterable[str] | None) -> pd.DataFrame:
        """The usable recordings of ``machines``; of all if None.

        Raises:
            AsdError: a machine without a recording, naming those there are.
        """
        if machines is None:
            return self.recordings
        there, machines = set(self.recordings["machine"]), list(map(nfc, machines))
        unknown = sorted(set(machines) - there)
        if unknown:
            raise AsdError(
                f"no recording of machine {', '.join(unknown)}; there are recordings of {', '.join(sorted(there))}"
            )
        return self.recordings[self.recordings["machine"].isin(list(machines))].reset_index(drop=True)

    def append(self, rows: Sequence[dict[str, object]]) -> None:
        """Write one more part, whole or not at all, and read the table again; without rows, neither.

        A clock that was set back does not make what comes now older than what came before.
        """
        if not rows:
            return
        after = self._newest + pd.Timedelta(microseconds=1)  # of the first part NaT, which no time is less than
        timed = [row | {"ingested_at": max(cast("datetime", row["ingested_at"]), after)} for row in rows]
        table = pa.Table.from_pylist(timed, schema=SCHEMA)
        with atomic_write(self.folder / f"part-{self._next_part:06d}-{uuid.uuid4().hex[:8]}.parquet") as temporary:
            pq.write_table(table, temporary)
        self.__init__(self.folder)  # type: ignore[misc]

    def quarantine(self, reasons: dict[str, str]) -> None:
        """Take recordings out of use. ``reasons``: recording digest: why."""
        rows = self.recordings[self.recordings["recording"].isin(list(reasons))].to_dict("records")
        self.append(
            [plain(row) | {"reason": reasons[row["recording"]], "ingested_at": datetime.now(UTC)} for row in rows]
        )

    def label(self, labels: Mapping[str, str], by: str) -> None:
        """Settle what recordings are. A label that was settled stays, whatever a later ingest says of the file.

        Args:
            labels: recording digest: normal, anomaly, or unknown: somebody has to look.
            by: who says so.

        Raises:
            AsdError: a recording that is not in the table, or another label.
        """
        unknown = sorted(set(labels) - set(self.recordings["recording"]))
        if unknown:
            raise AsdError(f"{len(unknown)} recordings are not in the table, {unknown[0]} first: ingest them")
        wrong = sorted(set(labels.values()) - set(LABELS))
        if wrong:
            raise AsdError(f"label {wrong[0]!r} is none of {', '.join(LABELS)}")
        now = datetime.now(UTC)
        rows = self.recordings[self.recordings["recording"].isin(list(labels))].to_dict("records")
        settled = {"labelled_by": by, "labelled_at": now, "ingested_at": now}
        self.append([plain(row) | {"label": labels[row["recording"]]} | settled for row in rows])

    def forget(self, recordings: Iterable[str], by: str | None) -> None:
        """Remove recordings from the table: no later ingest brings them back. Without ``by`` they come back.

        Args:
            recordings: digests; those that are not in the table, or were not forgotten, are passed over.
            by: who says so; None: they are in the table again, as they were.
        """
        rows = self.recordings if by else self.forgotten
        chosen = rows[rows["recording"].isin(list(recordings))].to_dict("records")
        said = {"forgotten_by": by, "ingested_at": datetime.now(UTC)}
        # Where another recording has taken the path of one that comes back, it keeps it.
        paths = [] if by else [row["path"] for row in chosen]
        holders = self.recordings[self.recordings["path"].isin(paths)].to_dict("records")
        self.append([plain(row) | said for row in chosen] + [plain(row) for row in holders])

    def rename(self, old: str, new: str) -> None:
        """Give a machine another name; what is ingested of the old one from now on gets the new one.

        Raises:
            AsdError: no recording of ``old``, recordings of ``new``, or a name that cannot be part of a file's name.
        """
        rows = self.of_machines([old])
        if new in set(self.recordings["machine"]):
            raise AsdError(f"there are recordings of {new} already: two machines cannot become one")
        # First what later ingests do: a command that was killed is repeated.
        rename(self.folder, old, new)
        rows = pd.concat([rows, self.forgotten[self.forgotten["machine"] == old]])
        changed = {"machine": new, "ingested_at": datetime.now(UTC)}
        self.append([plain(row) | changed for row in rows.to_dict("records")])

    def _with_sessions(self, found: Sequence[Found], gap: timedelta) -> list[Found]:
        """Give recordings without a session, whose names tell the time, the session of that time."""
        stamped: dict[str, dict[str, datetime]] = {}
        for recording in found:
            if not recording.session and not recording.problem and (time := _time_of(str(recording.path))):
                stamped.setdefault(recording.machine, {})[str(recording.path)] = time
        sessions: dict[str, str] = {}
        for machine, times in stamped.items():
            rows = self.recordings[(self.recordings["machine"] == machine) & (self.recordings["session"] != "")]
            known = {_time_of(path): session for path, session in zip(rows["path"], rows["session"], strict=True)}
            sessions |= sessions_by_time(times, gap, {time: session for time, session in known.items() if time})
        return [replace(recording, session=sessions.get(str(recording.path), recording.session)) for recording in found]

    def _settled_before(self, digest: str) -> dict[str, Any] | None:
        """A labelled recording that comes back: from the quarantine, or as a copy of a file that was replaced."""
        return plain(self._settled.loc[digest].to_dict()) if digest in self._settled.index else None

    def ingest(
        self, found: Sequence[Found], settings: RecordingSettings, review: Review | None = None, session: str = ""
    ) -> Ingested:
        """Add what is new among ``found``; the files themselves are only read.

        A known recording is decoded and checked again if ``settings`` differ from those that it was ingested with.

        Args:
            found: the recordings of a place.
            settings: how it is read, and when it is too bad to use.
            review: reviews what would become normal training data; None: no review.
            session: of new recordings whose place and name say none.
        """
        known = self.recordings.set_index("recording")
        in_quarantine = dict(zip(self.quarantined["path"], self.quarantined["reason"], strict=True))
        key = settings_key(settings)
        names = renamed(self.folder)
        found = [replace(one, machine=names.get(one.machine, one.machine)) for one in found]
        found = self._with_sessions(found, timedelta(minutes=settings.session_gap_minutes))
        forgotten = set(self.forgotten["recording"])

        def described(one: Found) -> dict[str, object]:
            return row_of(one, settings, key, known, forgotten)

        threads = ThreadPoolExecutor()
        try:
            rows = list(progress(threads.map(described, found), "reading recordings", total=len(found)))
        finally:
            # They only read, which takes minutes if a recording is long: Ctrl-C does not wait for them.
            threads.shutdown(wait=False, cancel_futures=True)
        sounds = self.forgotten["sound"].dropna()  # With a new comment, for example.
        forgotten |= set(sounds) - set(_among(known["sound"], sounds))
        left_out = [str(row["path"]) for row in rows if forgotten & {row["recording"], row.get("sound")}]
        rows = [row for row in rows if not forgotten & {row["recording"], row.get("sound")}]
        usable = set(_among(known["path"], [row["path"] for row in rows]))
        good = usable_of(rows)
        good, conflicts = without_conflicts(good, known)
        good, duplicates, refused = without_copies(good, known)
        new, seen = dict[str, dict[str, object]](), set[str]()
        for row in good:
            digest = str(row["recording"])
            if digest in seen:
                duplicates.append(row)
                continue
            seen.add(digest)
            before = plain(known.loc[digest].to_dict()) if digest in known.index else None
            row["session"] = row["session"] or (before["session"] if before else session)
            if (settled := before or self._settled_before(digest)) and label_stays(row, settled):
                row |= settled_of(row, settled)
            if before is None or supersedes(row, before):
                new[digest] = row
            elif row["settings"] != before["settings"]:
                # Another file of the same content: what is known of the first one stays.
                facts = {name: row[name] for name in (*FACTS, "ingested_at")}
                new[digest] = before | facts | {"recording": digest}
        pending = _reviewed(new, known, review)
        bad = [row for row in rows if row["reason"]] + conflicts + refused
        seen_bad: set[object] = set()
        for row in bad:
            # One row alone takes a known content out of use; the others are about their paths.
            row["recording"] = "" if row["recording"] in seen_bad else row["recording"]
            seen_bad.add(row["recording"])
        # A copy that is no longer bad leaves the quarantine; first, so that it gives way to the row of its content.
        freed = [row for row in good if str(row["path"]) in in_quarantine and not _holds(row, new)]
        of_freed = known[known.index.isin([row["recording"] for row in freed])]
        holders = [plain(row) for row in of_freed.reset_index().to_dict("records")]
        # Where a manifest lists a file in use a second time, as another thing, that is only reported. So is a disk or a
        # share that did not answer, which says nothing about a known recording.
        paths = Counter(str(row["path"]) for row in rows)
        reported = {path for path in usable if paths[path] > 1}
        reported |= {str(row["path"]) for row in good} & {str(row["path"]) for row in conflicts}
        reported |= {str(row["path"]) for row in bad if row.get(UNREAD)} & usable
        bad_news = news_of(bad, in_quarantine, reported)
        self.append([*freed, *holders, *new.values(), *bad_news])
        added = sum(digest not in known.index for digest in seen)
        return Ingested(
            added=added,
            known=len(seen) - added,
            duplicates=len(duplicates),
            quarantined={str(row["path"]): str(row["reason"]) for row in reversed(bad)},
            machines=sorted({str(row["machine"]) for row in good}),
            pending=pending,
            forgotten=left_out,
        )


def _among(column: pd.Series, values: Iterable[object]) -> pd.Series:
    """The cells of a column of the table that are one of a few values."""
    return column[column.isin(list(values))]


def _time_of(path: str) -> datetime | None:
    return time_stamp(Path(path).stem)


def _holds(row: Mapping[str, Any], new: Mapping[str, Mapping[str, Any]]) -> bool:
    return str(row["recording"]) in new and new[str(row["recording"])]["path"] == row["path"]


def _reviewed(new: dict[str, dict[str, Any]], known: pd.DataFrame, review: Review | None) -> list[str]:
    """Mark rows that must not train until a person decides; their paths."""
    normal = {
        digest: row
        for digest, row in new.items()
        if (row["split"], row["label"]) == ("train", "normal") and not row.get("labelled_by")
    }
    if review is None or not normal:
        return []
    trained = set(training_recordings(known.reset_index())["recording"])
    unknown = [row for digest, row in normal.items() if digest not in trained]
    doubted = review(unknown) if unknown else {}
    for digest, by in doubted.items():
        new[digest] |= {"label": "unknown", "labelled_by": by, "labelled_at": datetime.now(UTC)}
    return sorted(str(new[digest]["path"]) for digest in doubted)
