"""Which enrolled machine a name or a file means."""

from collections.abc import Collection, Mapping
from pathlib import Path

from asdcore.recordings.label_words import Answers
from asdcore.recordings.names import parse_place
from asdcore.recordings.paths import absolute, nfc


def enrolled_as(name: str, machines: Collection[str]) -> str | None:
    """The one of ``machines`` that has this name, in whatever form of Unicode; None: there is none.

    >>> enrolled_as("Lu\u0308fter", ["L\u00fcfter"])
    'Lüfter'
    """
    if name in machines:
        return name
    return next((machine for machine in machines if nfc(machine) == nfc(name)), None)


def machine_said(file: Path, machines: Collection[str], renamed: Mapping[str, str], answers: Answers) -> str:
    """The machine that the folders of a file name, enrolled or not; the only one of ``machines``, if there is but one.

    Args:
        file: need not exist. A link is of the machine of the folder that it lies in.
        machines: that are enrolled.
        renamed: name in folders: name now.
        answers: what a person has said of folders whose names may be labels.
    """
    if len(machines) == 1:
        return next(iter(machines))
    said = parse_place(absolute(file), answers).machine
    said = renamed.get(said, said)
    return enrolled_as(said, machines) or said
