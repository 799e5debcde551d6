"""The report of a retraining or an enrolment: how far to trust each machine, and what to listen to and do next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd

from asdcore.detector import Detector
from asdcore.evaluation.table import systems_of
from asdcore.heard import Heard, score_table
from asdcore.monitoring.reliability import Reliability, reliability_of
from asdcore.normality.machine import ANOMALOUS, NORMAL, SUSPECT
from asdcore.recordings.found import simulated_rows
from asdcore.reports.cards import Card, Compare, bounded
from asdcore.reports.comparison import Compared, compared
from asdcore.reports.known import Known
from asdcore.reports.machines import STRANGE, caption_of, drawn, labelled, limits, outcome, plain, simulated_note
from asdcore.reports.page import count_of, rendered, shortened
from asdcore.reports.score import below, common_folder, score_card

MOST_OF_TRAINING, MOST_OF_TEST = 10, 5
"""recordings of interest: training recordings that stand out; faults missed and false alarms, of each"""


@dataclass(frozen=True)
class Decision:
    """Which detector is the champion now, and why."""

    sentence: str
    champion: bool
    reasons: Sequence[str] = ()
    compared: Sequence[dict[str, Any]] = ()
    """rows of `asdcore.monitoring.promotion.Judgement`"""


@dataclass(frozen=True)
class Verdicts:
    """What the detector makes of test recordings."""

    scores: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(
            columns=["recording", "path", "machine", "label", "session", "session_heard", "score", "verdict"]
        )
    )
    """one row per recording"""
    table: pd.DataFrame | None = None
    """see `asdcore.evaluation.table.results_table`; None: there are no labels"""
    differences: pd.DataFrame | None = None
    note: str = ""
    """such as that these are not all recordings"""


@dataclass(frozen=True)
class Step:
    """What to do next."""

    sentence: str
    command: str = ""


def fitted_report(
    detector: Detector,
    machines: Sequence[str],
    known: Known,
    decision: Decision,
    tested: Verdicts,
    stand_out: pd.DataFrame,
    steps: Sequence[Step],
    *,
    title: str,
    about: Sequence[str] = (),
) -> str:
    """One HTML page about a detector that was just fitted.

    Args:
        detector: the new one.
        machines: those that the page is about.
        known: labels, sessions and the files of the training recordings.
        decision: which detector is the champion.
        tested: what it makes of test recordings.
        stand_out: training recordings to listen to, the strangest of each machine first: path, machine, found_by.
        steps: what to do next.
        title: of the page.
        about: lines below it.
    """
    scores = tested.scores.reset_index(drop=True)
    folder = common_folder([Path(path) for path in [*scores["path"], *stand_out["path"]]])
    groups = _groups(detector, scores, stand_out, known, folder)
    cards, left_out = bounded([pair for _, _, found in groups for pair in found])
    scores = _in_page(scores, cards, folder)
    filled = iter(cards)
    simulated = simulated_rows(known.rows[known.rows["machine"].isin(list(machines))])
    return rendered(
        "fitted.html",
        title=title,
        about=[*about, *([f"Recordings in {shortened(str(folder))}"] if folder else [])],
        simulated=simulated_note(simulated),
        decision=decision,
        machines=[_machine(detector, machine, scores[scores["machine"] == machine]) for machine in machines],
        labelled=labelled(scores),
        metrics=_metrics(tested),
        note=tested.note,
        groups=[(heading, said, [next(filled) for _ in found]) for heading, said, found in groups],
        steps=steps,
        sessions=bool((scores["session"].fillna("") != "").any()),
        labels=bool((scores["label"] == "anomaly").any()),
        left_out=left_out,
    )


def _machine(detector: Detector, machine: str, rows: pd.DataFrame) -> dict[str, Any]:
    """What is said of one machine: how far to trust it, what its verdicts come to, and its timeline."""
    report, rate = reliability_of(detector, machine), detector.threshold_of(machine).false_alarm_rate
    lines = limits(detector, machine)
    return {
        "name": machine,
        "badge": report.rating if report else "unknown",
        "tone": NORMAL if report and report.rating == "reliable" else SUSPECT,
        "sentences": report.sentences if report else ["There is no reliability report."],
        "outcome": outcome(rows, rate),
        "learned_from_simulated": detector.learned_from_simulated(machine),
        "facts": _facts(report) if report else [],
        **drawn(machine, rows, lines, caption_of(lines)),
    }


def _facts(report: Reliability) -> list[tuple[str, str]]:
    domains = ", ".join(f"{n} {name}" for name, n in report.domains.items())
    sessions = f" of {count_of(report.sessions, 'session')}" if report.sessions else ""
    facts = [
        ("fitted on", f"{report.n} normal recordings{sessions} ({domains})"),
        ("asked", f"{100 * report.asked:g} % false alarms"),
    ]
    for name, achieved in (("left out", report.left_out), ("of the test", report.test)):
        if one := achieved.get("all"):
            facts.append((name, f"{one.alarms} false alarms of {one.recordings} (95 % interval {one.percent})"))
    if report.next_sessions:
        last = report.next_sessions[-1]
        share = f"{100 * last.strange:.0f} % of its normal recordings suspect or anomalous"
        facts.append(("next session", f"{share}, with {count_of(last.sessions, 'session')} known"))
    return facts


def _metrics(tested: Verdicts) -> dict[str, Any] | None:
    """The table of metrics: names of the systems, and rows of cells, each a value and its interval."""
    if tested.table is None or tested.table.empty:
        return None
    systems = systems_of(tested.table)
    rows: list[tuple[str, str, list[tuple[str, str]]]] = []
    for row in tested.table.to_dict("records"):
        cells = [_cell(row[name], row[f"{name} low"], row[f"{name} high"], "") for name in systems]
        rows.append((str(row["machine"]), str(row["metric"]), cells))
    if tested.differences is not None and len(tested.differences):
        of = tested.differences.set_index("system").astype(float).reindex(systems)
        ends = zip(of["difference"], of["low"], of["high"], strict=True)
        cells = [_cell(value, low, high, "+") for value, low, high in ends]
        rows.append(("", f"minus {systems[0]}", cells))
    return {"systems": systems, "rows": rows}


def _cell(value: float, low: float, high: float, sign: str) -> tuple[str, str]:
    if math.isnan(value):
        return "-", ""
    ends = "" if math.isnan(low) or math.isnan(high) else f"{low:{sign}.1f} to {high:{sign}.1f}"
    return f"{value:{sign}.1f}".replace("-", "−"), ends.replace("-", "−")


@dataclass(frozen=True)
class _Group:
    """Recordings of interest of one kind."""

    heading: str
    said: str
    hint: str
    """what the commands of each are for"""
    rows: pd.DataFrame
    """path, machine, and why: in a few words, empty if the heading says it"""
    badge: str = ""
    """of each; empty: its verdict"""
    tone: str = ""


Group = tuple[str, str, list[tuple[Card, Compare]]]
"""heading, sentence, recordings"""


def _groups(
    detector: Detector, scores: pd.DataFrame, stand_out: pd.DataFrame, known: Known, folder: Path | None
) -> list[Group]:
    """The recordings of interest: of the training what stands out, of the test what was judged wrongly."""
    first = stand_out.head(MOST_OF_TRAINING)
    missed = scores[(scores["label"] == "anomaly") & (scores["verdict"] == NORMAL)].sort_values("score")
    false = scores[(scores["label"] == "normal") & scores["verdict"].isin(STRANGE)].sort_values("score")[::-1]
    parts = [
        _Group(
            "Training recordings that stand out",
            f"{_of(len(first), len(stand_out))}A fault among them would be learned as normal.",
            "If it is a fault, label it and fit again",
            first.assign(why="among the training recordings, by its " + first["found_by"]),
        ),
        _Group(
            "Faults that were missed",
            f"{_of(MOST_OF_TEST, len(missed))}Labelled anomaly, but judged normal; those with the lowest scores first.",
            "If the label is wrong",
            missed.head(MOST_OF_TEST).assign(why=""),
            "missed fault",
            ANOMALOUS,
        ),
        _Group(
            "False alarms",
            f"{_of(MOST_OF_TEST, len(false))}Labelled normal, but judged suspect or anomalous; the strangest first.",
            "If the label is wrong",
            false.head(MOST_OF_TEST).assign(why=""),
            "false alarm",
            SUSPECT,
        ),
    ]
    place, files = count(1), known.training_files()
    groups: list[Group] = []
    for group in parts:
        found: list[tuple[Card, Compare]] = []
        for row in group.rows.to_dict("records"):
            (one,) = detector.listen([Path(row["path"])], row["machine"])
            card = _card(one, group, str(row["why"]), f"recording-{next(place)}", below(folder, one.path), known)
            found.append((card, partial(_comparison, detector, one, files)))
        if found:
            groups.append((group.heading, group.said, found))
    return groups


def _of(most: int, n: int) -> str:
    return f"{most} of {n}. " if most < n else ""


def _card(one: Heard, group: _Group, why: str, anchor: str, name: str, known: Known) -> Card:
    (row,) = pd.concat([score_table([one]), known.described([one])], axis=1).to_dict("records")
    # The label that it has needs no command.
    commands = [line for line in known.commands(one) if f"--as {row['label']}" not in line]
    card = score_card(plain(row) | {"name": shortened(name), "anchor": anchor}, commands)
    machine, *facts = card.facts
    if why:
        facts = [("stands out", why), *facts]
    if group.badge and not one.reason:
        facts.append(("verdict", card.badge))
        card = replace(card, badge=group.badge, tone=group.tone)
    return replace(card, facts=[machine, *facts], hint=group.hint)


def _comparison(detector: Detector, one: Heard, files: dict[str, tuple[Path, str]], with_sound: bool) -> Compared:
    if one.reason:
        return Compared(missing=f"It cannot be shown: {one.reason}.")
    return compared(detector, one, files, with_sound=with_sound)


def _in_page(scores: pd.DataFrame, cards: Sequence[Card], folder: Path | None) -> pd.DataFrame:
    """The scores as a timeline takes them: the name of each recording, and where in the page there is more about it."""
    names = scores["path"].map(lambda path: shortened(below(folder, Path(path))))
    anchors = {card.name: card.anchor for card in cards}
    return scores.assign(
        name=names,
        anchor=names.map(lambda name: anchors.get(name, "")),
        session=scores["session"].fillna(""),
        in_training=False,
    )
