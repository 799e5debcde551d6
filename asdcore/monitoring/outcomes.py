"""What a detector's verdicts on test recordings come to: faults caught, false alarms in sessions not heard before.

AUC says how well scores rank. A person on call meets verdicts: this is what they would have been at the false-alarm
rate that was asked for, suspect and anomalous counted together and apart.
"""

from collections.abc import Mapping

import pandas as pd
from sklearn.metrics import roc_auc_score

from asdcore.monitoring.intervals import rate_interval
from asdcore.normality.machine import ANOMALOUS, SUSPECT
from asdcore.recordings.training import training_recordings

FAULTY, UNSEEN, HEARD, UNKNOWN = "faulty", "unseen sessions", "sessions of the training", "sessions unknown"
COLUMNS = ["machine", "recordings_of", "n", "anomalous", "suspect", "low", "high", "sessions", "auc"]


def with_session_heard(recordings: pd.DataFrame) -> pd.DataFrame:
    """A table of recordings with the column ``session_heard``: whether the detector is trained on recordings of the
    same session of the same machine; missing where the session is unknown.
    """
    of = recordings["machine"] + "\n" + recordings["session"].fillna("")
    training = training_recordings(recordings)
    heard = of.isin(set(training["machine"] + "\n" + training["session"].fillna(""))).astype("boolean")
    return recordings.assign(session_heard=heard.mask(recordings["session"].fillna("") == ""))


def outcomes(scores: pd.DataFrame) -> pd.DataFrame:
    """What the verdicts on labelled test recordings come to.

    Args:
        scores: one row per recording: machine, label, score, verdict, session, session_heard; those without a verdict,
            or with an unknown label, are left out.

    Returns:
        For each machine one row per kind of recordings that there is, `COLUMNS`: ``recordings_of`` is `FAULTY`, or of
        normal recordings `UNSEEN`, `HEARD` or `UNKNOWN`; n of them, of which so many are anomalous, and so many only
        suspect; low and high: the ends of the 95 % interval of both together; sessions: how many, 0 if unknown; auc:
        of the machine's scores, 0 to 1, NaN without faulty or without normal recordings.

    >>> rows = [("fan", "normal", 1.0, "normal", "b", False), ("fan", "anomaly", 9.0, "suspect", "b", False)]
    >>> names = ["machine", "label", "score", "verdict", "session", "session_heard"]
    >>> outcomes(pd.DataFrame(rows, columns=names))[["recordings_of", "n", "anomalous", "suspect", "auc"]]
         recordings_of  n  anomalous  suspect  auc
    0           faulty  1          0        1  1.0
    1  unseen sessions  1          0        0  1.0
    """
    known = scores[scores["label"].isin(["normal", "anomaly"]) & scores["verdict"].notna() & (scores["verdict"] != "")]
    rows = []
    for machine, own in known.groupby("machine"):
        normal = own[own["label"] == "normal"]
        parts = {
            FAULTY: own[own["label"] == "anomaly"],
            UNSEEN: normal[normal["session_heard"].eq(False).fillna(False)],
            HEARD: normal[normal["session_heard"].eq(True).fillna(False)],
            UNKNOWN: normal[normal["session_heard"].isna()],
        }
        both = own["label"].nunique() == 2
        auc = float(roc_auc_score(own["label"] == "anomaly", own["score"].rank())) if both else float("nan")
        for of, part in parts.items():
            if not len(part):
                continue
            anomalous, suspect = (int((part["verdict"] == verdict).sum()) for verdict in (ANOMALOUS, SUSPECT))
            ends = rate_interval(anomalous + suspect, len(part))
            sessions = 0 if of == UNKNOWN else part["session"].nunique()
            rows.append((str(machine), of, len(part), anomalous, suspect, *ends, sessions, auc))
    return pd.DataFrame(rows, columns=COLUMNS)


def outcome_lines(
    table: pd.DataFrame, false_alarm_rate: float, own_rates: Mapping[str, float] | None = None
) -> list[str]:
    """`outcomes` as one sentence per machine, which any report begins with.

    Args:
        table: see `outcomes`.
        false_alarm_rate: that the verdicts were asked for.
        own_rates: the same of machines that have one of their own; their sentence says so.

    >>> rows = [("fan", FAULTY, 30, 10, 18, 0.78, 0.99, 1, 0.98), ("fan", UNSEEN, 10, 0, 1, 0.0, 0.45, 2, 0.98)]
    >>> print(*outcome_lines(pd.DataFrame(rows, columns=COLUMNS), 0.1))
    fan: caught 28 of 30 faulty recordings (95 % interval 78 to 99 %; 18 of them only suspect), false alarms 1 of 10 \
normal recordings of 2 unseen sessions (0 to 45 %; 1 of them only suspect); 10 % asked; AUC 98.0 %
    """
    lines = []
    for machine, own in table.groupby("machine"):
        rows = {str(row["recordings_of"]): {str(k): v for k, v in row.items()} for row in own.to_dict("records")}
        caught = "no faulty test recordings"
        if (row := rows.get(FAULTY)) is not None:
            caught = f"caught {_count(row, 'faulty recordings')} ({_interval(row, '95 % interval ')})"
        normal = "no normal test recordings"
        if alarms := [_false_alarms(of, rows[of]) for of in (UNSEEN, HEARD, UNKNOWN) if of in rows]:
            normal = "false alarms " + ", ".join(alarms)
        auc = next(iter(rows.values()))["auc"]
        ranked = "" if pd.isna(auc) else f"; AUC {100 * auc:.1f} %"
        own_rate = (own_rates or {}).get(str(machine))
        asked = (
            f"{100 * false_alarm_rate:g} % asked" if own_rate is None else f"{100 * own_rate:g} % asked, its own rate"
        )
        lines.append(f"{machine}: {caught}, {normal}; {asked}{ranked}")
    return lines


def _false_alarms(of: str, row: dict[str, float]) -> str:
    count = _count(row, "normal recordings")
    if of == UNKNOWN:
        return f"{count}, sessions unknown ({_interval(row)})"
    sessions = int(row["sessions"])
    words = "session" if sessions == 1 else "sessions"
    what = f"{sessions} unseen {words}" if of == UNSEEN else f"{sessions} {words} of the training"
    return f"{count} of {what} ({_interval(row)})"


def _count(row: dict[str, float], what: str) -> str:
    return f"{int(row['anomalous'] + row['suspect'])} of {int(row['n'])} {what}"


def _interval(row: dict[str, float], name: str = "") -> str:
    suspect = f"; {int(row['suspect'])} of them only suspect" if row["suspect"] else ""
    return f"{name}{100 * row['low']:.0f} to {100 * row['high']:.0f} %{suspect}"
