"""The first page, all machines, and the page of each of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from asdcore.errors import AsdError
from asdcore.monitoring.incidents import Incident, incidents
from asdcore.monitoring.states import STATES, MachineState, machine_states
from asdcore.normality.machine import ANOMALOUS, SUSPECT
from asdcore.plots.timeline import Point
from asdcore.plots.trend import small_trend, trend
from asdcore.reports.page import NO_REAL_MACHINE, count_of, number
from tasks.board import Champion, Records

if TYPE_CHECKING:
    from asdcore.detector import Detector

INCIDENT = "incident open"
_ORDER = (INCIDENT, *STATES)
MOST_LISTED = 30
"""recordings of a machine, in each of its two lists"""
MOST_POINTS_SMALL, MOST_POINTS = 60, 400


@dataclass(frozen=True)
class Judged:
    """What the recordings of a machine come to; it stays until there are new ones."""

    state: MachineState
    said: str = ""
    """what the latest ones came to; empty if there are none"""
    last: dict[str, Any] | None = None
    trend: Markup = field(default_factory=Markup)


@dataclass(frozen=True)
class Card:
    """A machine on the first page."""

    state: str
    """`INCIDENT`, or one of `asdcore.monitoring.states.STATES`"""
    of: Judged
    incidents: list[Incident]
    """that last"""
    notes: list[str]

    @property
    def machine(self) -> str:
        """Its name."""
        return self.of.state.machine


class Machines:
    """The machines of a home, as its files say they are now."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._judged: tuple[pd.DataFrame, dict[str, Judged]] | None = None

    def all(self) -> dict[str, Any]:
        """What the first page shows."""
        champion, problems = champion_of(self.records)
        lasting = [one for one in self._incidents(problems) if one.is_open]
        recordings, judged = self._now()
        names = {*judged, *self.records.catalog()["machine"], *(champion.machines if champion else ())}
        cards = [
            _card(judged.get(name) or Judged(MachineState(name)), lasting, champion) for name in sorted(map(str, names))
        ]
        cards.sort(key=lambda card: _ORDER.index(card.state))
        return {
            "problems": problems,
            "champion": champion,
            "cards": cards,
            "counts": Counter(card.state for card in cards),
            "of_no_machine": [one for one in lasting if not one.machine],
            "simulated": _simulated(recordings),
        }

    def one(self, name: str) -> dict[str, Any] | None:
        """What the page of a machine shows; None if there is no such machine."""
        champion, problems = champion_of(self.records)
        _, judged = self._now()
        enrolled = champion is not None and name in champion.machines
        if name not in judged and not enrolled and name not in set(self.records.catalog()["machine"]):
            return None
        own = [one for one in self._incidents(problems) if one.machine == name]
        card = _card(judged.get(name) or Judged(MachineState(name)), [one for one in own if one.is_open], champion)
        reliability: list[str] = []
        rate = None
        if enrolled:
            from asdcore.monitoring.reliability import reliability_of  # Only here: it imports PyTorch.

            try:
                detector, _ = self.records.detector()
                rate, report = supported_rate(detector, name), reliability_of(detector, name)
                reliability = report.sentences if report else []
            except AsdError as error:
                problems.append(str(error))
        return {
            "problems": problems,
            "champion": champion,
            "card": card,
            "over": [one for one in own if not one.is_open][:MOST_LISTED],
            "reliability": reliability,
            **_lists(card.of.state.recordings, own, rate),
        }

    def _incidents(self, problems: list[str]) -> list[Incident]:
        try:
            return incidents(self.records.home)
        except AsdError as error:
            problems.append(str(error))
            return []

    def _now(self) -> tuple[pd.DataFrame, dict[str, Judged]]:
        recordings = self.records.recordings()
        if self._judged is None or self._judged[0] is not recordings:
            self._judged = recordings, {state.machine: _judged(state) for state in machine_states(recordings)}
        return self._judged


def _judged(state: MachineState) -> Judged:
    counts = Counter(state.latest["now"])
    verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in STATES if counts[verdict])
    said = f"{verdicts} of {count_of(len(state.latest), 'recording')}"
    points = _points(state.recordings, MOST_POINTS_SMALL)
    (last,) = rows_of(state.latest.tail(1))
    return Judged(state, said, last, Markup(small_trend(points, _described(points))))


def _card(judged: Judged, lasting: list[Incident], champion: Champion | None) -> Card:
    machine, notes = judged.state.machine, []
    if champion and machine not in champion.machines:
        notes.append(f"Not enrolled in version {champion.version}; asd enroll adds it.")
    if champion and machine in champion.simulated:
        notes.append("Learned from simulated recordings.")
    own = [one for one in lasting if one.machine == machine]
    return Card(INCIDENT if own else judged.state.state, judged, own, notes)


def _lists(rows: pd.DataFrame, own: Sequence[Incident], rate: float | None) -> dict[str, Any]:
    """The recordings on the page of a machine."""
    if rows.empty:
        return {"links": {}, "trend": "", "first": [], "strange": 0, "latest": [], "left_out": 0, "simulated": ""}
    points, newest = _points(rows, MOST_POINTS), rows.iloc[::-1]
    strange = newest[newest["verdict"].isin([ANOMALOUS, SUSPECT]) & newest["labelled_by"].isna()]
    return {
        "links": incident_links(rows, own),
        "trend": Markup(trend(points, _described(points), rate)),
        "first": rows_of(strange.head(MOST_LISTED)),
        "strange": len(strange),
        "latest": rows_of(newest.head(MOST_LISTED)),
        "left_out": int(rows["p_value"].notna().sum()) - len(points),
        "simulated": _simulated(rows),
    }


def supported_rate(detector: "Detector", machine: str) -> float | None:
    """The false-alarm rate of a machine; None: its recordings do not support it, and nothing is called anomalous."""
    rate = detector.threshold_of(machine).false_alarm_rate
    return rate if rate >= detector.machines[machine].calibration.supported_rate else None


def champion_of(records: Records) -> tuple[Champion | None, list[str]]:
    """The champion, and why it cannot be read, if so: the rest of a page can be shown without it."""
    try:
        return records.champion(), []
    except AsdError as error:
        return None, [f"The champion cannot be read: {error}"]


def rows_of(recordings: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for a template: None where there is nothing."""
    return [{str(name): _plain(value) for name, value in row.items()} for row in recordings.to_dict("records")]


def _plain(value: Any) -> Any:
    if pd.isna(value):
        return None
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value


def _simulated(rows: pd.DataFrame) -> str:
    if rows.empty or not rows["simulated"].any():
        return ""
    return NO_REAL_MACHINE if rows["simulated"].all() else "Some of these recordings are simulated."


def _points(rows: pd.DataFrame, most: int) -> list[Point]:
    columns = ["p_value", "verdict", "session", "label", "labelled_by", "recording", "path"]
    scored = rows.loc[rows["p_value"].notna(), columns].tail(most)
    return [
        Point(
            p_value,
            verdict,
            f"{path.rpartition('/')[2]}: {verdict}, p = {number(p_value)}"
            + (f", labelled {label} by {by}" if isinstance(by, str) else ""),
            session,
            label == "anomaly",
            f"/recordings/{recording}",
        )
        for p_value, verdict, session, label, by, recording, path in scored.itertuples(index=False)
    ]


def _described(points: Sequence[Point]) -> str:
    counts = Counter(point.verdict for point in points)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in STATES if counts[verdict])
    return f"P-values of the last {count_of(len(points), 'recording')}, the oldest on the left: {said}"


def incident_links(recordings: pd.DataFrame, several: Sequence[Incident]) -> dict[str, str]:
    """Incident: the digest of its strangest recording, where it is known."""
    digests = dict(zip(recordings["path"], recordings["recording"], strict=True))
    return {one.id: digests[one.worst] for one in several if digests.get(one.worst)}
