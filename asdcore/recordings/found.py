"""An audio file and what its place says about it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from asdcore.recordings.paths import can_be_told, on_disk, printable, surely

if TYPE_CHECKING:
    import pandas as pd  # Only for types: `asd results` answers without it.

DETECTOR = "detector "
"""What ``labelled_by`` begins with, before a version, where no person has settled a label."""
SIMULATED = "SIMULATED.txt"
"""A folder that holds this file holds simulated recordings: they get the attribute ``simulated``."""
NOT_TOLD = " (not UTF-8)"
"""Suffix for a file whose `printable` path is the name of another file."""


@dataclass(frozen=True)
class Found:
    """An audio file and what its place says about it. ``problem`` is empty, or the reason to quarantine it."""

    path: Path
    machine: str = ""
    section: str = "00"
    domain: str = "source"
    split: str = "train"
    label: str = "normal"
    attributes: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    session: str = ""
    """what was recorded in one go, see `asdcore.recordings.sessions`; empty: unknown"""
    labelled: bool = False
    """whether its place says the label; a training recording of which it does not is taken to be normal"""


def is_simulated(path: Path) -> bool:
    """Whether a file lies in a folder of simulated recordings."""
    return any(surely(above / SIMULATED, Path.is_file) for above in on_disk(path).resolve().parents)


def simulated_rows(recordings: "pd.DataFrame") -> "pd.Series":
    """Which rows of the table of recordings have the attribute ``simulated``: booleans."""
    return recordings["attributes"].fillna("").str.contains('"simulated":', regex=False)


def mark_simulated(found: Sequence[Found]) -> list[Found]:
    """Give simulated recordings the attribute, whatever link or manifest leads to them."""
    real = cache(Path.resolve)
    simulated = cache(
        lambda folder: any(surely(above / SIMULATED, Path.is_file) for above in (folder, *folder.parents))
    )

    def lies_in(path: Path) -> Path:
        file = on_disk(path)
        try:
            # A million files lie in few folders: only links are followed one by one.
            return file.resolve().parent if surely(file, Path.is_symlink) else real(file.parent)
        except (OSError, RuntimeError):  # A name that no file can have, or a loop of links.
            return file.parent

    return [
        replace(f, attributes=f.attributes | {"simulated": "yes"}) if simulated(lies_in(f.path)) else f for f in found
    ]


def called(path: Path) -> Path:
    """The `printable` path of a file, with a suffix if it is the name of another file."""
    shown = printable(path)
    return shown if can_be_told(path) else shown.with_name(f"{shown.name}{NOT_TOLD}")
