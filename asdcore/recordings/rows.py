"""Rows of the table of recordings: what is known of a file, and which of two rows about one content is valid."""

import json
from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from asdcore.recordings.audio import BadRecording, digest_of_audio, examine
from asdcore.recordings.found import DETECTOR, Found
from asdcore.recordings.paths import on_disk
from asdcore.settings import RecordingSettings
from asdcore.storage.files import digest_of, digest_of_file

SETTLED = ("label", "labelled_by", "labelled_at")
UNREAD = "unread"
"""Key, not a column, of a row whose file could not be read: that is a problem of the disk, not of the recording."""
FACTS = ("seconds", "sample_rate", "channels", "treatment", "codec", "sound", "settings")
"""Columns that the settings decide, or that only decoding finds out."""


def plain(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    """A row as it is written: pandas' missing values become None."""
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}


def stat_of(path: Path) -> str:
    """Size of a file and times of the last change of its content and its state: others mean that the content may be
    another. The first time alone is not enough: recorders without a clock, and copies that keep the time, repeat it.

    Raises:
        OSError: there is no such file, or it cannot be reached.
    """
    status = on_disk(path).stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def settings_key(settings: RecordingSettings) -> str:
    """16 digits that change with every setting that decoding or judging a recording depends on."""
    return digest_of(
        settings.model_dump_json(
            exclude={"minimum_training_recordings", "session_gap_minutes", "clip_seconds", "labels"}
        )
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
        row["stat"] = stat_of(one.path)
        digest = digest_of_audio(one.path, settings)
        if digest in forgotten:
            return row | {"recording": digest}
        if digest in known.index and known.loc[digest, "settings"] == key:
            return row | {"recording": digest} | plain({name: known.loc[digest, name] for name in FACTS})
        row |= {"recording": digest} | asdict(examine(one.path, settings))
        if stat_of(one.path) != row["stat"]:  # The digest and the rest may be of two contents.
            return row | {"recording": "", "reason": "changed while it was being read: ingest it again", UNREAD: True}
        return row
    except OSError as error:
        return row | {"reason": f"unreadable: {error.strerror}", UNREAD: True}
    except BadRecording as reason:
        # With its digest where it was in use: whatever path it is known by, it is no longer.
        return row | {"reason": str(reason), "recording": digest if digest in known.index else ""}


def settled_by_person(row: Mapping[str, Any]) -> bool:
    """Whether a person has said what a known recording is."""
    by = str(row["labelled_by"] or "")
    return bool(by) and not by.startswith(DETECTOR)


def says_nothing(row: Mapping[str, Any]) -> bool:
    """Whether a place leaves open what a recording is: it has arrived by itself, or nobody has labelled it."""
    return bool(row["split"] == "train" and row["label"] == "unknown")


def label_stays(row: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether the label of a known recording stays, whatever its place says now.

    What a person has settled does. What a detector has stays until the place of the file says more than that it is one
    of the normal training recordings, which is what made the detector look at it.
    """
    by = str(before["labelled_by"] or "")
    if by.startswith(DETECTOR) and row["machine"] != before["machine"]:
        return False  # It was judged as a recording of another machine.
    if says_nothing(row):
        return True
    return bool(by) and (not by.startswith(DETECTOR) or (row["split"], row["label"]) == ("train", "normal"))


def settled_of(row: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a known recording whose label stays, see `label_stays`; a place that says nothing has no split."""
    return {name: before[name] for name in (*SETTLED, *(["split"] if says_nothing(row) else []))}


def supersedes(row: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether a row says something new of a known recording: the same file is described otherwise (a corrected
    manifest) or was decoded with other settings, the file has moved, its label has become known, or what must not
    train is a test recording.
    """
    if row["path"] == before["path"]:
        described = ("machine", "section", "domain", "split", "label", "attributes", "session", "settings")
        return any(row[name] != before[name] for name in described)
    if gone(row["recording"], before) or (before["label"] == "unknown" and row["label"] != "unknown"):
        return True
    return bool(before["split"] == "train" and before["label"] != "normal" and row["split"] == "test")


def usable_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without a reason, labelled ones first: of one content under two names the label is kept.

    If a manifest says two things about a file and one of them is refused, the other is no more reliable.
    """
    refused = {str(row["path"]) for row in rows if row["reason"]}
    good = [row for row in rows if str(row["path"]) not in refused]
    return sorted(good, key=lambda row: row["label"] == "unknown")


def news_of(
    bad: Sequence[dict[str, Any]], in_quarantine: Mapping[str, str], reported: Container[str]
) -> list[dict[str, Any]]:
    """The rows with a reason that are to be written: those that take a recording out of use, and one per path.

    Args:
        bad: rows with a reason.
        in_quarantine: the reason of each path that is in quarantine.
        reported: paths for which the table of recordings stays as it is.
    """
    first: dict[str, str] = {}
    news = []
    for row in bad:
        path, reason = str(row["path"]), str(row["reason"])
        new = path not in reported and path not in first and in_quarantine.get(path) != reason
        first.setdefault(path, reason)
        if new or (row["recording"] and not row.get(UNREAD)):
            news.append(row)
    return news


def without_conflicts(
    good: Sequence[dict[str, Any]], known: pd.DataFrame
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows that can be used, and rows of contents whose files disagree, with the reason.

    The files of one content have to agree about the machine, the split and, where it is known, the label. What the
    table says stands while its file exists, and what disagrees with it is left out. Where the table says nothing, no
    file of such a content is used: nobody can tell which is right.

    Args:
        good: rows of files that were found.
        known: the table of recordings, by digest.
    """
    of_content: dict[str, list[dict[str, Any]]] = {}
    for row in good:
        of_content.setdefault(str(row["recording"]), []).append(row)
    usable: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    paths = known["path"].reindex(list(of_content)).dropna().to_dict()
    for digest, rows in of_content.items():
        if len(rows) == 1 and rows[0]["path"] == paths.get(digest, rows[0]["path"]):
            usable += rows  # Nearly always.
            continue
        before = plain(known.loc[digest].to_dict()) if digest in known.index else None
        # The label that a person has given to a content overrides any folder, name or manifest.
        settled = before is not None and settled_by_person(before)
        standing = _standing(before, rows, settled) if before else None
        others = [row for row in rows if row is not standing]
        bad = [row for row in others if standing and not agree([standing, row], settled)]
        rest = [row for row in others if not _among(row, bad)]
        if not agree([*rest, standing] if standing else rest, settled):
            bad += rest
        usable += [row for row in rows if not _among(row, bad)]
        for row in bad:
            there = [one for one in (standing, *rows) if one and one is not row]
            other = next((one for one in there if not agree([one, row], settled)), there[0])
            refused.append(row | {"recording": "", "reason": conflict(row, other)})
    return usable, refused


def _among(row: object, rows: Sequence[object]) -> bool:
    return any(row is one for one in rows)


def _standing(before: dict[str, Any], rows: Sequence[dict[str, Any]], settled: bool) -> dict[str, Any] | None:
    """What holds of a known content: its file as it was found now, or else the table; None: the file is gone."""
    same_file = [row for row in rows if row["path"] == before["path"]]
    if same_file and agree(same_file, settled):
        return same_file[0]
    return before if same_file or not gone(rows[0]["recording"], before) else None


def agree(rows: Sequence[Mapping[str, Any]], settled: bool) -> bool:
    """Whether rows of one content can all be true; ``settled``: their labels do not matter."""
    machines = {row["machine"] for row in rows}
    # Training takes normal recordings only: in the train split, others are there for lack of a better place.
    splits = {row["split"] for row in rows if row["split"] != "train" or row["label"] == "normal"}
    labels = set() if settled else {row["label"] for row in rows} - {"unknown"}
    return max(len(machines), len(splits), len(labels)) < 2


def conflict(row: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    this, that = (f"{one['machine']}, {one['split']}, {one['label']}" for one in (row, other))
    if row["path"] == other["path"]:
        return f"the manifest lists it twice, as ({this}) and as ({that}): delete one of the two lines"
    return f"the same sound is given as two things: here ({this}) and as {other['path']} ({that}); keep one of the two"


def gone(recording: str, before: Mapping[str, Any]) -> bool:
    """Whether a recording is certainly not where the table says: a drive that does not answer may still hold it.

    Recorders give their files the names of earlier ones: then it is elsewhere, too.
    """
    path = Path(before["path"])
    try:
        now = stat_of(path)
        return before["stat"] not in (None, now) and digest_of_file(on_disk(path)) != recording
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
