"""MLflow runs: one for each retraining, continued by a retraining that resumes after a kill."""

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Metric
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from asdcore.encoder.frozen import training_history
from asdcore.encoder.metrics import collapse
from asdcore.settings import NormalitySettings, Settings
from asdcore.storage.files import digest_of
from asdcore.storage.home import Home
from tasks.metrics import OUTCOMES, headline_metrics, machine_table, table_metrics
from tasks.mlflow_store import SERVERS, StoreClient
from tasks.stage import stage

EXPERIMENT = "asd"
MACHINES = "machines.json"
"""Artifact of a run: the table with one row per machine."""


def client(home: Home) -> StoreClient:
    """A client of the store of this home, or of ``MLFLOW_TRACKING_URI``.

    Raises:
        NoAnswerError: the store does not answer.
    """
    home.root.mkdir(parents=True, exist_ok=True)
    uri, given = home.mlflow_uri, os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    if given is None:
        # MLflow has just set it, and the next home of this process would take it for the user's setting.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    return StoreClient(home)


def retraining_key(training: str, normality: NormalitySettings, data: str) -> str:
    """What makes two retrainings the same: the encoder's key, the normality settings, the recordings."""
    return digest_of(training, normality.digest(), data)


def benchmark_key(systems: list[str], settings: Settings, data: str, published: bool, official: str) -> str:
    """What makes two benchmarks the same: systems in their order, settings, recordings, what the official score is."""
    return digest_of(*systems, settings.digest(), data, str(published), official)


def tracked_run(home: Home, kind: str, key: str, name: str) -> str:
    """The id of the MLflow run of the retraining or benchmark ``key``; it is opened if there is none."""
    store = client(home)
    # An MLflow server knows where its artifacts go; with a database alone they would go to the working directory.
    location = None if home.mlflow_uri.startswith(SERVERS) else home.artifacts
    experiment = store.get_experiment_by_name(EXPERIMENT)
    title = EXPERIMENT
    if experiment is not None and location not in (None, experiment.artifact_location):
        # The home was moved. MLflow keeps absolute paths: continuing would write to the old location.
        title = f"{EXPERIMENT} {digest_of(str(location))[:6]}"
        experiment = store.get_experiment_by_name(title)
    if experiment is None:
        identifier = store.create_experiment(title, artifact_location=location)
    else:
        identifier = experiment.experiment_id
    runs = store.search_runs([identifier], f"tags.`asd.{kind}` = '{key}'", max_results=1)
    if runs:
        return str(runs[0].info.run_id)
    return str(store.create_run(identifier, run_name=name, tags={f"asd.{kind}": key}).info.run_id)


@stage(None, uncounted=("encoder", "folder"), retries=3, retry_delay_seconds=[2, 10, 30])
def log_evaluation(
    out: Path,
    registry: str,
    run: str,
    settings: Settings,
    encoder: str | None,
    folder: str,
    table: str | None,
    report: str,
    fits: dict[str, float],
) -> None:
    """Fill the MLflow run of a retraining or benchmark; existing entries are not changed.

    Settings, metrics by epoch and by machine, plots, tables and scores. ``folder`` and ``table``: of an evaluation,
    relative to the home; ``fits``: further metrics.
    """
    home = Home.current()
    store = client(home)
    log_parameters(home, run, settings.model_dump(mode="json"))
    results = pd.read_parquet(home.root / table) if table else None
    counted = pd.read_parquet(home.root / folder / OUTCOMES)
    log_metrics(home, run, headline_metrics(results, counted))
    if results is not None:
        log_metrics(home, run, table_metrics(results))
    log_metrics(home, run, fits)
    if encoder is not None:
        log_encoder(home, run, Path(encoder))
    log_machine_table(home, run, machine_table(results, counted))
    for path in sorted((home.root / folder).iterdir()):
        store.log_artifact(run, str(path), "evaluation")
    store.log_text(run, report, "evaluation/report.md")
    store.set_terminated(run)


def log_reliability(home: Home, run: str, reports: dict[str, Path]) -> None:
    """Log the reliability report and its plot of each machine (name: folder) in the MLflow run."""
    store = client(home)
    for machine, folder in reports.items():
        for path in sorted(folder.iterdir()):
            store.log_artifact(run, str(path), f"reliability/{machine}")


def log_judgement(home: Home, run: str, text: str) -> None:
    """Log the gate's judgement of the detector of this run."""
    client(home).log_text(run, text, "gate.md")


def log_machine_table(home: Home, run: str, table: pd.DataFrame) -> None:
    """Log a table with one row per machine, which MLflow shows beside those of other runs."""
    store = client(home)
    # MLflow would append to a table that is there: a run that is registered again would have its machines twice.
    if len(table) and MACHINES not in {artifact.path for artifact in store.list_artifacts(run)}:
        store.log_table(run, table, MACHINES)


def describe(home: Home, run: str, text: str) -> None:
    """Set the description of a run, in Markdown."""
    client(home).set_tag(run, "mlflow.note.content", text)


@contextmanager
def failed_if_it_fails(home: Home, run: str) -> Iterator[None]:
    """Set the MLflow run to FAILED if the block raises; a killed one stays RUNNING until it is resumed."""
    try:
        yield
    except Exception:
        # If the store does not answer, that is the error to report, not the failure of this call.
        with suppress(Exception):
            client(home).set_terminated(run, "FAILED")
        raise


def log_encoder(home: Home, run: str, encoder: Path) -> None:
    """The metrics by epoch of a training that are not in the run yet, and whether it has collapsed."""
    store = client(home)
    logged = {metric.step for metric in store.get_metric_history(run, "training/loss")}
    history = training_history(encoder)
    if problems := collapse(history):
        store.set_tag(run, "asd.collapse", " ".join(problems))
    for metrics in history:
        if int(metrics["epoch"]) not in logged:
            log_epoch(home, run, metrics)


def log_epoch(home: Home, run: str, metrics: dict[str, float]) -> None:
    """The metrics of one epoch, as one call: a call costs 20 ms regardless of their number."""
    epoch = int(metrics["epoch"])
    rest = {f"training/{name}": value for name, value in metrics.items() if name != "epoch"}
    log_metrics(home, run, rest, epoch)


def log_step(home: Home, run: str, progress: Mapping[str, float]) -> None:
    """How a training goes within its epochs."""
    names = ("loss", "learning_rate", "recordings_per_second")
    log_metrics(home, run, {f"training/step/{name}": progress[name] for name in names}, int(progress["step"]))


@contextmanager
def system_metrics(home: Home, run: str, where: Mapping[str, object]) -> Iterator[None]:
    """Log load, memory and disk of this machine every ten seconds of the block; ``where`` becomes tags of the run.

    An empty ``run``: nothing is logged, here and by `log_metrics`.
    """
    if not run:
        yield
        return
    store = client(home)
    for name, value in where.items():
        store.set_tag(run, f"asd.{name}", str(value))
    monitor = SystemMetricsMonitor(run, resume_logging=True, tracking_uri=home.mlflow_uri)  # type: ignore[no-untyped-call]
    monitor.start()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        monitor.finish()  # type: ignore[no-untyped-call]


def log_metrics(home: Home, run: str, metrics: dict[str, float], step: int = 0) -> None:
    """Log metrics by name. Characters that MLflow forbids become dashes; NaN is skipped: charts cannot show it."""
    if run:
        client(home).log_batch(run, metrics=metrics_of(metrics, step, time.time()))


def metrics_of(metrics: Mapping[str, float], step: int, at: float) -> list[Metric]:
    """Points of metrics by name, see `log_metrics`. ``at``: seconds since 1970."""
    points = [(metric_name(name), value) for name, value in metrics.items() if not math.isnan(value)]
    return [Metric(name, value, int(1000 * at), step) for name, value in points]


def metric_name(name: str) -> str:
    """``name`` as MLflow allows it; where that changes it, digits that keep two names apart are added."""
    allowed = "".join(c if c.isalnum() or c in "_-. /" else "-" for c in name)
    return allowed if allowed == name else f"{allowed} {digest_of(name)[:6]}"


def log_parameters(home: Home, run: str, parameters: dict[str, Any]) -> None:
    """Parameters, flattened with dots. A parameter of a run never changes, so existing ones are skipped."""
    store = client(home)
    existing = store.get_run(run).data.params
    for name, value in flat(parameters):
        if name not in existing:
            store.log_param(run, name, value)


def flat(parameters: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested dictionaries as one, the names joined by dots."""
    pairs: list[tuple[str, Any]] = []
    for name, value in parameters.items():
        pairs += flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return pairs
