"""Alarms: the anomalous recordings of a scoring run that are worth a call, by each machine's rule."""

import pandas as pd

from asdcore.detector import Detector
from asdcore.normality.threshold import Threshold
from asdcore.storage.home import Home
from tasks.events import ALARM, tell

MOST_TABLES = 50
"""score tables that are read for the recordings before those of this run"""


def raised_alarms(home: Home, detector: Detector, scores: pd.DataFrame) -> dict[str, str]:
    """The machines with an alarm in a scoring run, each with a sentence; also emitted as events.

    Args:
        home: with the score tables of earlier runs.
        detector: that scored.
        scores: the score table of this run; the order of its rows is that of the recordings.
    """
    alarms = {}
    for machine, rows in scores[scores["decision"].notna()].groupby("machine"):
        threshold = detector.threshold_of(str(machine))
        sentence = _sentence(rows, _before(home, str(machine), rows, threshold), threshold)
        if sentence:
            alarms[str(machine)] = sentence
            tell(ALARM, home, {"machine": str(machine), "sentence": sentence})
    return alarms


def _sentence(rows: pd.DataFrame, before: list[int], threshold: Threshold) -> str:
    """What the alarm is; empty if there is none. ``before``: decisions on the recordings before ``rows``."""
    anomalous = int((rows["decision"] == 1).sum())
    if threshold.last == 1:
        return f"{anomalous} of {len(rows)} recordings anomalous" if anomalous else ""
    begun = [index for index in threshold.alarms([*before, *rows["decision"].astype(int)]) if index >= len(before)]
    if not begun:
        return ""
    first = rows["path"].iloc[begun[0] - len(before)]
    return f"{threshold.needed} of the last {threshold.last} recordings anomalous, first at {first}"


def _before(home: Home, machine: str, rows: pd.DataFrame, threshold: Threshold) -> list[int]:
    """Decisions on the last recordings of a machine in earlier runs, as many as the rule looks back."""
    decisions: list[int] = []
    seen = set(rows["recording"])
    for table in sorted(home.scores.glob("score-*.parquet"), reverse=True)[:MOST_TABLES]:
        if len(decisions) >= threshold.last - 1:
            break
        earlier = pd.read_parquet(table, columns=["machine", "recording", "decision"])
        earlier = earlier[(earlier["machine"] == machine) & earlier["decision"].notna()]
        earlier = earlier[~earlier["recording"].isin(seen)]
        seen |= set(earlier["recording"])
        decisions = [*earlier["decision"].astype(int), *decisions]
    return decisions[-(threshold.last - 1) :] if threshold.last > 1 else []
