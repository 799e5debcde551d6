"""The state of each machine by its stored scores: what somebody who comes on shift wants to know first."""

from dataclasses import dataclass, field

import pandas as pd

from asdcore.normality.machine import ANOMALOUS, NORMAL, SUSPECT

NOT_SCORED, NEVER_JUDGED = "not scored", "never judged"
STATES = (ANOMALOUS, SUSPECT, NOT_SCORED, NORMAL, NEVER_JUDGED)
"""the worst first"""


@dataclass(frozen=True)
class MachineState:
    """A machine after its latest new recordings."""

    machine: str
    state: str = NEVER_JUDGED
    """one of `STATES`"""
    recordings: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)
    """all of it, one row each, see `in_order`"""
    latest: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)
    """those of the latest scoring run that had new ones; the state is that of the worst of them"""


def in_order(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per recording and machine, its last verdict, in the order in which they were first scored.

    A folder that is scored every hour has every recording in it again and again: only the first time is news.

    Args:
        scores: stored scores, the oldest run first: machine, recording, path, at (time of the run), session.

    Returns:
        The rows with the column ``first``, the time of the first run; recordings of a session stand together within
        that run.
    """
    known = scores["recording"].where(scores["recording"] != "", scores["path"])
    of = [scores["machine"], known]
    rows = scores.assign(first=scores.groupby(of)["at"].transform("min"))
    rows = rows[~pd.concat(of, axis=1).duplicated(keep="last")].reset_index(drop=True)
    place = pd.Series(rows.index, index=rows.index)
    together = place.groupby([rows["machine"], rows["first"], rows["session"]]).transform("min")
    order = pd.DataFrame({"first": rows["first"], "session": together, "place": place})
    return rows.loc[order.sort_values(["first", "session", "place"]).index].reset_index(drop=True)


def judged(rows: pd.DataFrame) -> pd.Series:
    """What holds of each recording: what a person has called it, else its verdict.

    Args:
        rows: verdict, `NOT_SCORED` where there is none; label and labelled_by, as in the table of recordings, missing
            for those that are in none.
    """
    said = rows["label"].where(rows["labelled_by"].notna()).map({"normal": NORMAL, "anomaly": ANOMALOUS})
    return said.fillna(rows["verdict"])


def machine_states(recordings: pd.DataFrame) -> list[MachineState]:
    """The state of each machine that has recordings.

    Recordings that the detector was fitted on count only where a machine has no others.

    Args:
        recordings: by `in_order`, with in_training, and in the column ``now`` what `judged` says.
    """
    return [_state(str(machine), rows) for machine, rows in recordings.groupby("machine")] if len(recordings) else []


def _state(machine: str, rows: pd.DataFrame) -> MachineState:
    new = rows[~rows["in_training"].fillna(False).astype(bool)]
    new = new if len(new) else rows
    latest = new[new["first"] == new["first"].max()]
    worst = min(latest["now"], key=STATES.index)
    return MachineState(machine, worst, rows, latest)
