"""Watch a folder: recordings that have arrived completely are ingested, scored and reported."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from asdcore.recordings.arriving import LONGEST_PAUSE, Arriving, known_states
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.changes import TABLES, changed_files
from asdcore.recordings.manifest import MANIFEST
from asdcore.recordings.paths import printable
from asdcore.recordings.training import pending_review
from asdcore.settings import RecordingSettings
from asdcore.storage.home import Home
from flows.arrivals import Arrivals, arrivals
from flows.attempts import Attempts
from flows.ingest import ingest
from tasks.events import ARRIVED, tell
from tasks.notification import SECONDS_BETWEEN_MESSAGES, Every, notified
from tasks.registered import CHAMPION, registered_models
from tasks.run_names import counted

MOST_FILES = 250
"""Files per ingest; Prefect rejects runs with parameters of more than 512 KB."""
QUARANTINED_PAUSE = 60.0
"""Seconds after which a file in quarantine is tried again for the first time."""
SECONDS_BETWEEN_EVENTS = 300.0
"""after which a Prefect server is told again of what is still not judged: it, or its worker, may have been down"""
SHOWN = 20
"""files that are named in one go, of those in quarantine, or to listen to"""

Say = Callable[[str], None]


def watch_folder(
    folder: Path,
    home: Home,
    settings: RecordingSettings,
    quiet: float,
    retrain_after: int,
    poll: bool,
    say: Say,
) -> None:
    """Ingest what arrives below ``folder`` until Ctrl-C, and what has arrived or was replaced since the last time.

    Whatever fails is reported, opens an incident and is tried again. With a Prefect server the event
    `asd.recordings.arrived` starts the deployment `arrivals`; without one it is run here.
    """
    say(f"Watching {folder}; a recording has arrived when it has not changed for {quiet:g} s. Ctrl-C ends it.")
    messages = Every(SECONDS_BETWEEN_MESSAGES)
    watcher: Watcher | None = None
    starting = Attempts("ingest", home, say)
    seen: set[Path] = set()
    for changed in changed_files(folder, poll, say):
        seen |= changed
        if watcher is None and starting.due():
            with starting.attempt():
                watcher = Watcher(folder, home, settings, quiet, retrain_after, say)
        if watcher is not None:
            watcher.look(seen)
            watcher.take()
            watcher.judge()
            seen = set()
            pa.default_memory_pool().release_unused()  # What reading the table took, which Arrow would keep.
        if messages.due():
            notified(home)


class Watcher:
    """A watched folder: what has arrived in it, and what waits to be judged."""

    def __init__(
        self,
        folder: Path,
        home: Home,
        settings: RecordingSettings,
        quiet: float,
        retrain_after: int,
        say: Say,
    ) -> None:
        self.folder, self.home, self.settings, self.say = folder, home, settings, say
        self.files = Arriving(quiet, known_states(Catalog(home.recordings).recordings, folder))
        self.tables = Arriving(quiet)
        self.ingests = Attempts("ingest", home, say)
        self.waiting = Waiting(home, retrain_after, say)
        self._reasons: dict[str, str] = {}
        self._has_manifest = False

    def look(self, changed: set[Path]) -> None:
        """Take note of files that may be new or have changed.

        A table that has changed, or a manifest that is gone, may make other files usable.
        """
        self.files.look(path for path in changed if path.suffix.lower() != TABLES)
        self.tables.look(path for path in changed if path.suffix.lower() == TABLES)
        had_manifest, self._has_manifest = self._has_manifest, os.path.lexists(self.folder / MANIFEST)
        tables = self.tables.arrived()
        if tables or (had_manifest and not self._has_manifest):
            self.tables.handled(tables)
            self.files.hurry()
            self.ingests.now()

    def take(self) -> None:
        """Ingest what has arrived."""
        if not self.ingests.due() or not (whole := self.files.arrived(MOST_FILES)):
            return
        # A manifest may be read while it is being written, which is not a failure.
        with self.ingests.attempt(expected=self.tables.growing):
            self._ingest(whole)
            whole = []
        self.files.again(whole, 0)

    def judge(self) -> None:
        """Judge what was ingested but not yet judged, as soon as there is a champion."""
        self.waiting.judge()

    def _ingest(self, whole: list[Path]) -> None:
        names = {str(printable(path)): path for path in whole}
        done = ingest(
            recordings=self.folder, settings=self.settings, arrived=[Path(name) for name in names], home=self.home.root
        )
        unlisted = dict.fromkeys(done["unlisted"], f"not listed in {self.folder / MANIFEST}")
        left_out = unlisted | done["left_out"]
        reasons = done["quarantined"] | left_out
        # Of a folder that cannot be listed, no file is known.
        unusable = [path for name, path in names.items() if reasons.keys() & {name, *map(str, Path(name).parents)}]
        self.files.again(unusable, QUARANTINED_PAUSE)
        self.files.handled(whole)
        news = {name: reason for name, reason in reasons.items() if self._reasons.get(name) != reason}
        self._reasons |= news
        if done["added"]:
            self.waiting.more()
        if done["added"] or news:
            more = f", {n} left out" if (n := len(left_out.keys() & news)) else ""
            self.say(
                f"{counted(len(whole), 'file')}: {counted(done['added'], 'new recording')}, "
                f"{len(done['quarantined'])} quarantined{more}"
            )
        for name, reason in list(news.items())[:SHOWN]:
            self.say(f"  {name}: {reason}")
        if len(news) > SHOWN:
            self.say(f"  and {len(news) - SHOWN} more")


class Waiting:
    """Recordings that were ingested, by whatever command, and that no detector has judged."""

    def __init__(self, home: Home, retrain_after: int, say: Say) -> None:
        self.home, self.retrain_after, self.say = home, retrain_after, say
        self.attempts = Attempts("arrivals", home, say)
        self._unjudged: dict[str, str] | None = None
        """digest: machine; None: not yet read"""
        self._asked: set[str] = set()
        """those that were judged by the version ``_version``, or could not be"""
        self._version = ""
        self._postponed = False
        """whether those that were judged are still to be learned, as another command was using the home"""
        self._look = Every(SECONDS_BETWEEN_MESSAGES)
        self._again = Every(SECONDS_BETWEEN_EVENTS)
        self._said = False

    def more(self) -> None:
        """Take new ones into account at once, even if others could not be judged."""
        self._unjudged = None
        self._again = Every(SECONDS_BETWEEN_EVENTS)
        self.attempts.now()

    def judge(self) -> None:
        """Judge them if there is a champion; those that it could not judge wait for the next one."""
        nothing_new = self._unjudged is not None and not self.attempts.failures
        pending = self._unjudged or self._postponed
        if not self.attempts.due() or (nothing_new and not (pending and self._look.due())):
            return
        with self.attempts.attempt():
            champion = champion_version(self.home, self.say)
            if self._unjudged is None or champion != self._version:
                self._unjudged = unjudged(self.home)
            elif os.environ.get("PREFECT_API_URL") and self._again.due():
                # Ever more rarely: those of a machine that is not enrolled stay.
                self._again = Every(min(2 * self._again.seconds, LONGEST_PAUSE))
                self._unjudged, self._asked = unjudged(self.home), set()
            asked_before = champion == self._version and self._asked.issuperset(self._unjudged)
            if (not self._unjudged or asked_before) and not (self._postponed and self._is_free()):
                return
            if not champion:
                self._say_once(f"{len(self._unjudged)} recordings wait for a champion: `asd retrain` makes one.")
                return
            asked = set(self._unjudged)
            if os.environ.get("PREFECT_API_URL"):
                tell(ARRIVED, self.home, {"machines": sorted(set(self._unjudged.values())), "added": len(asked)})
            else:
                judged = arrivals(retrain_after=self.retrain_after, home=self.home.root)
                show(judged, self.say)
                self._postpone(judged["postponed"])
                self._unjudged, champion = unjudged(self.home), champion_version(self.home, self.say)
            self._asked, self._version, self._said = asked, champion, False

    def _postpone(self, busy: str) -> None:
        if busy and not self._postponed:
            self.say(
                f"{busy} is using {self.home.root}, perhaps for a retraining. What arrives is judged; machines are "
                "fitted again, and a retraining can become due, once it has ended."
            )
        self._postponed = bool(busy)

    def _is_free(self) -> bool:
        with self.home.lock_if_free() as busy:
            return not busy

    def _say_once(self, text: str) -> None:
        if not self._said:
            self.say(text)
        self._said = True


def unjudged(home: Home) -> dict[str, str]:
    """Recordings that are pending review and that neither a person nor a detector has labelled: digest: machine."""
    rows = pending_review(Catalog(home.recordings).recordings)
    rows = rows[rows["labelled_by"].isna()]
    return dict(zip(rows["recording"], rows["machine"], strict=True))


def champion_version(home: Home, say: Say) -> str:
    """The version of the champion; empty if the registry says that there is none.

    Raises:
        AsdError: the registry does not answer.
    """
    with home.synchronised(say):
        models = registered_models(home)
    return next((model["version"] for model in models if CHAMPION in model["alias"].split(", ")), "")


def show(judged: Arrivals, say: Say) -> None:
    """Say what the champion has found."""
    for machine, counts in judged["machines"].items():
        waiting, failed = counts["waiting"], counts["not scored"]
        say(f"{machine}: {counts['normal']} normal, {waiting} pending review, {failed} not scored")
    for path in judged["waiting"][:SHOWN]:
        say(f"  listen to {path}")
    if (more := len(judged["waiting"]) - SHOWN) > 0:
        say(f"  and to {more} more; `asd label --pending` lists them")
    if judged["report"]:
        say(f"Report of the day: {judged['report']}")
    if judged["fitted_again"]:
        say(f"Fitted again on their new sessions: {', '.join(judged['fitted_again'])}")
    if judged["retraining_due"]:
        say(f"A retraining is due ({judged['retraining_due']}): `asd retrain`")
