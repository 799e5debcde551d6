"""Files with the same sound: the same samples with other metadata, in another container, or with another header.

A recording is identified by the content of its file. Two files with the same samples are two contents, but one sound:
it must not be counted twice, or be in both train and test.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from asdcore.recordings.rows import SETTLED, agree, conflict, gone, label_stays, plain, settled_by_person

Row = dict[str, Any]


def without_copies(good: Sequence[Row], known: pd.DataFrame) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows of different sounds, copies of these, and rows that cannot be used, with the reason.

    What the table of recordings says about a sound stands while its file exists; copies that disagree are refused. If
    new files disagree, all are refused, since nobody can tell which is right. A file with the sound of one that is gone
    takes its place and its settled label.

    Args:
        good: rows of files that were found.
        known: the table of recordings, by digest.
    """
    of_sound: dict[str, list[Row]] = {}
    for row in good:
        of_sound.setdefault(row["sound"] or row["recording"], []).append(row)
    sounds = known["sound"].dropna()
    table = dict(zip(sounds, sounds.index, strict=True))
    kept: list[Row] = []
    copies: list[Row] = []
    refused: list[Row] = []
    for sound, rows in of_sound.items():
        known_as = table.get(sound)
        contents = {str(row["recording"]) for row in rows} | ({known_as} if known_as else set())
        if len(contents) == 1:
            kept += rows
            continue
        before = plain(known.loc[known_as].to_dict()) | {"recording": known_as} if known_as else None
        # Its file may be there with another content, such as a new comment.
        same_path = [row for row in rows if before and row["path"] == before["path"]]
        if before and not same_path and gone(str(known_as), before):
            first = rows[0]
            reason = f"the file is gone, and {first['path']} has the same sound"
            refused.append(before | {"reason": reason, "ingested_at": first["ingested_at"]})
            same_path = [first]
        standing = same_path[0] if same_path else before
        if before and same_path and label_stays(standing or before, before):
            same_path[0] |= {name: before[name] for name in SETTLED}
        others = [row for row in rows if row is not standing and not _same_content(row, standing)]
        kept += [row for row in rows if row is standing or _same_content(row, standing)]
        if standing is None and any(not agree([others[0], row], settled=False) for row in others):
            refused += [_refused(row, next(one for one in others if one is not row)) for row in others]
            continue
        if standing is None:
            kept += [row for row in others if row["recording"] == others[0]["recording"]]
            standing, others = others[0], [row for row in others if row["recording"] != others[0]["recording"]]
        settled = before is not None and settled_by_person(before)
        copies += [row for row in others if agree([standing, row], settled)]
        refused += [_refused(row, standing) for row in others if not agree([standing, row], settled)]
    return kept, copies, refused


def _same_content(row: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    return other is not None and row["recording"] == other["recording"]


def _refused(row: Row, other: Mapping[str, Any]) -> Row:
    return row | {"recording": "", "reason": conflict(row, other)}
