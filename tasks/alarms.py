"""Alarms: the anomalous recordings of a scoring run that are worth a call, by each machine's rule."""

import pandas as pd

from asdcore.detector import Detector
from asdcore.normality.threshold import Threshold
from asdcore.progress import say
from asdcore.recordings.health import remarks
from asdcore.storage.files import listed
from asdcore.storage.home import Home

MOST_TABLES = 50
"""score tables that are read for the recordings before those of this run"""


def raised_alarms(home: Home, detector: Detector, scores: pd.DataFrame) -> tuple[dict[str, str], list[str]]:
    """The machines that were in alarm in a scoring run, each with a sentence, and those whose alarm began in it.

    Args:
        home: with the score tables of earlier runs.
        detector: that scored.
        scores: the score table of this run; the order of its rows is that of the recordings.
    """
    alarms, new = {}, []
    for machine, rows in scores[scores["decision"].notna()].groupby("machine"):
        threshold = detector.threshold_of(str(machine))
        before = _before(home, str(machine), rows, threshold)
        decisions = [*before, *rows["decision"].astype(int)]
        if not any(threshold.in_alarm(decisions)[len(before) :]):
            continue
        begun = [index - len(before) for index in threshold.alarms(decisions) if index >= len(before)]
        alarms[str(machine)] = _sentence(rows, begun, threshold)
        if begun:
            new.append(str(machine))
    return alarms, new


def _sentence(rows: pd.DataFrame, begun: list[int], threshold: Threshold) -> str:
    """What the alarm is. ``begun``: the rows that one begins with; none: it lasts since an earlier run."""
    anomalous = rows[rows["decision"] == 1]
    kinds = {remark.split(":")[0] for treatment in anomalous["treatment"] for remark in remarks(treatment)}
    flaws = f", some of them with {', '.join(sorted(kinds))}" if kinds else ""
    if threshold.last == 1:
        return f"{len(anomalous)} of {len(rows)} recordings anomalous{flaws}"
    since = f"first at {rows['path'].iloc[begun[0]]}" if begun else "since an earlier run"
    return f"{threshold.needed} of the last {threshold.last} recordings anomalous, {since}{flaws}"


def _before(home: Home, machine: str, rows: pd.DataFrame, threshold: Threshold) -> list[int]:
    """Decisions on the last recordings of a machine in earlier runs: as many as say whether it was in alarm."""
    decisions: list[int] = []
    if threshold.last == 1:
        return decisions  # Each anomalous recording is worth a call.
    seen = set(rows["recording"])
    for table in reversed(listed(home.scores, "score-*.parquet")[-MOST_TABLES:]):
        if len(decisions) >= threshold.last:
            break
        try:
            earlier = pd.read_parquet(table, columns=["machine", "recording", "decision"])
        except (OSError, ValueError) as error:  # An earlier run must not hide the alarm of this one.
            say(f"{table} could not be read, so the alarm rule ignores it: {error}")
            continue
        earlier = earlier[(earlier["machine"] == machine) & earlier["decision"].notna()]
        earlier = earlier[~earlier["recording"].isin(seen)]
        seen |= set(earlier["recording"])
        decisions = [*earlier["decision"].astype(int), *decisions]
    return decisions[-threshold.last :]
