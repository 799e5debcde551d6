"""Which files of a watched folder have arrived: complete, and not handled yet in their present state."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from asdcore.recordings.paths import on_disk
from asdcore.recordings.rows import stat_of

LONGEST_PAUSE = 24 * 3600.0
"""seconds between two tries with a file that could not be used"""


@dataclass
class _Waiting:
    """A file that counts as arrived if its state (``stat``) is still the same at the time ``due``."""

    stat: str
    due: float
    pause: float = 0.0
    """seconds from the last try with it, in its present state, to the next; 0: there was none"""


class Arriving:
    """Files that were seen, and since when they have not changed.

    Args:
        quiet: seconds without a change after which a file has arrived.
        known: names of files that were handled earlier, and their state then, see `asdcore.recordings.rows.stat_of`.
        clock: seconds that never go backwards, whatever the time of day does.
    """

    def __init__(
        self, quiet: float, known: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.quiet = quiet
        self.clock = clock
        self._handled = dict(known or {})
        """by name: there may be a million, and a `Path` takes three times as much memory"""
        self._waiting: dict[Path, _Waiting] = {}

    def look(self, paths: Iterable[Path]) -> None:
        """Take files into account that are new, or have changed since they were handled."""
        for path in paths:
            before = self._waiting.get(path)
            stat = _stat(path)
            if stat and stat != (before.stat if before else self._handled.get(str(path))):
                self._waiting[path] = _Waiting(stat, self.clock() + self.quiet)

    def arrived(self, most: int | None = None) -> list[Path]:
        """At most so many files that have stopped changing; each is returned once in each of its states."""
        complete: list[Path] = []
        for path in sorted(path for path, waiting in self._waiting.items() if waiting.due <= self.clock()):
            waiting = self._waiting[path]
            stat = _stat(path)
            if stat is None:
                del self._waiting[path]  # It is gone again.
            elif stat != waiting.stat:
                self._waiting[path] = _Waiting(stat, self.clock() + self.quiet)
            elif most is None or len(complete) < most:
                complete.append(path)
                self._handled[str(path)] = stat
                waiting.due = math.inf
        return complete

    def handled(self, paths: Iterable[Path]) -> None:
        """Do not return these files, which had arrived, again unless they change."""
        for path in paths:
            if path in self._waiting and self._waiting[path].due == math.inf:
                del self._waiting[path]

    def again(self, paths: Iterable[Path], pause: float) -> None:
        """Return these files, which had arrived, again after so many seconds, and after twice as many the next time."""
        for path in paths:
            if path in self._waiting and (waiting := self._waiting[path]).due == math.inf:
                waiting.pause = min(2 * waiting.pause or pause, LONGEST_PAUSE)
                waiting.due = self.clock() + waiting.pause

    def hurry(self) -> None:
        """Return the files that wait for another try at once: what kept them from being used may be gone."""
        for waiting in self._waiting.values():
            if waiting.pause:
                waiting.due = min(waiting.due, self.clock())

    @property
    def growing(self) -> bool:
        """Whether a file has changed just now."""
        return any(not waiting.pause and waiting.due < math.inf for waiting in self._waiting.values())


def known_states(recordings: pd.DataFrame, folder: Path) -> dict[str, str]:
    """The names of the files below ``folder`` in the table of recordings, and their state when they were read.

    Of a file that an older version has read, the state is not known, or not all of it: it counts as the present one,
    unless the file has changed since.
    """
    states: dict[str, str] = {}
    below = f"{str(folder).rstrip('/')}/"
    columns = (recordings[name] for name in ("path", "stat", "ingested_at"))
    for name, stat, ingested_at in zip(*columns, strict=True):
        path = on_disk(Path(name))
        file = str(path)
        if not file.startswith(below):
            continue
        if str(stat).count(" ") == 2:
            states[file] = str(stat)
            continue
        with suppress(OSError):
            states[file] = stat_of(path) if path.stat().st_ctime <= ingested_at.timestamp() else ""
    return states


def _stat(path: Path) -> str | None:
    try:
        return stat_of(path)
    except OSError:
        return None
