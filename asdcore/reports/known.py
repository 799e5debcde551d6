"""What is known of scored recordings beside what was heard: labels, sessions, files of the training recordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from asdcore.heard import Heard
from asdcore.monitoring.outcomes import with_session_heard
from asdcore.recordings.found import DETECTOR, is_simulated, simulated_rows
from asdcore.recordings.names import label_in_name, parse_place
from asdcore.recordings.sessions import time_stamp
from asdcore.recordings.training import training_recordings

SAYABLE = ("anomaly", "normal")
"""what a person may label a recording"""
SHOWN_DIGITS = 12
"""of a digest"""


@dataclass(frozen=True)
class Known:
    """The table of recordings, by digest.

    Args:
        table: rows of `asdcore.recordings.catalog.Catalog.recordings`; None: there is no such table.
        option: what `asd label` needs to find it, such as ``--home PATH``; empty if nothing.
    """

    table: pd.DataFrame | None = None
    option: str = ""

    @cached_property
    def rows(self) -> pd.DataFrame:
        """recording (index), path, machine, split, label, session, session_heard, attributes."""
        columns = ["recording", "path", "machine", "split", "label", "session", "attributes"]
        table = pd.DataFrame(columns=columns, dtype=object) if self.table is None else self.table
        return with_session_heard(table).set_index("recording")

    def training_files(self) -> dict[str, tuple[Path, str]]:
        """Digest of each normal training recording: its file and its session."""
        rows = training_recordings(self.rows.reset_index())
        places = zip(rows["recording"], rows["path"], rows["session"].fillna(""), strict=True)
        return {str(digest): (Path(path), str(session)) for digest, path, session in places}

    def described(self, heard: Sequence[Heard]) -> pd.DataFrame:
        """One row per recording: label (normal, anomaly, unknown), session, session_heard, in_table, simulated."""
        known = self.rows
        known = known.assign(simulated=simulated_rows(known))
        simulated: dict[Path, bool] = {}
        rows = []
        for one in heard:
            if one.recording in known.index:
                row = known.loc[one.recording]
                label, session, heard_before = row["label"], row["session"] or "", row["session_heard"]
                if str(row.get("labelled_by")).startswith(DETECTOR):
                    label = "unknown"  # What a detector has said is nothing to judge one by.
                of_simulation = row["simulated"]
            else:
                label, session, heard_before = label_in_name(one.path) or "unknown", session_of(one.path), pd.NA
                folder = one.path.parent
                if folder not in simulated:
                    simulated[folder] = is_simulated(one.path)
                of_simulation = simulated[folder]
            rows.append((label, session, heard_before, one.recording in known.index, of_simulation))
        columns = ["label", "session", "session_heard", "in_table", "simulated"]
        return pd.DataFrame(rows, columns=columns).astype({"session_heard": "boolean"})

    def commands(self, one: Heard) -> list[str]:
        """The command lines that label a recording, in the table or only scored; none where there is no file of it."""
        if self.table is None or not one.recording or str(one.path) == "-":
            return []
        option = f" {self.option}" if self.option else ""
        return [f"asd label {one.recording[:SHOWN_DIGITS]} --as {label}{option}" for label in SAYABLE]


def session_of(path: Path) -> str:
    """What folders or the name of a file say; a time stamp counts by its day."""
    stamp = time_stamp(path.stem)
    return parse_place(path.absolute()).session or (f"{stamp:%Y-%m-%d}" if stamp else "")
