"""Watch a folder: recordings that have arrived completely are ingested, scored and reported."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from watchfiles import watch

from asdcore.recordings.catalog import Catalog
from asdcore.recordings.listing import AUDIO_SUFFIXES
from asdcore.settings import RecordingSettings
from asdcore.storage.home import Home
from flows.arrivals import arrivals
from flows.ingest import ingest
from tasks.events import ARRIVED, tell
from tasks.notification import SECONDS_BETWEEN_MESSAGES, Every, notified

TICK = 1.0
"""Seconds between two looks at files that are still growing."""


class Arriving:
    """Files that were seen, and since when they have not changed.

    Args:
        quiet: seconds without a change after which a file has arrived.
        clock: seconds that never go backwards, whatever the time of day does.
    """

    def __init__(self, quiet: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.quiet = quiet
        self.clock = clock
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}

    def look(self, paths: "Iterator[Path] | list[Path]") -> None:
        """Take files into account that are new or have changed."""
        for path in paths:
            self._seen.setdefault(path, ((-1, -1), self.clock()))

    def arrived(self) -> list[Path]:
        """The files that have stopped growing; each is given once."""
        complete = []
        for path, (before, since) in list(self._seen.items()):
            try:
                status = path.stat()
            except OSError:  # It is gone again.
                del self._seen[path]
                continue
            now = (status.st_size, status.st_mtime_ns)
            if now != before:
                self._seen[path] = (now, self.clock())
            elif self.clock() - since >= self.quiet:
                complete.append(path)
                del self._seen[path]
        return sorted(complete)


def watch_folder(
    folder: Path,
    home: Home,
    settings: RecordingSettings,
    quiet: float,
    retrain_after: int,
    poll: bool,
    say: Callable[[str], None],
) -> None:
    """Ingest what arrives below ``folder`` until Ctrl-C, and what has arrived since the last time.

    With a Prefect server the event `asd.recordings.arrived` starts the deployment `arrivals`; without one it is run
    here.
    """
    arriving = Arriving(quiet)
    known = set(Catalog(home.recordings).recordings["path"])
    arriving.look([path for path in _audio(folder) if str(path) not in known])
    say(f"Watching {folder}; a recording has arrived when it has not changed for {quiet:g} s. Ctrl-C ends it.")
    messages = Every(SECONDS_BETWEEN_MESSAGES)
    changes = watch(folder, rust_timeout=int(1000 * TICK), yield_on_timeout=True, force_polling=poll or None, step=200)
    for changed in changes:
        paths = [Path(path).resolve() for _, path in changed]
        arriving.look([path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()])
        whole = arriving.arrived()
        if whole:
            _take(folder, whole, home, settings, retrain_after, say)
        if messages.due():
            notified(home)


def _take(
    folder: Path,
    whole: list[Path],
    home: Home,
    settings: RecordingSettings,
    retrain_after: int,
    say: Callable[[str], None],
) -> None:
    done = ingest(recordings=folder, settings=settings, arrived=whole, home=home.root)
    bad = "".join(f"\n  {path}: {reason}" for path, reason in done["quarantined"].items())
    say(f"{len(whole)} files: {done['added']} new recordings, {len(done['quarantined'])} quarantined{bad}")
    if not done["added"]:
        return
    tell(ARRIVED, home, {"machines": done["machines"], "added": done["added"]})
    if os.environ.get("PREFECT_API_URL"):
        return
    judged = arrivals(retrain_after=retrain_after, home=home.root)
    for machine, counts in judged["machines"].items():
        waiting, failed = counts["waiting"], counts["not scored"]
        say(f"{machine}: {counts['normal']} normal, {waiting} pending review, {failed} not scored")
    for path in judged["waiting"]:
        say(f"  listen to {path}")
    if judged["report"]:
        say(f"Report of the day: {judged['report']}")
    if judged["fitted_again"]:
        say(f"Fitted again on their new sessions: {', '.join(judged['fitted_again'])}")
    if judged["retraining_due"]:
        say(f"A retraining is due ({judged['retraining_due']}): `asd retrain`")


def _audio(folder: Path) -> list[Path]:
    return [path.resolve() for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()]
