"""The situations that the tests of this folder try, as a table.

A test has the marker ``situation("what there is", before="what asd did", after="what it does")``. ``before`` is what
commit d1a29d4 did when it was tried, or "the same, right". Where it was not tried, it says so; what it adds then is
from a user ("reported: ...") or from reading the code ("not tried; by the code: ...").
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

GROUPS = {
    "test_watching": "Watching",
    "test_names_and_folders": "Names and folders",
    "test_audio": "Audio",
    "test_machine_room": "Machine room",
    "test_stores": "Stores and services",
}


class Situation(NamedTuple):
    """One row of the table."""

    group: str
    what: str
    before: str
    after: str


def situation_of(marker: pytest.Mark | None, file: Path) -> Situation:
    """The row of a test.

    Raises:
        LookupError: the test has no marker ``situation``.
    """
    if marker is None:
        raise LookupError(f"{file.name}: each test here needs the marker situation(what, before=..., after=...)")
    return Situation(GROUPS[file.stem], *marker.args, **marker.kwargs)


def situations() -> list[Situation]:
    """Every situation, in the order of the files and of their tests, each once."""
    found: dict[Situation, None] = {}
    for stem in GROUPS:
        module = importlib.import_module(f"tests.flows.situations.{stem}")
        for name, test in vars(module).items():
            for marker in getattr(test, "pytestmark", []) if name.startswith("test_") else []:
                if marker.name == "situation":
                    found[situation_of(marker, Path(f"{stem}.py"))] = None
    return list(found)


def markdown(rows: Sequence[Situation], outcomes: Mapping[Situation, Sequence[str]] | None = None) -> str:
    """A table for each group; with ``outcomes``, it has a column with the outcomes of the tests of each row."""
    lines: list[str] = []
    for group in dict.fromkeys(row.group for row in rows):
        head = ["situation", "before", "now", *(["tests"] if outcomes else [])]
        lines += ["", f"### {group}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        for row in rows:
            if row.group == group:
                ended = [", ".join(outcomes[row])] if outcomes else []
                lines.append(f"| {' | '.join([row.what, row.before, row.after, *ended])} |")
    return "\n".join(lines).strip()
