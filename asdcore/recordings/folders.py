"""Which of a recording's folders names its machine, and which its session.

The machine's folder is the nearest one above the file that is no session, no split and no plain number. Its sessions
are the folders between it and the file, and a day or a numbered session directly above it (``2026-05-01/pump7/a.wav``).
If none of these is a day, the nearest day further above is part of the session (``2026-05-01/hall1/pump7/a.wav``).
What is above the place that was given is not looked at: a tree means the same wherever it lies.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SPLIT_FOLDERS = {"train": "train", "test": "test", "source_test": "test", "target_test": "test"}

_DATE = r"(?:19|20)\d{2}[-_.]?\d{2}[-_.]?\d{2}"
_TIME = r"(?:[01]\d|2[0-3])[-_.:hH]?[0-5]\d(?:[-_.:mM]?[0-5]\d)?"
_PART = r"\d+|(?:early |late )?(?:morning|noon|afternoon|evening|night|shift|am|pm)"
_SESSION = re.compile(
    rf"{_DATE}(?:[T _-]?{_TIME})?(?:[-_ ](?P<word>\w+))?"
    r"|20[12]\d(?:[-_.](?:0[1-9]|1[0-2]))?"
    rf"|(?:mon|tues|wednes|thurs|fri|satur|sun)day(?:[-_ ](?:{_PART}))?|mon|tue|wed|thu|fri|sat|sun"
    r"|(?:day|session|run|take|week|batch|shift|visit|measurement|messung|tag)[-_ ]?\d+",
    re.IGNORECASE,
)
_DAY = re.compile(rf"{_DATE}(?:[T _-]?{_TIME})?(?:[-_ ](?:{_PART}))?", re.IGNORECASE)
_YEAR_MONTH_DAY = re.compile(r"(?:19|20)\d{2}/(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])")
_NUMBER = re.compile(r"\d{1,3}")
"""Longer ones are serial numbers: they name machines."""


@dataclass(frozen=True)
class Location:
    """What the folders of a recording say."""

    machine: str
    session: str
    """empty: unknown"""
    split: str = ""
    """the split folder, see `SPLIT_FOLDERS`; empty: none"""
    depth: int = 0
    """folders from the given one to the machine's; 0: the given one is the machine's"""
    below: str = ""
    """the first session folder below the machine's"""


def names_a_session(folder: str) -> bool:
    """Whether a folder of this name is a session of the machine that another folder names: a date, a month, a year, a
    weekday, a plain number of up to three digits, or a numbered day, session, run, take, week, batch, shift, visit or
    measurement.

    >>> [names_a_session(name) for name in ("2026-05-01 morning", "2026-05", "Monday", "run_2", "7", "4711", "pump7")]
    [True, True, True, True, True, False, False]
    """
    return _SESSION.fullmatch(folder) is not None or is_number(folder)


def is_number(folder: str) -> bool:
    """Whether it is a plain number of up to three digits."""
    return _NUMBER.fullmatch(folder) is not None


def may_name_a_machine(folder: str) -> bool:
    """Whether a session's name may as well be that of a machine: a plain number, or a date with a word that is no part
    of the day.

    >>> [may_name_a_machine(name) for name in ("7", "2026-05-01_pump7", "2026-05-01 morning", "2026-05-01")]
    [True, True, False, False]
    """
    match = _SESSION.fullmatch(folder)
    word = match["word"] if match else None
    return is_number(folder) or (word is not None and not re.fullmatch(_PART, word, re.IGNORECASE))


def folders_of(path: Path, place: Path | None, machine: str | None = None) -> list[str]:
    """The names of the folders of ``path``, from the given ``place`` down; all of them for None.

    ``machine``, if the user has named it, stands for the place, or above it if the place is a session.

    >>> folders_of(Path("/data/hall/pump7/monday/a.wav"), Path("/data/hall"))
    ['hall', 'pump7', 'monday']
    """
    if place is None:
        return [name for name in path.parent.parts if name != path.anchor]
    # The folder of a split belongs to the machine that the one above it names.
    top = place.parent if place.name in SPLIT_FOLDERS else place
    below = path.parent.relative_to(top).parts
    if machine is None:
        return [top.name, *below]
    return [machine, *([top.name] if names_a_session(top.name) else []), *below]


def locate(folders: Sequence[str]) -> Location:
    """Machine and session of a recording.

    Args:
        folders: see `folders_of`. The first one is never a session of what is above it.

    >>> locate(["plant", "pump7", "2026-05-01", "run_2"])
    Location(machine='pump7', session='2026-05-01/run_2', split='', depth=1, below='2026-05-01')
    >>> locate(["plant", "2026-05-01", "pump7"]).session, locate(["plant", "2026-05-01", "hall1", "pump7"]).session
    ('2026-05-01', '2026-05-01')
    """
    index, below = _sessions_up(folders, len(folders) - 1)
    split = ""
    if index >= 0 and folders[index] in SPLIT_FOLDERS:
        # A session may be above the split folder, below it, or both.
        split = folders[index]
        index, above = _sessions_up(folders, index - 1)
        below = above + below
    if index < 0:
        return Location("", "/".join(below), split)
    session = _above(folders[:index]) + below
    if not split and not _day_of(session):
        # Far above a split folder there is a data set: when it was stored says nothing of its recordings.
        session = _day_of(folders[:index]) + session
    return Location(folders[index], "/".join(session), split, index, below[0] if below else "")


def _sessions_up(folders: Sequence[str], index: int) -> tuple[int, list[str]]:
    """The first folder from ``index`` upwards that is no session, and the sessions below it."""
    last = index
    while index > 0 and names_a_session(folders[index]):
        index -= 1
    return index, list(folders[index + 1 : last + 1])


def _above(folders: Sequence[str]) -> list[str]:
    """The session that the folders directly above a machine's name; there, a plain number alone is a hall or a line."""
    rest = list(folders)
    while rest and rest[-1] in SPLIT_FOLDERS:
        rest.pop()
    start = len(rest)
    while start > 0 and names_a_session(rest[start - 1]):
        start -= 1
    while start < len(rest) and is_number(rest[start]):
        start += 1
    return rest[start:]


def _day_of(folders: Sequence[str]) -> list[str]:
    """The lowest of the folders that is a day, or the three that are year, month and day; empty if there is none."""
    for end in range(len(folders), 0, -1):
        if _DAY.fullmatch(folders[end - 1]):
            return [folders[end - 1]]
        if _YEAR_MONTH_DAY.fullmatch("/".join(folders[max(end - 3, 0) : end])):
            return list(folders[end - 3 : end])
    return []
