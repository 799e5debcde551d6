"""The report of a retraining or an enrolment: how far to trust each machine, and what to listen to and do next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from asdcore.detector import Detector
from asdcore.evaluation.table import systems_of
from asdcore.heard import Heard, clock
from asdcore.monitoring.reliability import Reliability, reliability_of
from asdcore.normality.machine import NORMAL, SUSPECT
from asdcore.normality.odds import odds
from asdcore.reports.cards import MOST_SHOWN, Card, Compare, bounded
from asdcore.reports.comparison import Compared, compared
from asdcore.reports.known import Known
from asdcore.reports.machines import STRANGE, drawn, labelled, limits, outcome, simulated_note
from asdcore.reports.page import count_of, prose, rendered, shortened
from asdcore.reports.page import score as score_text
from asdcore.reports.score import below, common_folder

MOST_OF_TRAINING, MOST_OF_TEST = 10, 5
"""recordings of interest: training recordings that stand out; faults missed and false alarms, of each"""


@dataclass(frozen=True)
class Decision:
    """Which detector is in charge now, and why."""

    sentence: str
    champion: bool
    reasons: Sequence[str] = ()
    compared: Sequence[dict[str, Any]] = ()
    """rows of `asdcore.monitoring.promotion.Judgement`"""


@dataclass(frozen=True)
class Tested:
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
    tested: Tested,
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
        decision: which detector is in charge.
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
    scores = _in_page(scores, cards, groups, folder)
    filled = iter(cards)
    simulated = known.rows.loc[known.rows["machine"].isin(list(machines)), "attributes"].str.contains('"simulated"')
    return rendered(
        "fitted.html",
        title=title,
        about=about,
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
    about = detector.about.get("enrolled", {}).get(machine, detector.about)
    return {
        "name": machine,
        "badge": report.rating if report else "unknown",
        "tone": NORMAL if report and report.rating == "reliable" else SUSPECT,
        "sentences": report.sentences if report else ["There is no reliability report."],
        "outcome": outcome(rows, rate),
        "learnt_from_simulated": bool(about.get("simulated")),
        "facts": _facts(report) if report else [],
        **drawn(machine, rows, limits(detector, machine)),
    }


def _facts(report: Reliability) -> list[tuple[str, str]]:
    domains = ", ".join(f"{n} {name}" for name, n in report.domains.items())
    sessions = f" of {count_of(report.sessions, 'session')}" if report.sessions else ""
    facts = [
        ("fitted on", f"{report.n} normal recordings{sessions} ({domains})"),
        ("false alarms asked", f"{100 * report.asked:g} %"),
    ]
    for name, achieved in (("left out", report.left_out), ("normal test recordings", report.test)):
        if one := achieved.get("all"):
            facts.append((name, f"{one.alarms} false alarms of {one.recordings} (95 % interval {one.percent})"))
    if report.next_sessions:
        last = report.next_sessions[-1]
        share = f"{100 * last.strange:.0f} % of its normal recordings suspect or anomalous"
        facts.append(("next session", f"{share}, with {count_of(last.sessions, 'session')} known"))
    return facts


def _metrics(tested: Tested) -> dict[str, Any] | None:
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


Group = tuple[str, str, list[tuple[Card, Compare]]]
"""heading, sentence, recordings"""


def _groups(
    detector: Detector, scores: pd.DataFrame, stand_out: pd.DataFrame, known: Known, folder: Path | None
) -> list[Group]:
    """The recordings of interest: of the training what stands out, of the test what was judged wrongly."""
    first = stand_out.head(MOST_OF_TRAINING)
    faulty, strange = scores["label"] == "anomaly", scores["verdict"].isin(STRANGE)
    missed = scores[faulty & (scores["verdict"] == NORMAL)].sort_values("score")
    false = scores[(scores["label"] == "normal") & strange].sort_values("score", ascending=False)
    found_by = [f"by its {name}, among the training recordings" for name in first["found_by"]]
    parts = [
        (
            "Training recordings that stand out",
            f"{_of(first, len(stand_out))}Nothing says that they are faults, but a fault would be learned as normal.",
            first.assign(why=found_by),
            "If it is a fault, label it, and fit again",
        ),
        (
            "Faults that were missed",
            f"{_of(missed.head(MOST_OF_TEST), len(missed))}Labelled anomaly, and judged normal; the best hidden first.",
            missed.head(MOST_OF_TEST).assign(why=""),
            "If the label is wrong",
        ),
        (
            "False alarms",
            f"{_of(false.head(MOST_OF_TEST), len(false))}Labelled normal, and not judged normal; the strangest first.",
            false.head(MOST_OF_TEST).assign(why=""),
            "If the label is wrong",
        ),
    ]
    groups: list[Group] = []
    place, files = 0, known.training_files()
    for heading, said, rows, hint in parts:
        found: list[tuple[Card, Compare]] = []
        for row in rows.to_dict("records"):
            place += 1
            (one,) = detector.listen([Path(row["path"])], row["machine"])
            card = _card(one, f"recording-{place}", below(folder, one.path), str(row["why"]), known, hint)
            found.append((card, partial(_comparison, detector, one, files)))
        if found:
            groups.append((heading, said, found))
    assert place <= MOST_SHOWN
    return groups


def _of(shown: pd.DataFrame, count: int) -> str:
    return f"{len(shown)} of {count}. " if len(shown) < count else ""


def _card(one: Heard, anchor: str, name: str, why: str, known: Known, hint: str) -> Card:
    (described,) = known.described([one]).to_dict("records")
    facts = [("machine", one.machine), *([("stands out", why)] if why else [])]
    if not one.reason:
        verdict = one.verdict
        facts.append(
            ("score", f"{score_text(verdict['score'])}. {prose(odds(verdict['p_value'], verdict['verdict']))}")
        )
    if described["session"]:
        facts.append(("session", str(described["session"])))
    if described["label"] != "unknown":
        facts.append(("labelled", str(described["label"])))
    if len(one.clips) > 1:
        facts.append(("strangest", f"at {clock(one.starts()[one.strangest])}, of {len(one.clips)} clips"))
    if not one.reason and one.verdict["in_training"]:
        facts.append(("in training", "the detector was fitted on it; this is the verdict of a model without it"))
    badge = "not readable" if one.reason else str(one.verdict["verdict"])
    # The label that it has needs no command.
    commands = [line for line in known.commands(one) if not line.startswith("asd label") or _changes(line, described)]
    return Card(anchor, shortened(name), badge, badge if not one.reason else SUSPECT, facts, hint, commands)


def _changes(command: str, described: dict[Any, Any]) -> bool:
    return f"--as {described['label']}" not in command


def _comparison(detector: Detector, one: Heard, files: dict[str, tuple[Path, str]], with_sound: bool) -> Compared:
    if one.reason:
        return Compared(missing=f"It cannot be shown: {one.reason}.")
    return compared(detector, one, files, with_sound=with_sound)


def _in_page(scores: pd.DataFrame, cards: Sequence[Card], groups: Sequence[Group], folder: Path | None) -> pd.DataFrame:
    """The scores as a timeline takes them: the name of each recording, and where in the page there is more about it."""
    names = scores["path"].map(lambda path: shortened(below(folder, Path(path))))
    anchors = {card.name: card.anchor for card in cards}
    return scores.assign(
        name=names,
        anchor=names.map(lambda name: anchors.get(name, "")),
        session=scores["session"].fillna(""),
        in_training=False,
    )
