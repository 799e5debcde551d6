"""What a person says of recordings: labels, and which of them are to be forgotten.

Neither Prefect nor MLflow is imported here.
"""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import pandas as pd

from asdcore.errors import AsdError
from asdcore.progress import say
from asdcore.recordings import labels
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.labels import ScoredFile
from asdcore.recordings.paths import nfc
from asdcore.settings import RecordingSettings
from asdcore.storage.home import Home
from tasks.registered import CHAMPION, registered_settings
from tasks.results import stored_scores

STANDARD_INPUT = "-"


def label_recordings(home: Home, what: Sequence[str], label: str | None, by: str) -> dict[str, str]:
    """Label recordings of a home, ingested or only scored; see `asdcore.recordings.labels.label_recordings`.

    Args:
        home: its table of recordings is locked in the meantime.
        what: audio files, folders, digests or their first digits, or CSV files with the columns recording and label.
        label: normal, anomaly or unknown, of all of them; None: the CSV says it.
        by: who says so.

    Returns:
        recording digest: label.

    Raises:
        AsdError: something that names no recording, or several, or has no label or two. Nothing is labelled then.
    """
    with home.lock_table(say):
        catalog = Catalog(home.recordings)
        scored = cache(partial(scored_files, home))  # Read once, however many names are not in the table.
        return labels.label_recordings(catalog, what, label, by, _recording_settings(home), scored)


def scored_files(home: Home) -> dict[str, ScoredFile]:
    """The recordings that were ever scored and had a file of their own, by digest, each as it was scored last."""
    home.fetch_folder(home.scores)
    files: dict[str, ScoredFile] = {}
    for row in stored_scores(home).rows:  # The newest first.
        if row["recording"] and not row["reason"] and row["path"] != STANDARD_INPUT:
            files.setdefault(row["recording"], ScoredFile(Path(row["path"]), row["machine"]))
    return files


def _recording_settings(home: Home) -> RecordingSettings:
    """How the champion reads recordings."""
    try:
        return registered_settings(home, CHAMPION).recordings
    except AsdError:
        return RecordingSettings()


def forget_recordings(
    home: Home, what: Sequence[str], machine: str | None, by: str | None, *, undo: bool = False
) -> pd.DataFrame:
    """Remove recordings from the table of recordings, or bring forgotten ones back.

    Args:
        home: its table of recordings is locked in the meantime.
        what: files, folders, digests or their first digits.
        machine: all recordings of this machine, too.
        by: who says so; None: nothing is changed.
        undo: bring them back.

    Returns:
        Their rows.

    Raises:
        AsdError: something that names no recording of the table, or none that was forgotten.
    """
    with home.lock_table(say):
        catalog = Catalog(home.recordings)
        rows = catalog.forgotten if undo else catalog.recordings
        known = labels.places(rows)
        chosen = {digest for name in what for digest in labels.recordings_named(known, name)}
        if machine is not None:
            own = rows[rows["machine"] == nfc(machine)]
            if own.empty:
                there = ", ".join(sorted(set(rows["machine"]))) or "none"
                raise AsdError(f"no {'forgotten ' if undo else ''}recording of machine {machine}; there are: {there}")
            chosen |= set(own["recording"])
        if by:
            catalog.forget(chosen, None if undo else by)
        return rows[rows["recording"].isin(list(chosen))]
