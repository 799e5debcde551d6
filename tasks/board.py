"""What the board shows, read from the files of a home: scores, labels, incidents, the champion.

Files are read once and kept as long as they do not change. Neither Prefect nor MLflow is imported here, unless the
registry is elsewhere.
"""

import json
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from asdcore.errors import AsdError
from asdcore.monitoring.states import in_order, judged
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.found import DETECTOR, is_simulated, simulated_rows
from asdcore.reports.known import session_of
from asdcore.storage.files import listed
from asdcore.storage.home import Home
from tasks.labels import label_recordings
from tasks.registered import CHAMPION, DESCRIPTION, load_detector, registered_folder, versions_in_file
from tasks.results import stored_scores

if TYPE_CHECKING:
    from asdcore.detector import Detector

MOST_ROWS = 100_000
"""stored scores that are looked at, the newest ones"""
SECONDS_BETWEEN_PULLS = 60
"""of a home in object storage"""
SECONDS_OF_ANSWER = 60
"""for which an error holds, and the answer of a registry elsewhere: MLflow is not asked at each request"""
_TYPES: dict[Hashable, Any] = {
    "path": object,
    "recording": object,
    "machine": object,
    "score": float,
    "p_value": float,
    "verdict": object,
    "triggered_by": object,
    "in_training": "boolean",
    "clips": "Int64",
    "strangest_at": float,
    "reason": object,
    "detector": object,
}
"""columns of stored scores, and their types"""
_WRITING = threading.Lock()
"""The lock of a home is for processes: it lets in every thread of its holder."""


@dataclass(frozen=True)
class Champion:
    """The champion, as its description says it; nothing of it is loaded."""

    version: str
    registered: datetime | None
    """None: not known here"""
    machines: tuple[str, ...]
    simulated: frozenset[str]
    """machines that were learned from simulated recordings"""


class Records:
    """The files of a home, to be asked again and again, by several threads.

    Args:
        home: where they are; it may be empty.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self._lock, self._loading = threading.RLock(), threading.Lock()
        self._scores = pd.DataFrame()
        self._tables: frozenset[str] | None = None
        self._catalog: tuple[list[str], pd.DataFrame] | None = None
        self._recordings: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame] | None = None
        self._champion: tuple[str | None, Champion | AsdError] | None = None
        self._detector: tuple[Detector, str] | None = None
        self._pulled = self._asked = float("-inf")

    def recordings(self) -> pd.DataFrame:
        """Every recording that was scored, one row each: the columns of a score table; at and first, when it was scored
        last and first, UTC; session; simulated; label, labelled_by (a person) and labelled_at of the table of
        recordings, missing where it is not in it; and now, see `judged`.
        """
        with self._lock:
            self._pull()
            scores, table = self._read_scores(), self.catalog()
            if self._recordings is None or self._recordings[0] is not scores or self._recordings[1] is not table:
                settled = ["session", "label", "labelled_by", "labelled_at", "attributes"]
                known = table.set_index("recording")[settled].rename(columns={"session": "of_table"})
                rows = scores.join(known, on="recording")
                rows["session"] = rows["of_table"].where(rows["of_table"].fillna("") != "", rows["session"])
                by_detector = rows["labelled_by"].fillna("").str.startswith(DETECTOR)
                rows["labelled_by"] = rows["labelled_by"].mask(by_detector)
                rows["simulated"] |= simulated_rows(rows)
                rows = in_order(rows.drop(columns="of_table"))
                self._recordings = scores, table, rows.assign(now=judged(rows))
            return self._recordings[2]

    def knows(self, recording: str) -> bool:
        """Whether a recording (digest) was ever scored."""
        with self._lock:
            return bool(recording) and bool((self._read_scores()["recording"] == recording).any())

    def verdicts(self, recording: str) -> pd.DataFrame:
        """Every verdict that was ever given on a recording (digest), the oldest first."""
        with self._lock:
            scores = self._read_scores()
            return scores[scores["recording"] == recording].assign(label=None, labelled_by=None)

    def catalog(self) -> pd.DataFrame:
        """The usable rows of the table of recordings, see `Catalog`."""
        with self._lock:
            parts = [path.name for path in listed(self.home.recordings, "part-*.parquet")]
            if self._catalog is None or self._catalog[0] != parts:
                self._catalog = parts, Catalog(self.home.recordings).recordings
            return self._catalog[1]

    def champion(self) -> Champion | None:
        """The champion; None if there is none.

        Raises:
            AsdError: it is registered, but cannot be read.
        """
        with self._lock:
            versions = versions_in_file(self.home)
            version = next((one for one in versions or () if CHAMPION in one.aliases), None)
            if versions is not None and version is None:
                return None
            # None: only MLflow can tell.
            key = f"{version.number} {version.location}" if version else None
            known = self._champion[1] if self._champion and self._champion[0] == key else None
            lasts = version is not None and isinstance(known, Champion)
            if known is None or (not lasts and time.monotonic() - self._asked > SECONDS_OF_ANSWER):
                known = self._described(version.created if version else None)
                # Not before: a server that is down is waited for longer than this lasts.
                self._asked = time.monotonic()
                self._champion = key, known
            if isinstance(known, AsdError):
                raise AsdError(str(known))
            return known

    def _described(self, created: int | None) -> Champion | AsdError:
        try:
            with registered_folder(self.home, CHAMPION) as (folder, version):
                return _described(folder, version, created)
        except AsdError as error:
            return error

    def detector(self) -> tuple["Detector", str]:
        """The champion and its version.

        Raises:
            AsdError: there is none, or it cannot be loaded.
        """
        champion = self.champion()
        with self._loading:  # It takes seconds: a page that does without is not kept waiting.
            if champion is None or self._detector is None or self._detector[1] != champion.version:
                self._detector = load_detector(self.home)
            return self._detector

    def _pull(self) -> None:
        """Fetch what is new of a home in object storage."""
        if self.home.address and time.monotonic() - self._pulled > SECONDS_BETWEEN_PULLS:
            try:
                with self.home.synchronised():
                    self.home.fetch_folder(self.home.scores)
            finally:  # A bucket that does not answer is not waited for at each request.
                self._pulled = time.monotonic()

    def _read_scores(self) -> pd.DataFrame:
        """The stored scores, the oldest run first: only what is new is read again."""
        tables = frozenset(path.name for path in listed(self.home.scores, "score-*.parquet"))
        if tables == self._tables:
            return self._scores
        # All, unless every new run is later than the known ones: the newest of these may have been read in part.
        later = self._tables and self._tables <= tables and min(tables - self._tables) > max(self._tables)
        newest = self._scores["at"].max() if later and len(self._scores) else None
        found = stored_scores(self.home, since=newest, most=MOST_ROWS).rows
        rows = pd.DataFrame(found, columns=[*_TYPES, "scored_at", "table"])
        rows = rows.fillna({"recording": "", "triggered_by": "", "reason": ""}).astype(_TYPES)
        times = pd.to_datetime(rows.pop("scored_at"), utc=True, format="ISO8601", errors="coerce")
        rows["at"] = times.fillna(pd.Timestamp(0, tz=UTC))
        rows = rows.sort_values(["at", "table", "path"]).drop(columns="table")
        sessions = {path: session_of(Path(path)) for path in rows["path"].unique()}
        rows["session"] = rows["path"].map(sessions).astype(object)
        folders = rows["path"].str.rpartition("/")[0] if len(rows) else rows["path"]
        simulated = {folder: is_simulated(Path(folder) / "any") for folder in folders.unique()}
        rows["simulated"] = folders.map(simulated).astype(bool)
        if newest is not None:
            rows = pd.concat([self._scores[self._scores["at"] < newest], rows], ignore_index=True)
        self._scores, self._tables = rows, tables
        return rows


def label(records: Records, recording: str, said: str, by: str) -> None:
    """What a person says that a recording (digest) is.

    Raises:
        AsdError: it cannot be labelled, or another process is changing the table of recordings.
    """

    def refuse(message: str) -> None:
        raise AsdError(f"not saved: {message}. Try again when it has finished")

    with _WRITING, records.home.lock_table(refuse):
        label_recordings(records.home, [recording], said, by)


def _described(folder: Path, version: str, created: int | None) -> Champion:
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        machines, about = tuple(description["machines"]), description["about"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AsdError(f"{folder / DESCRIPTION}: no description of a detector ({error!r}); `asd retrain`") from error
    return Champion(
        version,
        datetime.fromtimestamp(created / 1000, UTC) if created is not None else None,
        machines,
        frozenset(
            machine for machine in machines if about.get("enrolled", {}).get(machine, about).get("simulated", False)
        ),
    )
