"""Drift monitoring: what a scoring run says of each machine, kept and drawn over time."""

from datetime import UTC
from typing import Any

import numpy as np
import pandas as pd
from prefect.artifacts import create_table_artifact

from asdcore.detector import Detector
from asdcore.features.store import Store
from asdcore.heard import Heard
from asdcore.monitoring.drift import DriftReport, drift_report
from asdcore.monitoring.enrolment_checks import enrolment_checks
from asdcore.plots.drift import drift_plot
from asdcore.recordings.catalog import Catalog, training_recordings
from asdcore.settings import Settings
from asdcore.storage.files import atomic_write
from asdcore.storage.home import Home
from tasks.events import DRIFTED, tell
from tasks.stage import Artifact
from tasks.tracking import client, log_metrics, tracked_run
from tasks.warn import warn

RENAMED = {"target_share": "target_fraction"}
"""columns of files of version 0.1"""
MOST_RUNS = 200
"""scoring runs that the plot shows and the level is compared over"""


def examined(home: Home, detector: Detector, version: str, heard: list[Heard]) -> list[DriftReport]:
    """Judge the health of each machine of a scoring run; keep it, show it, and tell of what crossed a limit."""
    catalog = training_recordings(Catalog(home.recordings).recordings)
    history = read_history(home)
    reports = []
    for machine in dict.fromkeys(one.machine for one in heard):
        own = [one for one in heard if one.machine == machine]
        trained = catalog[catalog["machine"] == machine]
        reports.append(
            drift_report(
                own,
                detector.machines[machine],
                detector.threshold_of(machine).false_alarm_rate,
                trained,
                _last(history, machine),
            )
        )
    history = pd.concat([history, _kept(home, reports, version, history)], ignore_index=True)
    _publish(home, reports, history)
    for report in reports:
        for sentence in report.sentences:
            warn(f"{report.machine}: {sentence}")
        if report.drifted:
            tell(DRIFTED, home, {"machine": report.machine, "sentences": report.sentences})
    return reports


def read_history(home: Home) -> pd.DataFrame:
    """One row per machine and run: the latest runs, oldest first."""
    # Until version 0.2 the files were called health-; their time is in the rest of the name.
    files = sorted(home.scores.glob("health-*.parquet")) + sorted(home.scores.glob("drift-*.parquet"))
    tables = [pd.read_parquet(file).rename(columns=RENAMED) for file in files[-MOST_RUNS:]]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _kept(home: Home, reports: list[DriftReport], version: str, history: pd.DataFrame) -> pd.DataFrame:
    # A clock that was set back would sort this run before the others, and at last out of those that are read.
    now = max([pd.Timestamp.now(UTC), *(history["at"] + pd.Timedelta(microseconds=1) if len(history) else [])])
    rows = [
        report.to_json()
        | {"scored": report.recordings - report.not_scored, "drifted": report.drifted, "at": now, "detector": version}
        | {f"shift_{scorer}": report.shift.get(scorer) for scorer in ("embedding", "spectrum")}
        for report in reports
    ]
    table = pd.DataFrame(rows).drop(columns="shift")
    floats = ["shift_embedding", "shift_spectrum", "uniform", "target_fraction", "level_dbfs", "clipped", "seconds"]
    table[floats] = table[floats].astype(float)
    # Names of two runs in one second differ by the clock's last digits.
    with atomic_write(home.scores / f"drift-{now:%Y%m%dT%H%M%S%f}.parquet") as temporary:
        table.to_parquet(temporary)
    return table


def _last(history: pd.DataFrame, machine: str) -> DriftReport | None:
    own = history[history["machine"] == machine] if len(history) else history
    if own.empty:
        return None
    row = own.iloc[-1]
    names = {name: row[name] for name in ("machine", "recordings", "not_scored", "alarms", "asked", "alarms_low")}
    level = None if pd.isna(row["level_dbfs"]) else float(row["level_dbfs"])
    return DriftReport(
        **names, uniform=None, shift={}, target_fraction=None, level_dbfs=level, clipped=None, seconds=None
    )


def _publish(home: Home, reports: list[DriftReport], history: pd.DataFrame) -> None:
    rows: list[dict[str, Any]] = [
        {
            "machine": report.machine,
            "recordings": report.recordings,
            "not scored": report.not_scored,
            "anomalous": report.alarms,
            "limits crossed": " ".join(report.sentences),
        }
        for report in reports
    ]
    create_table_artifact(key="drift", table=rows, description="Drift report of each machine in this scoring run")
    run = tracked_run(home, "drift", "drift", "drift over time")
    step = history["at"].nunique()
    metrics = {}
    for report in reports:
        scored = max(report.recordings - report.not_scored, 1)
        metrics[f"drift/{report.machine}/alarm share"] = report.alarms / scored
        metrics |= {f"drift/{report.machine}/shift {scorer}": value for scorer, value in report.shift.items()}
        if report.level_dbfs is not None:
            metrics[f"drift/{report.machine}/level dBFS"] = report.level_dbfs
    log_metrics(home, run, metrics, step)
    client(home).log_figure(run, drift_plot(history), "drift.png")


def failed_enrolment_checks(statistics: Artifact, recordings: pd.DataFrame, settings: Settings) -> list[str]:
    """Reasons why these recordings may not be the normal sound of one machine; see `enrolment_checks`."""
    training = training_recordings(recordings)
    store = Store(statistics.path)
    vectors = np.stack([store.read(recording, "mean_and_deviation") for recording in training["recording"]])
    frames = training["seconds"] * settings.recordings.sample_rate / settings.mel.hop_length
    return enrolment_checks(vectors, training["domain"].tolist(), frames.tolist())
