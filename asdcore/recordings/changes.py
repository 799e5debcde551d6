"""Files of a watched folder that may be new or have changed.

Events of the operating system are quick, but not reliable: a network share sends none, their number is limited, and
they get lost. So all files are scanned now and then, whatever the events say.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from watchfiles import Change, watch

from asdcore.recordings.folders import SPLIT_FOLDERS
from asdcore.recordings.listing import AUDIO_SUFFIXES, OTHER_AUDIO, audio_files, is_hidden
from asdcore.recordings.manifest import MANIFEST
from asdcore.recordings.paths import surely

TICK = 1.0
"""Seconds between two results."""
RESCAN = 600.0
"""Seconds between two scans of all files if there are events."""
POLL = 5.0
"""Seconds between two scans of all files if there are none."""
SCANNING = 0.1
"""Largest fraction of the time that scans may take."""

TABLES = ".csv"
"""Suffix of manifests and tables of attributes."""
ATTRIBUTES = "attributes_"
"""How the names of tables of attributes begin."""

Events = set[tuple[Change, str]]


def changed_files(folder: Path, poll: bool, say: Callable[[str], None]) -> Iterator[set[Path]]:
    """The audio files and tables below ``folder`` that may be new or have changed, about once a second.

    The first result has every file, those that cannot be decoded among them. Links are followed. Hidden files, and what
    lies in hidden folders, are left out.

    Args:
        folder: need not be there all the time.
        poll: scan all files every few seconds instead of waiting for events.
        say: called with a message if the folder is not there, or sends no events.
    """
    said = ""
    while True:
        events, trouble = (None, "") if poll else _events(folder)
        began = time.monotonic()
        try:
            there = folder.is_dir()
            found = _all_files(folder) if there else set()
        except OSError as error:
            there, found, trouble = False, set(), str(error)
        if not there:
            trouble = f"{folder} is not there at the moment"
        if trouble != said:
            say(trouble or f"{folder} is there again{'' if poll else ', and sends events'}")
        said = trouble
        pause = (time.monotonic() - began) / SCANNING
        yield found
        found = set()  # Not kept until the next scan: there may be a million.
        soonest = time.monotonic() + max(TICK, pause)
        until = time.monotonic() + max(POLL if events is None else RESCAN, pause)
        while time.monotonic() < until:
            if events is None:
                time.sleep(TICK)
                yield set()
                continue
            try:
                paths = [Path(name) for change, name in next(events) if change != Change.deleted]
            except Exception:  # An event about a name that is not UTF-8, for example: what it was is seen below.
                events, until = None, min(until, soonest)
                continue
            if any(surely(path, Path.is_dir) for path in paths):
                # What is in it may have been there before. And no events come from behind a link that is new.
                until = min(until, soonest)
            yield {path for path in paths if _counts(path, folder)}


def _events(folder: Path) -> tuple[Iterator[Events] | None, str]:
    """Sets of events, an empty one after a second without; or none, and why there can be none."""
    events = watch(
        folder,
        watch_filter=None,
        rust_timeout=int(1000 * TICK),
        yield_on_timeout=True,
        step=200,
        ignore_permission_denied=True,
    )
    try:
        next(events)  # Events are collected from here on. The scan that follows covers what these were about.
    except Exception as error:
        return None, f"{folder} sends no events ({error}): all its files are scanned every few seconds"
    return events, ""


def _all_files(folder: Path) -> set[Path]:
    listing = audio_files(folder)
    files = {*listing.files, *(path for path in listing.left_out if surely(path, Path.is_file))}
    machines = {path.parent.parent for path in files if path.parent.name in SPLIT_FOLDERS}
    attributes = {table for machine in machines for table in machine.glob(f"{ATTRIBUTES}*{TABLES}")}
    return files | attributes | {folder / MANIFEST}


def _counts(path: Path, folder: Path) -> bool:
    with suppress(OSError, ValueError):
        hidden = any(is_hidden(part) for part in path.relative_to(folder).parts)
        return (
            (path.suffix.lower() in AUDIO_SUFFIXES | OTHER_AUDIO or _is_table(path, folder))
            and not hidden
            and path.is_file()
        )
    return False


def _is_table(path: Path, folder: Path) -> bool:
    """Other tables, such as the log of a sensor that grows all the time, say nothing of recordings."""
    return path == folder / MANIFEST or (path.name.startswith(ATTRIBUTES) and path.suffix == TABLES)
