"""Incidents: problems that a person should know about, once from beginning to end, not once per recording.

An incident opens, is updated while it lasts, and closes. Incidents follow from what scoring runs have stored, see
`asdcore.monitoring.following`, from failed runs of flows and from challengers that the gate has refused.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self, get_args

from asdcore.errors import AsdError
from asdcore.monitoring.incident_store import Transaction, changing, reading
from asdcore.storage.home import Home

Kind = Literal["anomaly", "suspect streak", "drift", "failed run", "refused challenger"]
ANOMALY: Kind = "anomaly"
SUSPECT_STREAK: Kind = "suspect streak"
DRIFT: Kind = "drift"
FAILED_RUN: Kind = "failed run"
REFUSED_CHALLENGER: Kind = "refused challenger"
KINDS: tuple[Kind, ...] = get_args(Kind)
"""the most serious first"""

OPENED, CLOSED = "opened", "closed"
"""the two events of an incident"""
NORMALS_TO_CLOSE = 10
"""Consecutive normal recordings that close an anomaly or a suspect streak: if half of the recordings of a machine with
a fault sound normal, ten in a row do so once in a thousand times; see `asdcore.monitoring.following`."""
STREAK_RARITY = 1e-4
"""Chance that the next N recordings of a normal machine are all suspect: at most one streak in 10,000 recordings."""


@dataclass(frozen=True)
class Incident:
    """A problem that a person should know about. ``closed`` is None as long as it lasts."""

    id: str
    """8 hexadecimal digits"""
    kind: Kind
    machine: str
    """empty: a failed run or a refused challenger belongs to no machine"""
    subject: str
    """what it is about: the machine, the flow that failed, or ``challenger``"""
    opened: datetime
    last_seen: datetime
    recordings: int
    """those anomalous or suspect; of drift: of the scoring runs that exceeded a limit; else: how often it happened"""
    sentence: str
    worst: str = ""
    """path of the recording with the lowest p-value; empty if the incident is not about single recordings"""
    worst_p_value: float | None = None
    worst_score: float | None = None
    normal_since: int = 0
    """normal recordings since the last anomalous or suspect one; of drift: scoring runs that exceeded no limit"""
    closed: datetime | None = None
    closed_by: str = ""
    """who or what closed it"""

    @property
    def is_open(self) -> bool:
        """Whether it lasts."""
        return self.closed is None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; times in UTC, ISO 8601."""
        return asdict(self) | {
            name: None if time is None else time.isoformat(timespec="seconds")
            for name, time in (("opened", self.opened), ("last_seen", self.last_seen), ("closed", self.closed))
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` wrote, also that of a newer version, whose further fields are left out."""
        values = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        times = {
            name: values[name] and datetime.fromisoformat(values[name]) for name in ("opened", "last_seen", "closed")
        }
        return cls(**{**values, **times})


def streak_length(suspect_rate: float) -> int:
    """How many suspect recordings in a row open an incident: the smallest N, at least 2, with rate^N <= 1e-4.

    A suspect recording alone is no reason to call anybody: of a machine with 20 independent training recordings, one
    normal recording in 21 is suspect. N in a row are, by chance, rarer than one in 10,000, if recordings are
    independent. Those of one session are not: a session that sounds unlike those of the training makes a streak more
    likely, and is worth a look for that reason.

    Args:
        suspect_rate: fraction of the recordings of a normal machine that are suspect; above 0, below 1.

    Raises:
        AsdError: a rate that is none.

    >>> streak_length(0.01), streak_length(1 / 21), streak_length(0.3)
    (2, 4, 8)
    """
    if not 0 < suspect_rate < 1:
        raise AsdError(f"suspect_rate is {suspect_rate}: it must be above 0 and below 1")
    # The tolerance: the quotient of two logarithms is not exact.
    return max(2, math.ceil(math.log(STREAK_RARITY) / math.log(suspect_rate) - 1e-9))


def open_incidents(home: Home) -> list[Incident]:
    """The incidents of a home that last, the newest first."""
    return [incident for incident in incidents(home) if incident.is_open]


def incidents(home: Home, since: datetime | None = None, machine: str | None = None) -> list[Incident]:
    """Incidents, the newest first.

    Args:
        home: where they are kept; one without any has none.
        since: only those that last, or were closed, after this time, which has a time zone; default: all.
        machine: only its own.
    """
    with reading(home) as stored:
        every = [] if stored is None else [Incident.from_json(json.loads(text)) for text in stored.incidents()]
    return [
        incident
        for incident in every
        if (machine is None or incident.machine == machine)
        and (since is None or incident.closed is None or incident.closed > since)
    ]


def close_incident(home: Home, name: str, by: str) -> Incident:
    """Close an incident because a person says so.

    Args:
        home: where it is kept.
        name: its id, or the first digits of it.
        by: who says so.

    Returns:
        The incident as it is now.

    Raises:
        AsdError: no open incident, or several, with such an id.
    """
    with changing(home) as stored:
        found = [incident for incident in open_in(stored) if name and incident.id.startswith(name.lower())]
        if len(found) > 1:
            raise AsdError(f"{name} are the first digits of {len(found)} open incidents: give more of them")
        if not found:
            raise AsdError(f"no open incident {name}; `asd incidents` lists them")
        if found[0].machine:
            # What the machine did before that is dealt with: it does not open the next incident.
            stored.keep_recent(found[0].machine, "[]")
        return closed(stored, found[0], by)


def run_failed(home: Home, flow: str, sentence: str) -> Incident:
    """A run of a flow has failed: open an incident, or update the open one of that flow."""
    return _again(home, FAILED_RUN, flow, sentence)


def run_completed(home: Home, flow: str) -> None:
    """A run of a flow has completed: close its incident, if there is an open one."""
    _close_all(home, FAILED_RUN, flow, "a run that completed")


def challenger_refused(home: Home, sentence: str) -> Incident:
    """The gate has refused a challenger: open an incident, or update the open one."""
    return _again(home, REFUSED_CHALLENGER, "challenger", sentence)


def challenger_promoted(home: Home, by: str) -> None:
    """A challenger has become the champion: close the incident of a refused one, if there is an open one."""
    _close_all(home, REFUSED_CHALLENGER, "challenger", by)


def machine_renamed(home: Home, old: str, new: str) -> None:
    """A machine has another name: its open incidents go on under it, and no recording counts twice."""
    if not home.incidents.exists():
        return
    with changing(home) as stored:
        stored.rename(old, new)
        for incident in open_in(stored):
            if incident.machine == old:
                kept(stored, replace(incident, machine=new, subject=new))


def machine_retired(home: Home, machine: str) -> None:
    """A machine is no longer enrolled: close its open incidents. If it is enrolled again, it begins without a past."""
    if not home.incidents.exists():
        return
    with changing(home) as stored:
        for incident in open_in(stored):
            if incident.machine == machine:
                closed(stored, incident, "retired")
        stored.keep_recent(machine, "[]")
        stored.keep_drifts(machine, False)


def _again(home: Home, kind: Kind, subject: str, sentence: str) -> Incident:
    with changing(home) as stored:
        for incident in open_in(stored):
            if (incident.kind, incident.subject) == (kind, subject):
                if incident.sentence == sentence:
                    return incident  # Told twice.
                again = replace(
                    incident, recordings=incident.recordings + 1, sentence=sentence, last_seen=now(incident)
                )
                return kept(stored, again)
        return opened(stored, new_incident(stored, kind, subject, recordings=1, sentence=sentence))


def _close_all(home: Home, kind: Kind, subject: str, by: str) -> None:
    if not any((one.kind, one.subject) == (kind, subject) for one in open_incidents(home)):
        return  # Nearly always: nothing is written then.
    with changing(home) as stored:
        for incident in open_in(stored):
            if (incident.kind, incident.subject) == (kind, subject):
                closed(stored, incident, by)


# What follows is used within a transaction, here and in `asdcore.monitoring.following`.


def open_in(stored: Transaction) -> list[Incident]:
    """The incidents that last, the newest first."""
    return [Incident.from_json(json.loads(text)) for text in stored.incidents(only_open=True)]


def new_incident(stored: Transaction, kind: Kind, subject: str, **facts: Any) -> Incident:
    """An incident that `opened` will keep."""
    at = datetime.now(UTC)
    return Incident(stored.new_id(), kind, subject=subject, opened=at, last_seen=at, **({"machine": ""} | facts))


def opened(stored: Transaction, incident: Incident) -> Incident:
    """Keep a new incident; its message waits to be sent."""
    kept(stored, incident)
    stored.add_message(OPENED, json.dumps(incident.to_json()))
    return incident


def kept(stored: Transaction, incident: Incident) -> Incident:
    """Keep what an incident is now."""
    stored.put(incident.id, json.dumps(incident.to_json()), is_open=incident.is_open)
    return incident


def closed(stored: Transaction, incident: Incident, by: str) -> Incident:
    """The incident is over; its message waits to be sent."""
    done = kept(stored, replace(incident, closed=now(incident), closed_by=by))
    stored.add_message(CLOSED, json.dumps(done.to_json()))
    return done


def now(incident: Incident) -> datetime:
    """The time, or that at which the incident was last seen if the clock was set back since."""
    return max(datetime.now(UTC), incident.last_seen)
