"""Incidents that follow from what scoring runs have stored: anomalies, suspect streaks, drift."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from asdcore.monitoring.drift import ENOUGH
from asdcore.monitoring.incident_store import Transaction, changing, is_usable, set_damaged_aside
from asdcore.monitoring.incidents import (
    ANOMALY,
    DRIFT,
    NORMALS_TO_CLOSE,
    SUSPECT_STREAK,
    Incident,
    Kind,
    closed,
    kept,
    new_incident,
    now,
    open_in,
    opened,
    streak_length,
)
from asdcore.normality.calibration import Calibration
from asdcore.normality.machine import ANOMALOUS, NORMAL
from asdcore.normality.threshold import Threshold
from asdcore.progress import say
from asdcore.storage.files import listed, may_be_damaged
from asdcore.storage.home import Home

COLUMNS = ["path", "recording", "machine", "score", "p_value", "verdict", "decision", "in_training"]


@dataclass(frozen=True)
class Rule:
    """When recordings of a machine open an incident: an alarm of its threshold, or ``streak`` suspect ones in a row."""

    threshold: Threshold
    streak: int

    @classmethod
    def of(cls, threshold: Threshold, calibration: Calibration) -> "Rule":
        """The rule of a machine, from what its detector knows."""
        return cls(threshold, streak_length(suspect_rate(threshold.false_alarm_rate, calibration)))


def suspect_rate(false_alarm_rate: float, calibration: Calibration) -> float:
    """The fraction of the recordings of a normal machine that are suspect, or anomalous.

    A recording is suspect that is stranger than all N training recordings, which happens to one in N + 1, or than all
    but as many as the false-alarm rate allows. N is the number of independent recordings that they are worth, since the
    next recording is one of a session that they do not know.
    """
    return max(false_alarm_rate, calibration.supported_rate)


@dataclass(frozen=True)
class _Recording:
    """A recording, as far as an incident wants to know it."""

    verdict: str
    path: str
    score: float
    p_value: float

    @property
    def is_strange(self) -> bool:
        return self.verdict != NORMAL

    @property
    def strangeness(self) -> tuple[float, float]:
        return -self.p_value, self.score


def begin_following(home: Home) -> None:
    """Call it before a scoring run stores anything: what was stored before the first call opens no incident."""
    if is_usable(home, thorough=True):
        return
    if home.incidents.exists():
        set_damaged_aside(home)
    with changing(home):
        pass


def follow(home: Home, rule_of: Callable[[str], Rule]) -> None:
    """Open, update and close incidents by the score tables and drift reports that have been stored since the last call.

    Each recording counts once, when it is first scored; one that the detector was trained on, and one that could not be
    scored, does not count. A killed process loses nothing: the next call reads what it has stored.

    An anomaly opens with an alarm of the machine's threshold, which is one anomalous recording unless it has a rule of
    its own; a suspect streak with as many suspect recordings in a row as `Rule` says, if no anomaly is open. Both
    count suspect and anomalous recordings, and close at the end of a later run, after `NORMALS_TO_CLOSE` consecutive
    normal recordings. Drift opens with a scoring run of at least `ENOUGH` recordings that exceeds a limit of
    `asdcore.monitoring.drift`, and closes with one that exceeds none; drift that a person has closed opens again only
    after such a run.

    Args:
        home: with the stored files.
        rule_of: of a machine.

    Raises:
        AsdError: see `asdcore.monitoring.incident_store.changing`.
    """
    with changing(home) as stored:
        done = stored.followed()
        files = [path for path in listed(home.scores, "*.parquet") if path.name not in done]
        # What was fetched is past: the computer that scored it has opened its incidents.
        fetched, away = home.fetched(home.scores), set[Path]()
        for path in files:
            kind = path.name.partition("-")[0]
            if kind not in ("score", "drift") or path.name in fetched:
                continue
            try:
                table = pd.read_parquet(path, columns=COLUMNS if kind == "score" else None)
            except (OSError, ValueError) as error:  # One that cannot be read must not hide the others.
                say(f"{path} could not be read for incidents: {error}")
                if not may_be_damaged(error):
                    away.add(path)  # The next call looks at it again.
                continue
            for machine, rows in table.groupby("machine", sort=False):
                if kind == "score":
                    _follow_recordings(stored, str(machine), rows, rule_of(str(machine)))
                else:
                    _follow_drift(stored, str(machine), rows.iloc[-1])
        stored.follow(path.name for path in files if path not in away)


def _follow_recordings(stored: Transaction, machine: str, rows: pd.DataFrame, rule: Rule) -> None:
    rows = rows[rows["decision"].notna() & ~rows["in_training"].fillna(False).astype(bool)]
    new = [row for row in rows.to_dict("records") if stored.first_heard(machine, str(row["recording"]))]
    if not new:
        return
    recent = [_Recording(**one) for one in json.loads(stored.recent(machine))]
    before = {one.kind: one for one in open_in(stored) if one.machine == machine and one.kind != DRIFT}
    lasting = dict(before)
    for row in new:
        one = _Recording(row["verdict"], row["path"], float(row["score"]), float(row["p_value"]))
        recent = [*recent, one][-max(rule.threshold.last, rule.streak) :]
        lasting = {kind: _with(incident, [one]) for kind, incident in lasting.items()}
        if ANOMALY not in lasting and (cause := _alarm(recent, rule.threshold)):
            lasting[ANOMALY] = _opening(stored, ANOMALY, machine, cause)
        elif not lasting and (cause := _streak(recent, rule.streak)):
            lasting[SUSPECT_STREAK] = _opening(stored, SUSPECT_STREAK, machine, cause)
    for kind, incident in lasting.items():
        if kind not in before:
            opened(stored, incident)
        # One that opens in this run lasts until the next one: somebody should see it.
        elif incident.normal_since >= NORMALS_TO_CLOSE:
            closed(stored, incident, f"{incident.normal_since} normal recordings in a row")
            recent = []
        else:
            kept(stored, incident)
    stored.keep_recent(machine, json.dumps([asdict(one) for one in recent]))


def _alarm(recent: Sequence[_Recording], threshold: Threshold) -> list[_Recording]:
    """The anomalous recordings that the newest one makes an alarm with; none: it makes none."""
    anomalous = [one for one in recent[-threshold.last :] if one.verdict == ANOMALOUS]
    return anomalous if recent[-1].verdict == ANOMALOUS and len(anomalous) >= threshold.needed else []


def _streak(recent: Sequence[_Recording], length: int) -> list[_Recording]:
    """The last recordings, so many, if all of them are suspect or anomalous; else none."""
    last = list(recent[-length:])
    return last if len(last) == length and all(one.is_strange for one in last) else []


def _opening(stored: Transaction, kind: Kind, machine: str, cause: Sequence[_Recording]) -> Incident:
    return _with(new_incident(stored, kind, machine, machine=machine, recordings=0, sentence=""), cause)


def _with(incident: Incident, recordings: Sequence[_Recording]) -> Incident:
    """An incident after more recordings of its machine."""
    for one in recordings:
        if not one.is_strange:
            incident = replace(incident, normal_since=incident.normal_since + 1)
            continue
        count = incident.recordings + 1
        incident = replace(incident, recordings=count, normal_since=0, last_seen=now(incident))
        if incident.worst_p_value is None or one.strangeness > (-incident.worst_p_value, incident.worst_score or 0.0):
            score = one.score if math.isfinite(one.score) else None
            incident = replace(incident, worst=one.path, worst_p_value=one.p_value, worst_score=score)
    return replace(incident, sentence=_sentence(incident))


def _sentence(incident: Incident) -> str:
    n, plural = incident.recordings, "" if incident.recordings == 1 else "s"
    what = (
        f"{n} recording{plural} suspect or anomalous"
        if incident.kind == SUSPECT_STREAK or n > 1
        else "1 recording anomalous"
    )
    return f"{what}; the strangest is {Path(incident.worst).name} (p-value {incident.worst_p_value:.2g})"


def _follow_drift(stored: Transaction, machine: str, row: pd.Series) -> None:
    """Drift opens where it begins, not where it goes on: one that a person has closed does not open again at once."""
    incident = next((one for one in open_in(stored) if one.kind == DRIFT and one.machine == machine), None)
    scored = int(row["recordings"]) - int(row["not_scored"])
    if len(row["sentences"]):
        sentence = " ".join(row["sentences"])
        if incident is not None:
            recordings = incident.recordings + scored
            kept(stored, replace(incident, recordings=recordings, sentence=sentence, last_seen=now(incident)))
        elif int(row["recordings"]) < ENOUGH:
            return  # A few recordings, of another operating condition perhaps, are no reason to call anybody.
        elif not stored.drifts(machine):
            opened(stored, new_incident(stored, DRIFT, machine, machine=machine, recordings=scored, sentence=sentence))
        stored.keep_drifts(machine, True)
    elif scored >= ENOUGH:
        if incident is not None:
            closed(stored, incident, "a scoring run that exceeded no limit")
        stored.keep_drifts(machine, False)
