"""Publishing: what Prefect and MLflow show of a scoring run, read from its files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Metric, RunTag
from prefect import task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.runtime import task_run

from asdcore.normality.machine import ANOMALOUS, SUSPECT
from asdcore.plots.drift import drift_plot
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.listing import summed_up
from asdcore.settings import RecordingSettings
from asdcore.storage.files import digest_of
from asdcore.storage.home import Home
from tasks.events import ALARM, DRIFTED, tell
from tasks.markdown import code, word
from tasks.monitoring import read_history
from tasks.notification import notified
from tasks.recordings import Ingest, ingest_recordings, machine_table
from tasks.review import champions_review
from tasks.run_names import counted, named, subject
from tasks.scoring import Scored, not_enrolled_sentences, score_recordings
from tasks.tracking import client, describe, metric_name, metrics_of, tracked_run
from tasks.warn import warn

MOST_ROWS = 100
"""of the score table that the Prefect UI shows"""
LOGGED_UNTIL = "asd.logged_until"
"""Tag of the MLflow run: the time of the last scoring run that is in it."""
LOGGED_SINCE = "asd.logged_since"
"""Tag of the MLflow run: the time of the first one; a step is the minutes since then."""
LOGGED_STEP = "asd.logged_step"
"""Tag of the MLflow run: the last step."""
MOST_POINTS = 1000
"""that MLflow takes in one call"""
SHIFT = "shift_"
"""What the columns of the drift history begin with that hold the shift of a scorer."""


@task(name="ingest recordings", task_run_name="ingest {place.name}")
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
        create_table_artifact(
            key="quarantine", table=rows, description=f"Quarantined at the ingest of {code(str(place))}"
        )
    return done


def _task_run_name() -> str:
    return f"score {subject(task_run.parameters)}"


@task(name="score recordings", task_run_name=_task_run_name)
def score_and_publish(
    home: Home, recordings: list[Path], machine: str | None, model: str, explain: bool, report: bool = False
) -> Scored:
    """Score audio files and folders in a flow: see `score_recordings` and `publish`."""
    scored = score_recordings(home, recordings, machine, model, explain, report)
    for name, sentences in scored["drift"].items():
        for sentence in sentences:
            warn(f"{name}: {sentence}")
    for line in [*not_enrolled_sentences(scored["not_enrolled"]), *summed_up(scored["left_out"])]:
        warn(f"not scored: {line}")
    notified(home)
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
    create_table_artifact(
        key="scores",
        table=_shown(table.sort_values("score", ascending=False).head(MOST_ROWS)),
        description=f"**{summary(scored)}**, by detector version {scored['version']}. "
        f"{'The highest scores' if len(table) > MOST_ROWS else 'Highest scores first'}; all: {code(scored['table'])}",
    )
    rows: list[dict[str, Any]] = [
        {
            "verdict": "limit exceeded" if scored["drift"].get(str(machine)) else "within limits",
            "machine": machine,
            "anomalous": int((own["verdict"] == ANOMALOUS).sum()),
            "suspect": int((own["verdict"] == SUSPECT).sum()),
            "recordings": len(own),
            "not scored": int(own["score"].isna().sum()),
            "limits exceeded": " ".join(scored["drift"].get(str(machine), [])),
        }
        for machine, own in table.groupby("machine", sort=False)
    ]
    create_table_artifact(key="drift", table=rows, description=_drift_sentence(scored))
    link_report("score-report", scored["report"])
    log_drift(home)
    log_report(home, scored["report"])


def _shown(table: pd.DataFrame) -> dict[str, list[Any]]:
    """A score table for people: the verdict first, numbers with two digits."""
    order = ["verdict", "machine", "path", "score", "p_value", "triggered_by", "strangest_at", "reason"]
    shown = table[order].assign(
        score=table["score"].round(2),
        p_value=table["p_value"].map(lambda value: float(f"{value:.2g}")),
        strangest_at=table["strangest_at"].round(2),
    )
    shown = shown.astype(object).rename(columns={"p_value": "p-value", "triggered_by": "triggered by"})
    shown = shown.rename(columns={"strangest_at": "strangest at (s)"})
    return {str(name): values.where(values.notna(), None).tolist() for name, values in shown.items()}


def _drift_sentence(scored: Scored) -> str:
    drifted = [machine for machine, sentences in scored["drift"].items() if sentences]
    return f"**Limit exceeded: {word(named(drifted))}**" if drifted else "No machine exceeds a limit"


def summary(scored: Scored) -> str:
    """A scoring run in a few words: its alarms first."""
    alarm = f"alarm for {named(scored['alarms'])}; " if scored["alarms"] else ""
    suspect = f", {scored['suspect']} suspect" if scored["suspect"] else ""
    failed = f", {scored['failed']} not scored" if scored["failed"] else ""
    return f"{alarm}{scored['anomalous']} of {counted(scored['scored'], 'recording')} anomalous{suspect}{failed}"


def publish_report(home: Home, run: str, key: str, page: str) -> None:
    """Let an MLflow run keep a report and the Prefect UI link it. ``page``: its HTML file; empty: there is none."""
    link_report(key, page)
    if page:
        client(home).log_artifact(run, page)


def link_report(key: str, page: str) -> None:
    """Link a report in the Prefect UI, from the flow run that this is called in."""
    if page:
        path = Path(page)
        create_link_artifact(key=key, link=path.as_uri(), link_text=path.name, description=f"Report: {path}")


def log_report(home: Home, page: str) -> None:
    """Let the MLflow run ``drift over time`` keep a report of scores, the latest one, if there is one."""
    if page:
        client(home).log_artifact(_drift_run(home), page)


def log_drift(home: Home) -> None:
    """Add the scoring runs that the MLflow run ``drift over time`` lacks, and draw it again."""
    history = read_history(home)
    if history.empty:
        return
    run = _drift_run(home)
    store = client(home)
    until, since, step = _logged(home, run, history)
    new = read_history(home, until)
    if new.empty:
        return
    since = new["at"].min() if since is None else since
    waiting: list[Metric] = []
    runs = [(pd.Timestamp(str(at)), rows) for at, rows in new.groupby("at")]
    for number, (time, rows) in enumerate(runs, start=1):
        metrics = {name: value for row in rows.to_dict("records") for name, value in _metrics(row).items()}
        # A chart of MLflow is drawn against the step: so that is time. Each run has one of its own, whatever the clock
        # says: MLflow keeps equal points once.
        step = max(int((time - since).total_seconds() // 60), step + 1)
        waiting += metrics_of(metrics, step, time.timestamp())
        if len(waiting) < MOST_POINTS and number < len(runs):
            continue
        for start in range(0, len(waiting), MOST_POINTS):
            store.log_batch(run, metrics=waiting[start : start + MOST_POINTS])
        waiting = []
        # After each batch: a call that is killed does not make the next one log all of them again.
        logged = {LOGGED_SINCE: since.isoformat(), LOGGED_UNTIL: time.isoformat(), LOGGED_STEP: str(step)}
        store.log_batch(run, tags=[RunTag(name, value) for name, value in logged.items()])
    store.log_figure(run, drift_plot(history), "drift.png")
    latest = history[history["at"] == history["at"].max()]
    crossed = sorted(latest.loc[latest["drifted"], "machine"])
    said = f"a limit was exceeded by {', '.join(crossed)}" if crossed else "no machine exceeded a limit"
    axis = f" Steps are minutes since {since:%Y-%m-%d %H:%M} UTC."
    describe(home, run, f"In the latest scoring run, {history['at'].max():%Y-%m-%d %H:%M} UTC, {said}.{axis}")


def _drift_run(home: Home) -> str:
    """Of each home one: several may share an MLflow server."""
    if home.mlflow_uri == home.own_mlflow_uri:
        return tracked_run(home, "drift", "drift", "drift over time")
    return tracked_run(home, "drift", f"drift {digest_of(home.name)}", f"drift over time, {home.name}")


def _logged(home: Home, run: str, history: pd.DataFrame) -> tuple[pd.Timestamp, pd.Timestamp | None, int]:
    """The times of the last scoring run that is in the MLflow run, and of the first one; and the last step."""
    tags = client(home).get_run(run).data.tags
    until, since = tags.get(LOGGED_UNTIL), tags.get(LOGGED_SINCE)
    last = pd.Timestamp(until) if until else _logged_before_tags(home, run, history["machine"].unique().tolist())
    return last, pd.Timestamp(since) if since else None, int(tags.get(LOGGED_STEP, -1))


def _logged_before_tags(home: Home, run: str, machines: list[str]) -> pd.Timestamp:
    """The same as `LOGGED_UNTIL` in a run of version 0.1: a point had the time when it was logged."""
    names = [metric_name(f"drift/{machine}/alarm share") for machine in machines]
    points = [point for name in names for point in client(home).get_metric_history(run, name)]
    return pd.Timestamp(max((point.timestamp for point in points), default=0), unit="ms", tz="UTC")


def _metrics(row: dict[Any, Any]) -> dict[str, float]:
    """The metrics of a machine in a scoring run; NaN where there is none."""
    machine = row["machine"]
    shifts = {str(name).removeprefix(SHIFT): row[name] for name in row if str(name).startswith(SHIFT)}
    return {
        f"drift/{machine}/alarm_share": round(row["alarms"] / max(row["scored"], 1), 4),
        f"drift/{machine}/level_dbfs": round(float(row["level_dbfs"]), 2),
        **{f"drift/{machine}/shift_{scorer}": round(float(value), 4) for scorer, value in shifts.items()},
    }
