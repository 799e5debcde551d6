"""The report of everything that was scored since a time: a day of watching, from its tables of scores."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.heard import Heard, strangest_recordings
from asdcore.recordings.training import pending_review
from asdcore.reports.cards import MOST_SHOWN
from asdcore.reports.comparison import Compared, compared_again
from asdcore.reports.known import Known
from asdcore.reports.page import count_of, shortened
from asdcore.reports.score import below, common_folder, scores_page


def day_report(
    detector: Detector,
    scores: pd.DataFrame,
    known: Known | None = None,
    *,
    since: str,
    version: str = "",
    elsewhere: str = "",
) -> str:
    """One HTML page about what was scored since a time, by any version of the detector.

    The verdicts are those that were given then. Of the recordings of interest the strangest clip is read
    again, and ``detector`` says where it differs from normal.

    Args:
        detector: the champion now.
        scores: rows of tables of scores in the order of time, at least one of an enrolled machine: the columns of
            `asdcore.heard.score_table`, and ``detector``, the version that has scored. Of a recording that was scored
            several times the last one counts.
        known: labels, sessions and the files of the training recordings; None: nothing.
        since: the time, for the title.
        version: of the detector.
        elsewhere: where all scores are.
    """
    known = known or Known()
    latest = scores[~scores.duplicated(["machine", "path", "recording"], keep="last")]
    enrolled = latest["machine"].isin(list(detector.machines))
    rows = latest[enrolled].reset_index(drop=True)
    heard = [
        Heard(Path(path), machine, "", recording=recording)
        for path, machine, recording in zip(rows["path"], rows["machine"], rows["recording"], strict=True)
    ]
    rows = pd.concat([rows, known.described(heard)], axis=1)
    folder = common_folder([Path(path) for path in rows["path"] if Path(path).is_absolute()])
    rows["name"] = [below(folder, Path(path)) if Path(path).is_absolute() else path for path in rows["path"]]
    files, versions = known.training_files(), list(dict.fromkeys(rows["detector"].astype(str)))

    def comparison(index: int, with_sound: bool) -> Compared:
        row: dict[str, Any] = {str(name): value for name, value in rows.loc[index].items()}
        try:
            return compared_again(detector, row, files, with_sound=with_sound)
        except AsdError as error:
            return Compared(missing=f"It cannot be shown: {error}.")

    about = [f"Judged by detector version {', '.join(versions)}"]
    if versions != [version]:
        about.append(f"Explanations and dashed lines by version {version}")
    about += [f"Recordings in {shortened(str(folder))}"] if folder else []
    retired = sorted(latest.loc[~enrolled, "machine"].unique())
    about += [f"Left out, since no longer enrolled: {', '.join(retired)}"] if retired else []
    strangest = strangest_recordings(rows, MOST_SHOWN)
    return scores_page(
        detector,
        rows,
        {index: partial(comparison, index) for index in strangest},
        {index: known.commands(heard[index]) for index in strangest},
        {},
        title=f"{count_of(len(rows), 'recording')} since {since}",
        about=about,
        elsewhere=elsewhere,
        waiting=_waiting(known),
        label_command=f"asd label {known.option}".rstrip(),
    )


def _waiting(known: Known) -> dict[str, str]:
    """Machine: how many of its recordings are pending review."""
    if known.table is None:
        return {}
    counts = pending_review(known.table).groupby("machine").size()
    return {str(machine): count_of(int(n), "recording") for machine, n in counts.items()}
