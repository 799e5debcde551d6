"""Rows of the table of recordings: what is known of a file, and which of two rows about one content holds."""

import json
from collections.abc import Container, Hashable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from asdcore.errors import AsdError
from asdcore.recordings.audio import BadRecording, examine
from asdcore.recordings.names import DETECTOR, Found
from asdcore.settings import RecordingSettings
from asdcore.storage.files import digest_of, digest_of_file

SETTLED = ("label", "labelled_by", "labelled_at")
UNREAD = "unread"
"""Key, not a column, of a row whose file could not be read at all: the disk says why, not the recording."""
FACTS = ("seconds", "sample_rate", "channels", "treatment", "settings")
"""Columns that the settings decide, or that only decoding finds out."""


def plain(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    """A row as it is written: pandas' words for nothing become None."""
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}


def settings_key(settings: RecordingSettings) -> str:
    """16 digits that change with every setting that decoding or judging a recording depends on."""
    return digest_of(
        settings.model_dump_json(exclude={"minimum_training_recordings", "session_gap_minutes", "clip_seconds"})
    )


def row_of(
    one: Found, settings: RecordingSettings, key: str, known: pd.DataFrame, forgotten: Container[object]
) -> dict[str, object]:
    """The table's row of a found file. A recording that is forgotten or known with these settings is not decoded."""
    row: dict[str, object] = {
        "recording": "",
        "path": str(one.path),
        "machine": one.machine,
        "section": one.section,
        "domain": one.domain,
        "split": one.split,
        "label": one.label,
        "attributes": json.dumps(one.attributes, sort_keys=True),
        "session": one.session,
        "reason": one.problem,
        "ingested_at": datetime.now(UTC),
        "settings": key,
    }
    if one.problem:
        return row
    digest = ""
    try:
        digest = digest_of_file(one.path)
        if digest in forgotten:
            return row | {"recording": digest}
        if digest in known.index and known.loc[digest, "settings"] == key:
            return row | {"recording": digest} | {name: known.loc[digest, name] for name in FACTS}
        return row | {"recording": digest} | asdict(examine(one.path, settings))
    except OSError as error:
        return row | {"reason": f"unreadable: {error.strerror}", UNREAD: True}
    except BadRecording as reason:
        # With its digest where it was in use: whatever path it is known by, it is no longer.
        return row | {"reason": str(reason), "recording": digest if digest in known.index else ""}


def label_stays(row: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether the label of a known recording stays, whatever its place says now.

    What a person has settled does. What a detector has stays until the place of the file says more than that it is one
    of the normal training recordings, which is what made the detector look at it.
    """
    if row["split"] == "train" and row["label"] == "unknown":
        return True
    by = before["labelled_by"]
    return bool(by) and (not by.startswith(DETECTOR) or (row["split"], row["label"]) == ("train", "normal"))


def supersedes(row: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether a row says something new of a known recording: the same file is described otherwise (a corrected
    manifest) or was decoded with other settings, the file has moved, or its label has become known.
    """
    if row["path"] == before["path"]:
        described = ("machine", "section", "domain", "split", "label", "attributes", "session", "settings")
        return any(row[name] != before[name] for name in described)
    return not Path(before["path"]).exists() or (before["label"] == "unknown" and row["label"] != "unknown")


def refuse_conflicts(good: list[dict[str, object]], elsewhere: pd.DataFrame) -> None:
    """One content cannot be two things: split and machine must agree, and the label where it is known.

    ``elsewhere``: what the table says of files that are not among ``good``.
    """
    same = elsewhere[elsewhere.index.isin([row["recording"] for row in good])]
    first: dict[str, dict[str, object]] = {
        str(digest): dict(row) for digest, row in same.iterrows() if Path(str(row["path"])).exists()
    }
    conflicts = []
    for row in good:
        other = first.setdefault(str(row["recording"]), row)
        labels = {row["label"], other["label"]} - {"unknown"}
        if row["split"] != other["split"] or row["machine"] != other["machine"] or len(labels) > 1:
            conflicts.append(
                " and ".join(f"{r['path']} ({r['machine']}, {r['split']}, {r['label']})" for r in (other, row))
            )
    if conflicts:
        more = f"\n... and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
        raise AsdError(
            "the same sound is given as two things; keep one of each pair:\n" + "\n".join(conflicts[:5]) + more
        )
