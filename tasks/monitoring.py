"""Drift monitoring: what a scoring run says of each machine, and the history of that."""

from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from asdcore.detector import Detector
from asdcore.features.store import Store
from asdcore.heard import Heard
from asdcore.monitoring.drift import DriftReport, drift_report
from asdcore.monitoring.enrolment_checks import enrolment_checks
from asdcore.progress import say
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.training import training_recordings
from asdcore.settings import Settings
from asdcore.storage.files import atomic_write, listed, may_be_damaged, set_aside
from asdcore.storage.home import Home

if TYPE_CHECKING:
    from tasks.stage import Artifact

RENAMED = {"target_share": "target_fraction"}
"""columns of files of version 0.1"""
MOST_RUNS = 200
"""scoring runs that the plot shows"""
NEEDED = (
    "at",
    "machine",
    "recordings",
    "not_scored",
    "scored",
    "alarms",
    "asked",
    "alarms_low",
    "level_dbfs",
    "drifted",
)
"""columns that every drift report has"""


def examined(home: Home, detector: Detector, version: str, heard: list[Heard]) -> list[DriftReport]:
    """Judge whether each machine of a scoring run still sounds as it did in training, and keep that."""
    catalog = training_recordings(Catalog(home.recordings).recordings)
    machines = list(dict.fromkeys(one.machine for one in heard))
    before, newest = _last_reports(home, machines)
    reports = []
    for machine in machines:
        own = [one for one in heard if one.machine == machine]
        trained = catalog[catalog["machine"] == machine]
        reports.append(
            drift_report(
                own,
                detector.machines[machine],
                detector.threshold_of(machine).false_alarm_rate,
                trained,
                before.get(machine),
            )
        )
    _keep(home, reports, version, newest)
    return reports


def read_history(home: Home, after: pd.Timestamp | None = None) -> pd.DataFrame:
    """One row per machine and run, oldest first: of the latest `MOST_RUNS` runs, or of all runs ``after`` a time."""
    tables = [table for file in _files(home, after) if (table := _read(file)) is not None]
    history = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return history if after is None or history.empty else history[history["at"] > after].reset_index(drop=True)


def _files(home: Home, after: pd.Timestamp | None = None) -> list[Path]:
    """Those of the latest runs, or of all runs since a time, oldest first."""
    # Until version 0.2 the files were called health-; their time is in the rest of the name.
    files = listed(home.scores, "health-*.parquet") + listed(home.scores, "drift-*.parquet")
    if after is None:
        return files[-MOST_RUNS:]
    return [file for file in files if file.stem.partition("-")[2] >= f"{after:%Y%m%dT%H%M%S}"]


def _read(file: Path) -> pd.DataFrame | None:
    """A drift report; None if it cannot be read: no run may fail for an earlier one. Damaged ones are set aside."""
    try:
        table = pd.read_parquet(file).rename(columns=RENAMED)
        if missing := sorted({*NEEDED} - {*table.columns}):
            raise ValueError(f"it has no {', '.join(missing)}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if not may_be_damaged(error):
            say(f"{file} could not be read, so drift is reported without it: {error}")
            return None
        say(f"{file} is damaged ({error}): it was set aside as {set_aside(file).name}; drift is reported without it")
        return None
    return table


def _last_reports(home: Home, machines: Sequence[str]) -> tuple[dict[str, DriftReport], pd.Timestamp | None]:
    """The latest report of each of these machines that has one, and the time of the latest run."""
    reports: dict[str, DriftReport] = {}
    newest: pd.Timestamp | None = None
    for file in reversed(_files(home)):
        if (table := _read(file)) is None:
            continue
        newest = table["at"].max() if newest is None else newest
        for machine in set(machines) - reports.keys():
            own = table[table["machine"] == machine]
            if len(own):
                reports[machine] = _report(own.iloc[-1])
        if reports.keys() == set(machines):
            break
    return reports, newest


def _report(row: pd.Series) -> DriftReport:
    names = {name: row[name] for name in ("machine", "recordings", "not_scored", "alarms", "asked", "alarms_low")}
    level = None if pd.isna(row["level_dbfs"]) else float(row["level_dbfs"])
    return DriftReport(
        **names, uniform=None, shift={}, target_fraction=None, level_dbfs=level, clipped=None, seconds=None
    )


def _keep(home: Home, reports: list[DriftReport], version: str, newest: pd.Timestamp | None) -> None:
    # A clock that was set back would sort this run before the others, and at last out of those that are read.
    now = pd.Timestamp.now(UTC)
    if newest is not None:
        now = max(now, newest + pd.Timedelta(microseconds=1))
    rows = [
        report.to_json()
        | {"scored": report.recordings - report.not_scored, "drifted": report.drifted, "at": now, "detector": version}
        | {f"shift_{scorer}": report.shift.get(scorer) for scorer in ("embedding", "spectrum", *report.shift)}
        for report in reports
    ]
    table = pd.DataFrame(rows).drop(columns="shift")
    shifts = [name for name in map(str, table) if name.startswith("shift_")]
    floats = [*shifts, "uniform", "target_fraction", "level_dbfs", "clipped", "seconds"]
    table[floats] = table[floats].astype(float)
    # Names of two runs in one second differ by the clock's last digits.
    with atomic_write(home.scores / f"drift-{now:%Y%m%dT%H%M%S%f}.parquet") as temporary:
        table.to_parquet(temporary)


def failed_enrolment_checks(statistics: "Artifact", recordings: pd.DataFrame, settings: Settings) -> list[str]:
    """Reasons why these recordings may not be the normal sound of one machine; see `enrolment_checks`."""
    training = training_recordings(recordings)
    store = Store(statistics.path)
    vectors = np.stack([store.read(recording, "mean_and_deviation") for recording in training["recording"]])
    frames = training["seconds"] * settings.recordings.sample_rate / settings.mel.hop_length
    return enrolment_checks(vectors, training["domain"].tolist(), frames.tolist())
