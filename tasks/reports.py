"""The report stage: the HTML file of a run. `tasks.publishing` shows it in Prefect and MLflow."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from asdcore.detector import Detector
from asdcore.heard import Heard
from asdcore.progress import say
from asdcore.recordings.catalog import Catalog
from asdcore.storage.files import atomic_write
from asdcore.storage.home import Home

REPORT = "report.html"


def write_score_report(
    home: Home,
    detector: Detector,
    version: str,
    heard: Sequence[Heard],
    notes: Mapping[str, Sequence[str]],
    table: Path,
    names: Mapping[Path, str],
) -> str:
    """Write the report of a scoring run into a folder beside its ``table``, of the same name; return its path.

    An alarm must not be lost for a report that could not be written: then the path is empty, and stderr says why.

    Args:
        home: with the table of recordings.
        detector: that scored.
        version: of the detector.
        heard: what it heard, at least one recording.
        notes: machine: sentences about it.
        table: the file of all scores.
        names: path: what a recording without a file of its own is called.
    """
    from asdcore.reports.known import Known  # Only here: a run without a report needs none of it.
    from asdcore.reports.score import score_report

    option = "" if home.root == Home.default().root else f"--home {shlex.quote(home.name)}"
    path = table.with_suffix("") / REPORT
    try:
        known = Known(Catalog(home.recordings).recordings, option)
        page = score_report(detector, heard, known, version=version, notes=notes, names=names, elsewhere=str(table))
        with atomic_write(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except Exception as error:
        if os.environ.get("ASD_DEBUG"):
            raise
        say(f"scored, but without a report: {type(error).__name__}: {error}")
        return ""
    return str(path)
