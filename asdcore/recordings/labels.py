"""What a person names, files, folders, digests or a CSV, to recordings of the table and their labels."""

import csv
from collections.abc import Sequence
from pathlib import Path

from asdcore.errors import AsdError
from asdcore.recordings.catalog import LABELS, Catalog
from asdcore.storage.files import digest_of_file

SHORTEST_DIGEST = 8
"""digits that name a recording"""


def labels_of(catalog: Catalog, what: Sequence[str], label: str | None) -> dict[str, str]:
    """The label of each recording that is named.

    Args:
        catalog: the table of recordings.
        what: audio files, folders of them, digests or their first digits, or CSV files with the columns ``recording``
            and, unless ``label`` is given, ``label``.
        label: of all of them.

    Returns:
        recording digest: label.

    Raises:
        AsdError: something that names no recording of the table, or several, or has no label or two.
    """
    labels: dict[str, str] = {}
    for one in what:
        file = one.lower().endswith(".csv") and Path(one).is_file()
        for name, own in _rows(Path(one)) if file else [(one, "")]:
            said = own or label
            if said not in LABELS:
                raise AsdError(
                    f"{name}: label {said!r} is none of {', '.join(LABELS)}; give --as normal or --as anomaly"
                )
            for recording in _recordings(catalog, name):
                if labels.setdefault(recording, said) != said:
                    raise AsdError(f"{name} is called {labels[recording]} and {said}")
    return labels


def _rows(file: Path) -> list[tuple[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        if "recording" not in (reader.fieldnames or []):
            raise AsdError(f"{file}: no column recording; it needs recording (path or digest) and label")
        # A path is relative to the file that names it.
        return [(_beside(file, row["recording"] or ""), row.get("label") or "") for row in reader]


def _beside(file: Path, name: str) -> str:
    return str(file.parent / name) if (file.parent / name).exists() else name


def _recordings(catalog: Catalog, name: str) -> list[str]:
    """The digests that a path or a digest names."""
    rows, path = catalog.recordings, Path(name)
    if path.is_dir():
        below = rows["path"].map(lambda other: Path(other).is_relative_to(path.resolve()))
        found = list(rows.loc[below, "recording"])
    elif path.is_file():
        digest = digest_of_file(path)
        found = list(rows.loc[rows["recording"] == digest, "recording"])
    else:
        found = list(rows.loc[rows["path"] == str(path.expanduser().absolute()), "recording"])
        if not found and len(name) >= SHORTEST_DIGEST:
            found = list(rows.loc[rows["recording"].str.startswith(name), "recording"])
            if len(found) > 1:
                raise AsdError(f"{name} are the first digits of {len(found)} recordings: give more of them")
    if not found:
        raise AsdError(f"{name}: no recording of the table; `asd ingest` it first")
    return found
