"""The report of a scoring run: verdicts, timeline, the recordings of interest, the table."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from asdcore import __version__
from asdcore.detector import Detector
from asdcore.heard import Heard, clock, score_table, strangest_recordings
from asdcore.monitoring.outcomes import outcome_lines, outcomes
from asdcore.normality.machine import ANOMALOUS, NORMAL, SUSPECT
from asdcore.normality.odds import odds
from asdcore.plots.timeline import Point, timeline
from asdcore.reports.comparison import Compared, compared
from asdcore.reports.known import Known
from asdcore.reports.page import MOST_BYTES, count_of, rendered, shortened
from asdcore.reports.page import score as score_text

MOST_SHOWN = 20
"""recordings of interest: a person looks at them one by one"""
MOST_ROWS = 1000
"""of the table"""
MOST_POINTS = 1000
"""of a timeline"""
_FOR_SOUND, _FOR_PICTURES = round(0.7 * MOST_BYTES), round(0.85 * MOST_BYTES)
"""size of the recordings of interest from which on the next ones have no sound, and no pictures"""
_STRANGE = [ANOMALOUS, SUSPECT]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """A recording of interest."""

    row: Row
    odds: str
    at: str
    """where the strangest clip of a long recording is; empty: it was not cut"""
    compared: Compared | None
    """None: left out, to bound the size"""
    commands: Sequence[str]


def score_report(
    detector: Detector,
    heard: Sequence[Heard],
    known: Known | None = None,
    *,
    version: str = "",
    notes: Mapping[str, Sequence[str]] | None = None,
    names: Mapping[Path, str] | None = None,
    elsewhere: str = "",
) -> str:
    """One HTML page about scored recordings.

    >>> heard = list(detector.listen(["pump/test/new.wav"]))                            # doctest: +SKIP
    >>> Path("report.html").write_text(score_report(detector, heard), encoding="utf-8") # doctest: +SKIP

    Args:
        detector: that heard them.
        heard: at least one recording; the files of those of interest are read again.
        known: labels, sessions and the files of the training recordings; None: nothing.
        version: of the detector, as it is registered.
        notes: machine: sentences about it, such as what its alarm is.
        names: path: what a recording without a file of its own is called.
        elsewhere: where all scores are, for a table that is cut.
    """
    known, names, notes = known or Known(), names or {}, notes or {}
    scores = pd.concat([score_table(heard), known.described(heard)], axis=1)
    folder = _folder([one.path for one in heard if one.path not in names])
    scores["name"] = [shortened(names.get(one.path) or str(_below(folder, one.path))) for one in heard]
    strangest = strangest_recordings(scores, MOST_SHOWN)
    scores["anchor"] = ""
    scores.loc[strangest, "anchor"] = [f"recording-{place}" for place in range(1, len(strangest) + 1)]
    shown, left_out = _shown(detector, heard, scores, strangest, known, names)
    ordered = scores.sort_values("score", ascending=False, na_position="last")
    machines = [
        _machine(detector, str(machine), rows, notes.get(str(machine), ()))
        for machine, rows in scores.groupby("machine")
    ]
    return rendered(
        "score.html",
        title=f"Scores of {count_of(len(scores), 'recording')}",
        made=f"{datetime.now(UTC).astimezone():%Y-%m-%d %H:%M}",
        asd=__version__,
        version=version,
        folder=shortened(str(folder or "")),
        simulated=_simulated(scores),
        machines=machines,
        labelled=_labelled(scores),
        shown=shown,
        strange=int(scores["verdict"].isin(_STRANGE).sum()),
        left_out=left_out,
        table=[_plain(row) for row in ordered.head(MOST_ROWS).to_dict("records")],
        count=len(scores),
        long=bool((scores["clips"] > 1).any()),
        sessions=bool((scores["session"] != "").any()),
        labels=bool((scores["label"] != "unknown").any()),
        elsewhere=elsewhere,
    )


def _folder(paths: Sequence[Path]) -> Path | None:
    """The folder that all of them are in; None if they have none in common."""
    try:
        return Path(os.path.commonpath([path.absolute().parent for path in paths]))
    except ValueError:
        return None


def _below(folder: Path | None, path: Path) -> Path:
    return Path(os.path.relpath(path, folder)) if folder else path


def _shown(
    detector: Detector,
    heard: Sequence[Heard],
    scores: pd.DataFrame,
    strangest: Sequence[int],
    known: Known,
    names: Mapping[Path, str],
) -> tuple[list[Shown], list[str]]:
    """The recordings of interest, the strangest first, and what was left out of them to bound the size."""
    files = known.training_files()
    shown: list[Shown] = []
    size = silent = hidden = 0
    for index in strangest:
        one, row = heard[index], _plain(scores.loc[index].to_dict())
        comparison: Compared | None = None
        if size < _FOR_PICTURES:
            silent += size >= _FOR_SOUND
            comparison = compared(detector, one, files, with_sound=size < _FOR_SOUND)
            size += comparison.size
        else:
            hidden += 1
        at = f"at {clock(row['strangest_at'])}, of {row['clips']} clips" if row["clips"] > 1 else ""
        commands = [] if one.path in names else known.commands(one)
        shown.append(Shown(row, odds(row["p_value"], row["verdict"]), at, comparison, commands))
    parts = {"the sound": silent, "pictures and sound": hidden}
    return shown, [f"{what} of {count_of(n, 'recording')}, the least strange ones" for what, n in parts.items() if n]


def _machine(detector: Detector, machine: str, rows: pd.DataFrame, notes: Sequence[str]) -> dict[str, Any]:
    """What is said of one machine at the top of the page, and its timeline."""
    counts = {verdict: int((rows["verdict"] == verdict).sum()) for verdict in (ANOMALOUS, SUSPECT, NORMAL)}
    failed = int(rows["score"].isna().sum())
    calibration, rate = detector.machines[machine].calibration, detector.threshold_of(machine).false_alarm_rate
    anomalous, suspect = calibration.threshold(rate), calibration.suspicion_threshold(rate)
    supported = math.isfinite(anomalous)
    lines = {ANOMALOUS: anomalous} if supported else {}
    if suspect < anomalous and math.isfinite(suspect):
        lines[SUSPECT] = suspect
    about = detector.about.get("enrolled", {}).get(machine, detector.about)
    worst = next((verdict for verdict, n in counts.items() if n), "not scored")
    return {
        "name": machine,
        "verdict": worst,
        "counts": ", ".join(
            [f"{n} {verdict}" for verdict, n in counts.items() if n] + ([f"{failed} not scored"] if failed else [])
        ),
        "count": count_of(len(rows), "recording"),
        "notes": list(notes),
        "outcome": _outcome(rows, rate),
        "learnt_from_simulated": bool(about.get("simulated")),
        "rate": f"{100 * rate:g} %",
        "supported": supported,
        "supported_rate": f"{100 * calibration.supported_rate:.3g} %",
        "timeline": _timeline(machine, rows, lines),
        "lines": sorted(lines, reverse=True),
        "each": -(-int(rows["score"].notna().sum()) // MOST_POINTS),
        "in_training": int(rows["in_training"].eq(True).sum()),
    }


def _timeline(machine: str, rows: pd.DataFrame, lines: Mapping[str, float]) -> Markup:
    scored = rows[rows["score"].notna()]
    if scored.empty:
        return Markup()
    # Recordings of a session stand together, in the order of the run.
    order = scored["session"].map({session: place for place, session in enumerate(scored["session"].unique())})
    ordered = scored.iloc[order.argsort(kind="stable")]
    each = -(-len(ordered) // MOST_POINTS)
    highest = ordered.groupby([pd.RangeIndex(len(ordered)) // each])["score"].idxmax()
    points = []
    for row in map(_plain, ordered.loc[highest].to_dict("records")):
        label = "" if row["label"] == "unknown" else f", labelled {row['label']}"
        text = f"{row['name']}: {row['verdict']}, score {score_text(row['score'])}{label}"
        link = f"#{row['anchor']}" if row["anchor"] else ""
        points.append(Point(row["score"], row["verdict"], text, row["session"], row["label"] == "anomaly", link))
    said = f"Scores of {count_of(len(scored), 'recording')} of {machine}, in their order; the table below has them all."
    return Markup(timeline(points, lines, said))


def _outcome(rows: pd.DataFrame, rate: float) -> str:
    """Caught and missed faults and false alarms of one machine as a sentence; empty without labels."""
    new = rows[~rows["in_training"].fillna(False).astype(bool)]
    table = outcomes(new)
    machines = table["machine"].unique()
    return " ".join(outcome_lines(table, rate)).removeprefix(f"{machines[0]}: ") if len(table) else ""


def _labelled(scores: pd.DataFrame) -> dict[str, int]:
    """How many labelled recordings, but for those of the training, were caught, missed, false alarms, quiet."""
    new = scores[~scores["in_training"].fillna(False).astype(bool) & (scores["verdict"] != "")]
    strange, faulty, normal = new["verdict"].isin(_STRANGE), new["label"] == "anomaly", new["label"] == "normal"
    counts = {
        "faults caught": strange & faulty,
        "faults missed": ~strange & faulty,
        "false alarms": strange & normal,
        "normal, no alarm": ~strange & normal,
    }
    numbers = {name: int(rows.sum()) for name, rows in counts.items()}
    return numbers if any(numbers.values()) else {}


def _simulated(scores: pd.DataFrame) -> str:
    n = int(scores["simulated"].sum())
    if not n:
        return ""
    return "Simulated recordings" if n == len(scores) else f"{n} of {len(scores)} recordings are simulated"


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row for the template: None where there is nothing."""
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}
