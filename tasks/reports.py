"""The report stage: HTML files of what a command has done. `tasks.publishing` shows them in Prefect and MLflow.

What a command has done must not be lost for a report that could not be written: then its path is empty, and stderr says
why. Templates, sounds and pictures are imported only where a report is written.
"""

import os
import shlex
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.explanation.explanation import Explanation
from asdcore.heard import COLUMNS as SCORE_COLUMNS
from asdcore.heard import Heard
from asdcore.progress import say
from asdcore.recordings.catalog import Catalog
from asdcore.storage.files import atomic_write
from asdcore.storage.home import Home
from tasks.results import NOT_SCORED, stored_scores

if TYPE_CHECKING:
    from asdcore.reports.known import Known
    from asdcore.screening import Screening

REPORT = "report.html"
KEPT_DAYS = 30
"""after which `asd clean` deletes a report: the scores stay, and MLflow keeps those of retrainings and enrolments"""
_STAMP = "%Y%m%dT%H%M%S"
"""of the tables of scores, UTC"""


def score_page(
    home: Home,
    detector: Detector,
    version: str,
    heard: Sequence[Heard],
    notes: Mapping[str, Sequence[str]],
    table: Path,
    names: Mapping[Path, str],
    explanations: Mapping[str, Explanation],
) -> str:
    """Write the report of a scoring run into a folder beside its ``table``, of the same name; return its path.

    Args:
        home: with the table of recordings.
        detector: that scored.
        version: of the detector.
        heard: what it heard, at least one recording.
        notes: machine: sentences about it.
        table: the file of all scores.
        names: path: what a recording without a file of its own is called.
        explanations: recording: its explanation, where there is one.
    """

    def page() -> str:
        from asdcore.reports.score import score_report

        return score_report(
            detector,
            heard,
            known(home),
            version=version,
            notes=notes,
            names=names,
            elsewhere=str(table),
            explanations=explanations,
        )

    return written(table.with_suffix("") / REPORT, page)


def screening_page(home: Home, screening: "Screening", place: Path) -> str:
    """Write the report of a screening; return its path. ``place``: the folder or manifest that was screened."""

    def page() -> str:
        from asdcore.reports.screening import screening_report

        return screening_report(screening, shlex.quote(str(place)), home.option)

    return written(home.reports / f"screen-{datetime.now(UTC):{_STAMP}}-{uuid.uuid4().hex[:4]}.html", page)


def day_page(home: Home, detector: Detector, version: str, since: datetime) -> str:
    """Write the report of everything that was scored ``since`` a time; return its path. A later one replaces it.

    Raises:
        AsdError: nothing was, of any enrolled machine.
    """
    scores = scores_since(home, since)
    if not scores["machine"].isin(list(detector.machines)).any():
        raise AsdError(f"nothing was scored since {_said(since)} of {', '.join(sorted(detector.machines))}")

    def page() -> str:
        from asdcore.reports.day import day_report

        return day_report(
            detector, scores, known(home), since=_said(since), version=version, elsewhere=str(home.scores)
        )

    return written(home.reports / f"scores-since-{since.astimezone():%Y%m%dT%H%M}.html", page)


def scores_since(home: Home, since: datetime) -> pd.DataFrame:
    """What was scored since a time, that of the first run first: `asdcore.heard.score_table`, and ``detector``.

    A damaged table is left out, and stderr names it. ``decision`` is left out, as no report shows it.
    """
    home.fetch_folder(home.scores)
    columns = [name for name in (*SCORE_COLUMNS, "detector") if name != "decision"]
    scores = pd.DataFrame(stored_scores(home, since=since).rows[::-1], columns=columns)
    words = ["recording", "triggered_by", "reason", "detector"]
    scores[words] = scores[words].fillna("")
    scores["verdict"] = scores["verdict"].replace(NOT_SCORED, "")
    return scores.astype(
        {"score": float, "p_value": float, "strangest_at": float, "clips": "Int64", "in_training": "boolean"}
    )


def _said(since: datetime) -> str:
    return f"{since.astimezone():%Y-%m-%d %H:%M}"


def known(home: Home) -> "Known":
    """The table of recordings of a home, and the option that a command needs to find it."""
    from asdcore.reports.known import Known

    return Known(Catalog(home.recordings).recordings, home.option)


def old_reports(home: Home) -> list[Path]:
    """The reports that were written more than `KEPT_DAYS` ago."""
    before = time.time() - KEPT_DAYS * 24 * 3600
    found = [*home.reports.glob("*.html"), *home.scores.glob(f"score-*/{REPORT}")]
    return sorted(path for path in found if path.stat().st_mtime < before)


def delete_reports(reports: Sequence[Path]) -> None:
    """Delete them, and the folder that only a report was in."""
    for path in reports:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # Plots of --explain stay.
            path.parent.rmdir()


def written(path: Path, page: Callable[[], str]) -> str:
    """Write a page to a file, whole or not at all; return its path, or nothing if that failed."""
    try:
        content = page()
        with atomic_write(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    except Exception as error:
        if os.environ.get("ASD_DEBUG"):
            raise
        say(f"done, but without a report: {type(error).__name__}: {error}")
        return ""
    return str(path)
