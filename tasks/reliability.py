"""The reliability stage: how far each machine's detector can be relied on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from asdcore.encoder.metrics import collapse
from asdcore.evaluation.systems import DetectorSystem
from asdcore.features.store import Store
from asdcore.monitoring.next_session import sessions_needed
from asdcore.monitoring.reliability import Reliability, reliability_report
from asdcore.normality.machine import MachineModel, Vectors
from asdcore.plots.outcomes import reliability_plot
from asdcore.plots.reliability import qq_plot
from asdcore.plots.sessions import sessions_plot
from asdcore.progress import progress
from asdcore.recordings.sessions import groups_of
from asdcore.settings import NormalitySettings
from tasks.markdown import word
from tasks.normality import Rows, Stores
from tasks.stage import Artifact, Facts, stage


@stage("runs/reliability/{key}/")
def report_reliability(
    out: Path,
    machine: str,
    model: Artifact,
    stores: Stores,
    system: DetectorSystem,
    training: Rows,
    test: Rows,
    settings: NormalitySettings,
    of_training: Sequence[str],
) -> Facts:
    """The reliability report of one machine as JSON, and its plots. ``of_training``: what is wrong with the encoder."""
    fitted = MachineModel.read(model.path)

    def vectors(rows: Rows) -> Vectors:
        open_stores = {scorer: Store(stores[part.source].path) for scorer, part in system.scorers}
        return {
            scorer: np.stack([open_stores[scorer].read(recording, part.column) for recording, _, _ in rows])
            for scorer, part in system.scorers
        }

    report = reliability_report(
        fitted,
        vectors(training),
        [domain for _, domain, _ in training],
        settings.false_alarm_rate,
        vectors(test) if test else None,
        [domain for _, domain, _ in test],
        of_training,
        [group for _, _, group in training],
    )
    text = json.dumps(report.to_json(), indent=2, allow_nan=False)
    (out / "reliability.json").write_text(text, encoding="utf-8")
    reliability_plot(report, machine).savefig(out / f"reliability-{machine}.png", format="png", dpi=110)
    qq_plot(fitted, machine).savefig(out / f"theory-{machine}.png", format="png", dpi=110)
    if report.next_sessions:
        sessions = len({group for _, _, group in training})
        needed = sessions_needed(sessions, fitted.calibration.n_effective_, settings.false_alarm_rate)
        plot = sessions_plot(report.next_sessions, machine, settings.false_alarm_rate, needed)
        plot.savefig(out / sessions_file(machine), format="png", dpi=110)
    return {"rating": report.rating}


def sessions_file(machine: str) -> str:
    """The name of the plot of what more sessions would bring."""
    return f"sessions-{machine}.png"


def reliability_reports(
    stores: Stores,
    recordings: pd.DataFrame,
    system: DetectorSystem,
    machines: Mapping[str, Artifact],
    settings: NormalitySettings,
    history: Sequence[Mapping[str, float]],
    own_rates: Mapping[str, float],
) -> dict[str, Artifact]:
    """The folder of the reliability report of each machine: ``reliability.json``, ``reliability-<machine>.png``,
    ``theory-<machine>.png`` and, with three sessions or more, ``sessions-<machine>.png``.

    ``history``: of the encoder's training; the reports mention a collapse. ``own_rates``: of the machines that have a
    false-alarm rate of their own; the others have that of the settings.
    """
    needed = {part.source: stores[part.source] for _, part in system.scorers}
    normal = recordings[recordings["label"] == "normal"]
    reports = {}
    for machine, model in progress(sorted(machines.items()), "reliability reports"):
        rows = normal[normal["machine"] == machine]
        training, test = (
            list(zip(part["recording"], part["domain"], map(str, groups_of(part)), strict=True))
            # By name: cuts of one long recording follow each other.
            for part in (rows[rows["split"] == split].sort_values("path", kind="stable") for split in ("train", "test"))
        )
        rate = own_rates.get(machine, settings.false_alarm_rate)
        own = settings.model_copy(update={"false_alarm_rate": rate})
        reports[machine] = report_reliability(machine, model, needed, system, training, test, own, collapse(history))
    return reports


def reliability_text(reports: Mapping[str, Artifact]) -> str:
    """The sentences of reliability reports in Markdown."""
    read = {machine: read_reliability(folder) for machine, folder in reports.items()}
    lines = []
    for machine, report in read.items():
        sentences = list(report.sentences)
        if report.next_sessions:
            shares = ", ".join(f"{point.sessions}: {100 * point.strange:.0f} %" for point in report.next_sessions)
            sentences.append(
                f"Suspect or anomalous of the next session's normal recordings, by sessions known: {shares} "
                f"({sessions_file(machine)})."
            )
        lines.append(f"- **{word(machine)}**: {' '.join(sentences)}")
    return "\n".join(lines)


def reliability_metrics(reports: Mapping[str, Artifact]) -> dict[str, float]:
    """The metrics of reliability reports: ``reliability/<machine>/<metric>``."""
    metrics: dict[str, float] = {}
    for machine, folder in reports.items():
        report = read_reliability(folder)
        metrics[f"reliability/{machine}/collect"] = float(report.collect)
        for what, achieved in (("left_out", report.left_out["all"]), ("test", report.test.get("all"))):
            if achieved is not None:
                rate = achieved.alarms / achieved.recordings
                values = {"false_alarm_rate": rate, "low": achieved.low, "high": achieved.high}
                metrics |= {f"reliability/{machine}/{what}_{name}": round(value, 4) for name, value in values.items()}
    return metrics


def read_reliability(folder: Artifact) -> Reliability:
    """The reliability report of a machine."""
    return Reliability.from_json(json.loads((folder.path / "reliability.json").read_text(encoding="utf-8")))
