"""The reports of a retraining and of an enrolment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from asdcore.detector import Detector
from asdcore.evaluation.scores import scores_of_heard
from asdcore.evaluation.systems import DETECTOR
from asdcore.evaluation.table import differences, labelled, results_table
from asdcore.monitoring.reliability import reliability_of
from asdcore.storage.home import Home
from tasks.evaluation import Evaluation, read_tables
from tasks.reports import known, written
from tasks.screening import StandOut

if TYPE_CHECKING:
    from asdcore.reports.fitted import Step, Verdicts
    from asdcore.reports.known import Known

MOST_HEARD = 200
"""test recordings that an enrolment listens to for its report"""


def retraining_report(
    home: Home,
    detector: Detector,
    version: str,
    champion: str,
    judged: Mapping[str, Any] | None,
    result: Evaluation,
    system: str,
    stand_out: Sequence[StandOut],
) -> str:
    """Write the report of a retraining; return its path.

    Args:
        home: at work.
        detector: the registered one.
        version: of it.
        champion: the version that is the champion now.
        judged: by the gate; None: there was nothing to compare with.
        result: of the evaluation.
        system: that gives the scores of the detector.
        stand_out: training recordings to listen to.
    """

    def page() -> str:
        from asdcore.reports.fitted import Decision, Verdicts, fitted_report

        own = version == champion
        sentence = f"Version {version} is the champion"
        if not own:
            sentence = f"Version {version} was not promoted: version {champion} stays the champion"
        decision = Decision(sentence, own, (judged or {}).get("reasons", ()), (judged or {}).get("compared") or ())
        scores = pd.read_parquet(home.root / result["scores"])
        scores = scores[scores["system"] == system].sort_values(["machine", "session", "path"], kind="stable")
        scores = scores.assign(verdict=scores["verdict"].fillna(""))
        table, compared = read_tables(result)
        machines = sorted(detector.machines)
        steps = _steps(detector, machines, stand_out, "asd retrain", home.option, labelled=table is not None)
        steps += _of_version(version, champion=own, option=home.option)
        return fitted_report(
            detector,
            machines,
            known(home),
            decision,
            Verdicts(scores, table, compared),
            _rows(stand_out),
            steps,
            title=f"Retraining: detector version {version}",
            about=[f"Machines: {', '.join(machines)}"],
        )

    return written(_retraining_page(home, version), page)


def kept_report(home: Home, version: str) -> str:
    """The path of the report of a retraining of before; empty if it was deleted. MLflow keeps it, too."""
    page = _retraining_page(home, version)
    return str(page) if page.exists() else ""


def _retraining_page(home: Home, version: str) -> Path:
    return home.reports / f"retrain-version-{version}.html"


def enrolment_report(
    home: Home, folder: Path, machine: str, version: str, champion: str, stand_out: Sequence[StandOut]
) -> str:
    """Write the report of the enrolment of a machine; return its path. It listens to the labelled test recordings.

    Args:
        home: at work.
        folder: of the detector with the machine.
        machine: that was enrolled.
        version: of the detector.
        champion: the version that is the champion now.
        stand_out: training recordings to listen to.
    """

    def page() -> str:
        from asdcore.reports.fitted import Decision, fitted_report

        detector, own = Detector.load(folder), version == champion
        sentence = f"Version {version} includes {machine} and is the champion"
        if not own:
            sentence = f"Version {version} includes {machine}; version {champion} stays the champion"
        table = known(home)
        tested = _heard(detector, machine, table)
        again, option = f"asd enroll {machine}", home.option
        steps = _steps(detector, [machine], stand_out, again, option, labelled=tested.table is not None)
        steps += _of_version(version, champion=own, option=option)
        return fitted_report(
            detector,
            [machine],
            table,
            Decision(sentence, own),
            tested,
            _rows(stand_out),
            steps,
            title=f"Enrolment of {machine}",
            about=[f"Detector version {version}"],
        )

    return written(home.reports / f"enroll-version-{version}.html", page)


def _heard(detector: Detector, machine: str, table: "Known") -> "Verdicts":
    """What the detector makes of the test recordings of a machine whose labels are known."""
    from asdcore.reports.fitted import Verdicts

    rows = table.rows.reset_index()
    rows = rows[(rows["machine"] == machine) & (rows["split"] == "test") & rows["label"].isin(["normal", "anomaly"])]
    rows = rows.sort_values(["session", "path"], kind="stable")
    note = ""
    if len(rows) > MOST_HEARD:
        note = f"{MOST_HEARD} of {len(rows):,} test recordings, evenly spread."
        rows = rows.iloc[np.linspace(0, len(rows) - 1, MOST_HEARD).round().astype(int)]
    heard = list(detector.listen(rows["path"], machine))
    scored = [not one.reason for one in heard]
    if not any(scored):
        return Verdicts()
    scores = scores_of_heard(detector, [one for one in heard if not one.reason], rows[scored].reset_index(drop=True))
    usable = {name: labelled(own[np.isfinite(own["score"])]) for name, own in scores.items()}
    if len({len(own) for own in usable.values()}) > 1 or usable[DETECTOR].empty:
        return Verdicts(scores[DETECTOR], note=note)  # An infinite score has no metrics.
    return Verdicts(scores[DETECTOR], results_table(usable), differences(usable), note)


def _rows(stand_out: Sequence[StandOut]) -> pd.DataFrame:
    rows = [(path, own["machine"], found_by) for own in stand_out for path, found_by in own["first"]]
    return pd.DataFrame(rows, columns=["path", "machine", "found_by"])


def _steps(
    detector: Detector,
    machines: Sequence[str],
    stand_out: Sequence[StandOut],
    again: str,
    option: str,
    *,
    labelled: bool,
) -> "list[Step]":
    """What to do about the recordings. ``again``: the command that fits them again."""
    from asdcore.reports.fitted import Step

    again, ingest = f"{again} {option}".rstrip(), f"asd ingest FOLDER {option}".rstrip()
    steps: list[Step] = []
    if n := sum(own["count"] for own in stand_out):
        which = f"the {n} training recordings that stand out, below. If one"
        which = which if n > 1 else "the training recording that stands out, below. If it"
        steps.append(Step(f"Listen to {which} is a fault, label it, and fit again:", again))
    few = [name for name in machines if (report := reliability_of(detector, name)) and report.collect]
    if few:
        until = "strange recordings are suspect at most until then"
        collect = f"Collect more normal recordings of {', '.join(few)}, on other days: {until}."
        steps.append(Step(f"{collect} Ingest them, and fit again:", f"{ingest} && {again}"))
    if not labelled:
        known = "If you have recordings of faults, list them in a manifest with the split test and the label anomaly"
        steps.append(Step(f"{known}: the next report says which of them are caught."))
    return steps


def _of_version(version: str, *, champion: bool, option: str) -> "list[Step]":
    from asdcore.reports.fitted import Step

    if champion:
        return [Step("Score new recordings:", f"asd score FOLDER {option}".strip())]
    return [Step("If you know better than the gate, make it the champion:", f"asd promote {version} {option}".strip())]
