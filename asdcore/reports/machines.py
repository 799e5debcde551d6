"""What a page says of each machine from a table of scores: counts, outcome, timeline."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from asdcore.detector import Detector
from asdcore.monitoring.outcomes import outcome_lines, outcomes
from asdcore.normality.machine import ANOMALOUS, NORMAL, SUSPECT
from asdcore.plots.timeline import Point, timeline
from asdcore.reports.page import NO_REAL_MACHINE, count_of
from asdcore.reports.page import score as score_text

STRANGE = [ANOMALOUS, SUSPECT]
MOST_POINTS = 1000
"""of a timeline"""


def counted(rows: pd.DataFrame) -> tuple[str, str]:
    """The worst verdict of a score table, and how often it has each verdict."""
    counts = {verdict: int((rows["verdict"] == verdict).sum()) for verdict in (ANOMALOUS, SUSPECT, NORMAL)}
    failed = int(rows["score"].isna().sum())
    worst = next((verdict for verdict, n in counts.items() if n), "not scored")
    said = [f"{n} {verdict}" for verdict, n in counts.items() if n] + ([f"{failed} not scored"] if failed else [])
    return worst, ", ".join(said)


def scored_machine(detector: Detector, machine: str, rows: pd.DataFrame, notes: Sequence[str]) -> dict[str, Any]:
    """What is said of one machine at the top of a page, and its timeline.

    Args:
        detector: that has scored.
        machine: an enrolled one.
        rows: its recordings: the columns of `asdcore.heard.score_table` and `Known.described`, name and anchor.
        notes: sentences about it.
    """
    rate = detector.threshold_of(machine).false_alarm_rate
    calibration, lines = detector.machines[machine].calibration, limits(detector, machine)
    worst, counts = counted(rows)
    return {
        "name": machine,
        "verdict": worst,
        "counts": counts,
        "count": count_of(len(rows), "recording"),
        "notes": list(notes),
        "outcome": outcome(rows, rate),
        "learned_from_simulated": detector.learned_from_simulated(machine),
        "rate": f"{100 * rate:g} %",
        "supported": ANOMALOUS in lines,
        "supported_rate": f"{100 * calibration.supported_rate:.3g} %",
        **drawn(machine, rows, lines, caption_of(lines)),
    }


def limits(detector: Detector, machine: str) -> dict[str, float]:
    """Verdict: the score from which on it holds, of the verdicts that the machine's recordings support."""
    calibration, rate = detector.machines[machine].calibration, detector.threshold_of(machine).false_alarm_rate
    anomalous, suspect = calibration.threshold(rate), calibration.suspicion_threshold(rate)
    lines = {ANOMALOUS: anomalous} if math.isfinite(anomalous) else {}
    if suspect < anomalous and math.isfinite(suspect):
        lines[SUSPECT] = suspect
    return lines


def caption_of(lines: Mapping[str, float]) -> str:
    """What the lines and signs of a timeline of verdicts mean.

    >>> caption_of({"anomalous": 2.0, "suspect": 1.0})
    'Dashed: the score from which a recording is suspect, and anomalous. ● normal, ▲ suspect, ◆ anomalous'
    """
    dashed = (
        f"Dashed: the score from which a recording is {', and '.join(sorted(lines, reverse=True))}. " if lines else ""
    )
    return f"{dashed}● normal, ▲ suspect, ◆ anomalous"


def drawn(machine: str, rows: pd.DataFrame, lines: Mapping[str, float], caption: str) -> dict[str, Any]:
    """The timeline of a machine, and what is said below it.

    Args:
        machine: its name.
        rows: its recordings in their order: score, verdict, session, label, name, anchor, in_training.
        lines: name: score, of the lines to draw.
        caption: what lines and signs mean.
    """
    return {
        "timeline": _timeline(machine, rows, lines),
        "caption": caption,
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
    for row in map(plain, ordered.loc[highest].to_dict("records")):
        label = "" if row["label"] == "unknown" else f", labelled {row['label']}"
        text = f"{row['name']}: {row['verdict']}, score {score_text(row['score'])}{label}"
        link = f"#{row['anchor']}" if row["anchor"] else ""
        points.append(Point(row["score"], row["verdict"], text, row["session"], row["label"] == "anomaly", link))
    said = f"Scores of {count_of(len(scored), 'recording')} of {machine}, in order."
    return Markup(timeline(points, lines, said))


def outcome(rows: pd.DataFrame, rate: float) -> str:
    """Caught and missed faults and false alarms of one machine as a sentence; empty without labels."""
    new = rows[~rows["in_training"].fillna(False).astype(bool)]
    table = outcomes(new)
    machines = table["machine"].unique()
    return " ".join(outcome_lines(table, rate)).removeprefix(f"{machines[0]}: ") if len(table) else ""


def labelled(scores: pd.DataFrame) -> dict[str, int]:
    """How many labelled recordings, but for those of the training, were caught, missed, false alarms, quiet."""
    new = scores[~scores["in_training"].fillna(False).astype(bool) & (scores["verdict"] != "")]
    strange, faulty, normal = new["verdict"].isin(STRANGE), new["label"] == "anomaly", new["label"] == "normal"
    counts = {
        "faults caught": strange & faulty,
        "faults missed": ~strange & faulty,
        "false alarms": strange & normal,
        "normal, no alarm": ~strange & normal,
    }
    numbers = {name: int(rows.sum()) for name, rows in counts.items()}
    return numbers if any(numbers.values()) else {}


def simulated_note(simulated: pd.Series) -> str:
    """What the banner says; empty where no recording is simulated."""
    n = int(simulated.sum())
    if not n:
        return ""
    return NO_REAL_MACHINE if n == len(simulated) else f"{n} of {len(simulated)} recordings are simulated."


def plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row for a template: None where there is nothing."""
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}
