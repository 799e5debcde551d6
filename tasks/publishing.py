"""Publishing: what Prefect and MLflow show of a scoring run, told from its files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task
from prefect.artifacts import create_link_artifact, create_table_artifact

from asdcore.heard import COLUMNS
from asdcore.plots.drift import drift_plot
from asdcore.recordings.catalog import Catalog
from asdcore.settings import RecordingSettings
from asdcore.storage.home import Home
from tasks.events import ALARM, DRIFTED, tell
from tasks.monitoring import read_history
from tasks.recordings import Ingest, ingest_recordings, machine_table
from tasks.review import champions_review
from tasks.scoring import Scored, score_recordings
from tasks.tracking import client, log_metrics, metric_name, tracked_run
from tasks.warn import warn

MOST_ROWS = 100
"""of the score table that the Prefect UI shows"""
LOGGED_UNTIL = "asd.logged_until"
"""Tag of the MLflow run: the time of the last scoring run that is in it."""
SHIFT = "shift_"
"""What the columns of the drift history begin with that hold the shift of a scorer."""


@task(name="ingest recordings")
def ingest_and_publish(
    place: Path,
    home: Home,
    settings: RecordingSettings,
    machine: str | None = None,
    arrived: Sequence[Path] | None = None,
    unlabelled: str = "normal",
    judged: bool = False,
) -> Ingest:
    """Add recordings to the table of recordings in a flow: see `ingest_recordings`.

    ``judged``: the champion looks at what would become normal training data, see `tasks.review`.
    """
    review = champions_review(home, warn) if judged else None
    done = ingest_recordings(place, home, settings, machine, arrived, unlabelled, review)
    table = machine_table(Catalog(home.recordings))
    create_table_artifact(key="recordings", table=table, description=f"Table of recordings in {home.name}")
    if done["quarantined"]:
        rows = [{"file": file, "reason": reason} for file, reason in sorted(done["quarantined"].items())]
        create_table_artifact(key="quarantine", table=rows, description=f"Quarantined at the ingest of {place}")
    return done


@task(name="score recordings")
def score_and_publish(
    home: Home, recordings: list[Path], machine: str | None, model: str, explain: bool, report: bool = False
) -> Scored:
    """Score audio files and folders in a flow: see `score_recordings` and `publish`."""
    scored = score_recordings(home, recordings, machine, model, explain, report)
    for name, sentences in scored["drift"].items():
        for sentence in sentences:
            warn(f"{name}: {sentence}")
    publish(home, scored)
    return scored


def publish(home: Home, scored: Scored) -> None:
    """Make a scoring run visible: its tables as artifacts, alarms and drift as events, drift over time in MLflow."""
    # Alarms first: nothing that fails below may hide them.
    for machine in scored["new_alarms"]:
        tell(ALARM, home, {"machine": machine, "sentence": scored["alarms"][machine]})
    for machine, sentences in scored["drift"].items():
        if sentences:
            tell(DRIFTED, home, {"machine": machine, "sentences": sentences})
    table = pd.read_parquet(scored["table"])
    highest = table.sort_values("score", ascending=False).head(MOST_ROWS)[COLUMNS].astype(object)
    create_table_artifact(
        key="scores",
        table={str(name): values.where(values.notna(), None).tolist() for name, values in highest.items()},
        description=f"Highest scores, detector version {scored['version']}; {scored['table']}",
    )
    rows: list[dict[str, Any]] = [
        {
            "machine": machine,
            "recordings": len(own),
            "not scored": int(own["score"].isna().sum()),
            "anomalous": int((own["decision"] == 1).sum()),
            "limits crossed": " ".join(scored["drift"].get(str(machine), [])),
        }
        for machine, own in table.groupby("machine", sort=False)
    ]
    create_table_artifact(key="drift", table=rows, description="Drift report of each machine in this scoring run")
    if scored["report"]:
        path = Path(scored["report"])
        said = f"Report of this scoring run: {path}"
        create_link_artifact(key="score-report", link=path.as_uri(), link_text=path.name, description=said)
    log_drift(home)
    log_report(home, scored)


def log_report(home: Home, scored: Scored) -> None:
    """Let the MLflow run ``drift over time`` keep the report of this run, the latest one, if there is one."""
    if scored["report"]:
        client(home).log_artifact(_drift_run(home), scored["report"])


def log_drift(home: Home) -> None:
    """Add the scoring runs that the MLflow run ``drift over time`` lacks, and draw it again."""
    history = read_history(home)
    if history.empty:
        return
    run = _drift_run(home)
    until, step = _logged(home, run, history["machine"].unique().tolist())
    new = history[history["at"] > until]
    if new.empty:
        return
    store = client(home)
    for at, rows in new.groupby("at"):
        step += 1
        time = pd.Timestamp(str(at))
        metrics = {name: value for row in rows.to_dict("records") for name, value in _metrics(row).items()}
        log_metrics(home, run, metrics, step, time.timestamp())
        # After each: a call that is killed does not make the next one log all of them again.
        store.set_tag(run, LOGGED_UNTIL, time.isoformat())
    store.log_figure(run, drift_plot(history), "drift.png")


def _drift_run(home: Home) -> str:
    return tracked_run(home, "drift", "drift", "drift over time")


def _logged(home: Home, run: str, machines: list[str]) -> tuple[pd.Timestamp, int]:
    """The time of the last scoring run that is in the MLflow run, and its step."""
    store = client(home)
    points = [
        point for machine in machines for point in store.get_metric_history(run, metric_name(_alarm_share(machine)))
    ]
    # Until version 0.2 there was no tag, and a point had the time when it was logged.
    last = pd.Timestamp(max((point.timestamp for point in points), default=0), unit="ms", tz="UTC")
    until = store.get_run(run).data.tags.get(LOGGED_UNTIL)
    return pd.Timestamp(until) if until else last, max((point.step for point in points), default=0)


def _metrics(row: dict[Any, Any]) -> dict[str, float]:
    """The metrics of a machine in a scoring run; NaN where there is none."""
    machine = row["machine"]
    shifts = {str(name).removeprefix(SHIFT): row[name] for name in row if str(name).startswith(SHIFT)}
    return {
        _alarm_share(machine): row["alarms"] / max(row["scored"], 1),
        f"drift/{machine}/level dBFS": float(row["level_dbfs"]),
        **{f"drift/{machine}/shift {scorer}": float(value) for scorer, value in shifts.items()},
    }


def _alarm_share(machine: str) -> str:
    return f"drift/{machine}/alarm share"
