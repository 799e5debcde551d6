"""What the champion thinks of new recordings that are labelled normal, before or after a challenger has learned them.

A fault that was labelled normal by mistake is learned, and a few test recordings need not show it. The champion has not
learned it: to the champion it still sounds strange.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm

from asdcore.monitoring.intervals import rate_interval
from asdcore.normality.calibration import Calibration, n_effective
from asdcore.normality.machine import NORMAL
from asdcore.recordings.sessions import groups_of

STRANGE = 0.1
"""Fraction of the new recordings that the champion may call suspect or anomalous. For unchanged normal
recordings it is one in a hundred; a higher fraction suggests that a fault has been learned as normal."""
CHANCE = 0.01
"""Fraction of the retrainings with unchanged normal recordings that may be objected to by their ranks."""
NAMED = 3
"""recordings that an objection names"""


@dataclass(frozen=True)
class Learned:
    """What the champion thinks of a machine's recordings that it was not fitted on."""

    recordings: int
    strange: int
    """of them, suspect or anomalous"""
    p_value: float
    """of their ranks among the champion's training recordings, see `rank_p_value`"""
    names: Sequence[str] = ()
    """of the strangest ones"""
    unread: int = 0
    """further ones, whose files cannot be read at the moment"""

    def objection(self, machine: str, rate: float, machines: int = 1) -> str:
        """Why these recordings may be no normal ones; empty if nothing says so.

        Args:
            machine: whose recordings they are.
            rate: the false-alarm rate asked of the machine; as many may be strange.
            machines: with new recordings that are judged together, this one included.
        """
        if self.unread > self.recordings:
            return (
                f"{machine}: {self.unread} of its recordings newly labelled normal cannot be read now, so the champion "
                "cannot judge them: is the drive or the share mounted?"
            )
        by_count = rate_interval(self.strange, self.recordings)[0] > max(STRANGE, rate)
        if not by_count and not self.p_value < CHANCE / machines:
            return ""
        n = "recording" if self.recordings == 1 else f"{self.recordings} recordings"
        if by_count:
            said = f"of the {n} newly labelled normal, the champion calls {self.strange} suspect or anomalous"
        else:
            said = (
                f"the {n} newly labelled normal sound stranger to the champion than its own training recordings did "
                f"when they were left out (p = {self.p_value:.1g}; it calls {self.strange} suspect or anomalous)"
            )
        first = f" ({', '.join(self.names[:NAMED])} first)" if self.names else ""
        return f"{machine}: {said}. Listen to them{first}: `asd label PATH --as anomaly` takes out what is not normal."


def learned(calibration: Calibration, judged: pd.DataFrame) -> Learned:
    """What the champion thinks of new recordings, or clips, of a machine.

    Args:
        calibration: of the champion's machine.
        judged: one row each: recording, path, session, and score and verdict of the champion.
    """
    strangest = judged.sort_values("score", ascending=False)["path"].drop_duplicates().head(NAMED)
    return Learned(
        recordings=len(judged),
        strange=int((judged["verdict"] != NORMAL).sum()),
        p_value=rank_p_value(calibration, judged["score"], groups_of(judged)),
        names=[Path(path).name for path in strangest],
    )


def to_decide(machine: str, calibration: Calibration, judged: pd.DataFrame, rate: float) -> tuple[list[str], list[str]]:
    """The new recordings that a person has to decide on, before anything learns from them.

    Those that are suspect or anomalous; and all of a session, or of an unknown one, that are strange together: where
    five faults of twelve are suspect, the other seven are faults, too.

    Args:
        machine: whose recordings they are.
        calibration: of the champion's machine.
        judged: see `learned`; what has come together.
        rate: the false-alarm rate asked of the machine.

    Returns:
        Their digests; and a sentence for each session that is strange as a whole.
    """
    recordings, objections = list[str](), list[str]()
    for _, rows in judged.groupby("session"):
        objection = learned(calibration, rows).objection(machine, rate)
        objections += [objection] if objection else []
        recordings += rows.loc[(rows["verdict"] != NORMAL) | bool(objection), "recording"].tolist()
    return recordings, objections


def rank_p_value(calibration: Calibration, scores: ArrayLike, groups: ArrayLike) -> float:
    """Whether new recordings are stranger than the training recordings were when they were left out.

    The rank-sum test (Mann and Whitney 1947, one-sided, normal approximation), in which the recordings of a session
    count for fewer than they are: as many as `n_effective` says, on either side. So one new session of many recordings
    says as little as a single recording, if the champion knows sessions.

    Args:
        calibration: of the champion's machine.
        scores: (n,) by the champion.
        groups: (n,) session of each, see `asdcore.recordings.sessions.groups_of`.

    Returns:
        1 for no recording.

    >>> calibration = Calibration().fit(np.arange(60.0))
    >>> print(f"{rank_p_value(calibration, [40.0, 45, 50, 55, 58, 59, 59, 59], range(8)):.1g}")
    0.0002
    >>> of_days = Calibration().fit(np.arange(60.0), groups=np.arange(60) // 6)
    >>> rank_p_value(of_days, [40.0, 45, 50, 55, 58, 59, 59, 59], ["monday"] * 8) > 0.05
    True
    """
    values = np.asarray(scores, dtype=np.float64)
    if not len(values):
        return 1.0
    number = np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.intp)
    if len(np.unique(calibration.groups_)) == len(calibration.groups_):
        # The champion knows no sessions: what a recording counts for here, it counts for there.
        number = np.arange(len(values))
    known, new = calibration.n_effective_, n_effective(values, number)
    # The fraction of the training recordings that are at least as strange, see `Calibration.p_value`.
    fraction = (calibration.p_value(values) * (1 + known) - 1) / known
    of_sessions = np.bincount(number, weights=fraction) / np.bincount(number)
    variance = (1 / known + 1 / new + 1 / (known * new)) / 12
    return float(norm.sf((0.5 - of_sessions.mean()) / np.sqrt(variance)))
