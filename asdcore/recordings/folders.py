"""Which of a recording's folders names its machine, which its session, and which says its label.

The machine's folder is the nearest one above the file that is no session, no split, no label and no plain number. Its
sessions are the folders between it and the file, and a day or a numbered session directly above it
(``2026-05-01/pump7/a.wav``). If none of these is a day, the nearest day further above is part of the session
(``2026-05-01/hall1/pump7/a.wav``). Its labels (`asdcore.recordings.label_words`) are in the same places
(``pump7/OK/a.wav``, ``defect/pump7/a.wav``). Folders above the given place do not count: a tree means the
same wherever it is.

Names of machines and sessions are in Unicode's form NFC, whatever form their folders have.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asdcore.recordings.label_words import NO_ANSWERS, Answers, label_said
from asdcore.recordings.paths import nfc

SPLIT_FOLDERS = {
    "train": "train",
    "test": "test",
    "source_test": "test",
    "target_test": "test",
    # The official baseline copies the recordings of test into it, with names that say the label.
    "test_rename": "test",
}

_YEAR, _DAY_OR_MONTH = r"(?:19|20)\d{2}", r"(?:0?[1-9]|[12]\d|3[01])"
_TWO_DIGITS = r"(?:0[1-9]|[12]\d|3[01])"
"""of a day or a month: without signs between them, others are those of a serial number"""
_MONTH = (
    r"(?:jan(?:uary?)?|feb(?:ruary?)?|mar(?:ch)?|märz?|mrz|apr(?:il)?|ma[yi]|jun[ei]?|jul[yi]?|aug(?:ust)?"
    r"|sept?(?:ember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)"
)
_DATE = (
    rf"(?:{_YEAR}[-_.]?{_TWO_DIGITS}[-_.]?{_TWO_DIGITS}|{_DAY_OR_MONTH}[-_.]{_DAY_OR_MONTH}[-_.]{_YEAR}"
    rf"|{_DAY_OR_MONTH}[-_. ]*{_MONTH}[-_., ]*{_YEAR}|{_YEAR}[-_. ]*{_MONTH}[-_. ]*{_DAY_OR_MONTH})"
)
_TIME = r"(?:[01]\d|2[0-3])[-_.:hH]?[0-5]\d(?:[-_.:mM]?[0-5]\d)?(?: ?(?:Z|UTC|[-+]\d\d:?\d\d))?"
_PART = r"\d+|(?:early |late )?(?:morning|noon|afternoon|evening|night|shift|am|pm)"
_SESSION = re.compile(
    rf"{_DATE}(?:[T _-]?{_TIME})?(?:[-_ ](?P<word>{_PART}|\w+))?"
    r"|20[12]\d(?:[-_.](?:0[1-9]|1[0-2]))?"
    rf"|{_YEAR}[-_. ]*{_MONTH}|(?:\d{{1,2}}[-_. ]*)?{_MONTH}(?:[-_. ]*{_YEAR})?"
    rf"|{_YEAR}[-_ ]?[ck]?w[-_ ]?\d{{1,2}}|[ck]w[-_ ]?\d{{1,2}}(?:[-_ ]{_YEAR})?"
    rf"|(?:mon|tues|wednes|thurs|fri|satur|sun)day(?:[-_ ](?:{_PART}))?|mon|tue|wed|thu|fri|sat|sun"
    r"|(?:day|session|run|take|week|batch|shift|visit|measurement|messung|tag)[-_ ]?\d+",
    re.IGNORECASE,
)
_DAY = re.compile(rf"{_DATE}(?:[T _-]?{_TIME})?(?:[-_ ](?:{_PART}))?", re.IGNORECASE)
_YEAR_MONTH_DAY = re.compile(r"(?:19|20)\d{2}/(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])")
_NUMBER = re.compile(r"\d{1,3}")
"""Longer numbers are serial numbers and name machines."""
_OF_TYPE = re.compile(r"id[-_ ]?(\d{1,2})", re.IGNORECASE)
"""MIMII's machines: several types have one with this name, so the name of the type is added."""


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
    labels: tuple[str, ...] = ()
    """the folders below the machine's that say a label"""
    labels_above: tuple[str, ...] = ()
    """those directly above it"""
    section: str = "00"
    """the number of a machine that is named by its type and this number"""


def names_a_session(folder: str) -> bool:
    """Whether a folder of this name is a session of the machine that another folder names: a date, a week, a month, a
    year, a weekday, a plain number of up to three digits, or a numbered day, session, run, take, week, batch, shift,
    visit or measurement.

    >>> [names_a_session(name) for name in ("2026-05-01 morning", "2026-05", "Monday", "run_2", "7", "4711", "pump7")]
    [True, True, True, True, True, False, False]
    >>> [names_a_session(name) for name in ("26.11.2026", "26-Nov-2026", "2026-W48", "KW48", "W48")]
    [True, True, True, True, False]
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


def folders_of(
    folder: Path, place: Path | None, machine: str | None = None, answers: Answers = NO_ANSWERS
) -> list[str]:
    """The names of the folders down to ``folder``, from the given ``place`` on; all of them for None.

    ``machine``, if the user has named it, stands for the place, or above it if the place is a session.

    >>> folders_of(Path("/data/hall/pump7/monday"), Path("/data/hall"))
    ['hall', 'pump7', 'monday']
    """
    if place is None:
        return [nfc(name) for name in folder.parts if name != folder.anchor]
    top = place
    # The folder of a split or a label belongs to the machine that the one above it names.
    while top.name in SPLIT_FOLDERS or label_said(top.name, answers):
        top = top.parent
    below = folder.relative_to(top).parts
    first = [top.name] if machine is None else [machine, *([top.name] if names_a_session(top.name) else [])]
    return [nfc(name) for name in (*first, *below)]


def locate(folders: Sequence[str], answers: Answers = NO_ANSWERS) -> Location:
    """Machine, session and labels of a recording.

    Args:
        folders: see `folders_of`. The first one is never a session or a label of what is above it.
        answers: what a person has said of names that may be labels.

    >>> locate(["plant", "pump7", "2026-05-01", "run_2"]).session
    '2026-05-01/run_2'
    >>> locate(["plant", "2026-05-01", "pump7"]).session, locate(["plant", "2026-05-01", "hall1", "pump7"]).session
    ('2026-05-01', '2026-05-01')
    >>> locate(["plant", "pump7", "OK"]).labels, locate(["plant", "defect", "pump7"]).labels_above
    (('OK',), ('defect',))
    """
    index, split = len(folders) - 1, ""
    below: list[str] = []
    labels: list[str] = []
    while index >= 0:
        name = folders[index]
        if name in SPLIT_FOLDERS and not split:
            split = name
        elif index > 0 and label_said(name, answers):
            labels.append(name)
        elif index > 0 and names_a_session(name):
            below.insert(0, name)
        else:
            break
        index -= 1
    if index < 0:
        return Location("", "/".join(below), split, labels=tuple(labels))
    machine, section, of_type = folders[index], "00", _OF_TYPE.fullmatch(folders[index])
    if of_type and labels and index > 0:
        machine, section = f"{folders[index - 1]}_{machine}", f"{int(of_type[1]):02d}"
    above, above_labels = _above(folders[:index], answers)
    session = above + below
    if not split and not _day_of(session):
        # A date far above a split folder is that of the data set, not of its recordings.
        session = _day_of(folders[:index]) + session
    first = below[0] if below else ""
    return Location(machine, "/".join(session), split, index, first, tuple(labels), tuple(above_labels), section)


def _above(folders: Sequence[str], answers: Answers) -> tuple[list[str], list[str]]:
    """The session and the labels directly above a machine's name; there, a plain number alone is a hall or a line."""
    sessions: list[str] = []
    labels: list[str] = []
    for name in reversed(folders):
        if label_said(name, answers):
            labels.append(name)
        elif names_a_session(name):
            sessions.insert(0, name)
        elif sessions or name not in SPLIT_FOLDERS:
            break
    while sessions and is_number(sessions[0]):
        sessions.pop(0)
    return sessions, labels


def _day_of(folders: Sequence[str]) -> list[str]:
    """The lowest of the folders that is a day, or the three that are year, month and day; empty if there is none."""
    for end in range(len(folders), 0, -1):
        if _DAY.fullmatch(folders[end - 1]):
            return [folders[end - 1]]
        if _YEAR_MONTH_DAY.fullmatch("/".join(folders[max(end - 3, 0) : end])):
            return list(folders[end - 3 : end])
    return []
