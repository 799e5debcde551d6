"""Files with the same sound: the same samples with other metadata, in another container, or with another header.

A recording is identified by the content of its file. Two files with the same samples are two contents, but one sound:
it must not be counted twice, or be in both train and test.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from asdcore.recordings.rows import agree, conflict, gone, label_stays, plain, settled_by_person, settled_of

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
    sounds = known.loc[known["sound"].isin(list(of_sound)), "sound"]
    table = dict(zip(sounds, sounds.index, strict=True))
    kept: list[Row] = []
    copies: list[Row] = []
    refused: list[Row] = []
    for sound, found in of_sound.items():
        in_table = {str(row["recording"]) for row in found if row["recording"] in known.index}
        in_table |= {table[sound]} if sound in table else set()
        if len(in_table | {str(row["recording"]) for row in found}) == 1:
            kept += found
            continue
        # A table of older versions may have several: they did not know that it is one sound.
        known_ones = sorted((plain(known.loc[one].to_dict()) | {"recording": one} for one in in_table), key=_weight)
        before, twice = (known_ones[0] if known_ones else None), known_ones[1:]
        rows = [row for row in found if row["recording"] not in {one["recording"] for one in twice}]
        at = {"ingested_at": found[0]["ingested_at"]}
        if before and not (settled_by_person(before) or agree(known_ones, settled=False)):
            refused += [one | at | {"reason": conflict(one, _other(one, known_ones))} for one in known_ones]
            refused += [_refused(row, before) for row in rows if not _same_content(row, before)]
            continue
        # Its file may be there with another content, such as a new comment.
        same_path = [row for row in rows if before and row["path"] == before["path"]]
        if before and rows and not same_path and gone(str(before["recording"]), before):
            first = rows[0]
            refused.append(before | at | {"reason": f"the file is gone, and {first['path']} has the same sound"})
            same_path = [first]
        standing = same_path[0] if same_path else before
        if before and same_path and label_stays(same_path[0], before):
            same_path[0] |= settled_of(same_path[0], before) | {"session": same_path[0]["session"] or before["session"]}
        refused += [one | at | {"reason": f"the same sound as {(standing or one)['path']}"} for one in twice]
        others = [row for row in rows if row is not standing and not _same_content(row, standing)]
        kept += [row for row in rows if row is standing or _same_content(row, standing)]
        if standing is None and any(not agree([others[0], row], settled=False) for row in others):
            refused += [_refused(row, _other(row, others)) for row in others]
            continue
        if standing is None:
            kept += [row for row in others if row["recording"] == others[0]["recording"]]
            standing, others = others[0], [row for row in others if row["recording"] != others[0]["recording"]]
        settled = before is not None and settled_by_person(before)
        copies += [row for row in others if agree([standing, row], settled)]
        refused += [_refused(row, standing) for row in others if not agree([standing, row], settled)]
    return kept, copies, refused


def _weight(row: Row) -> tuple[bool, bool, str]:
    """A person's word first, and of these that on a fault, which must not train under another name."""
    return not settled_by_person(row), row["label"] != "anomaly", str(row["path"])


def _other(row: Row, rows: Sequence[Row]) -> Row:
    return next((one for one in rows if one is not row and not agree([one, row], settled=False)), rows[0])


def _same_content(row: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    return other is not None and row["recording"] == other["recording"]


def _refused(row: Row, other: Mapping[str, Any]) -> Row:
    return row | {"recording": "", "reason": conflict(row, other)}
