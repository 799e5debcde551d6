"""MLflow runs: one for each retraining, taken up again by a retraining that goes on after a kill."""

import os
from typing import Any

# Read when MLflow is imported: no report of usage to its makers, no progress bars among the log lines of a worker.
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from asdcore.home import Home, digest_of
from asdcore.settings import NormalitySettings

EXPERIMENT = "asd"


def client(home: Home) -> MlflowClient:
    """A client of the store of this home, or of ``MLFLOW_TRACKING_URI``."""
    home.root.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(home.mlflow_uri)
    return MlflowClient(home.mlflow_uri)


def retraining_key(training: str, normality: NormalitySettings, data: str) -> str:
    """What makes two retrainings the same: the encoder's key, the normality settings, the recordings."""
    return digest_of(training, normality.digest(), data)


def retraining_run(home: Home, key: str, name: str) -> str:
    """The id of the MLflow run of the retraining ``key``; it is opened if there is none."""
    store = client(home)
    experiment = store.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        local = home.mlflow_uri.startswith("sqlite:")
        identifier = store.create_experiment(EXPERIMENT, artifact_location=home.mlartifacts.as_uri() if local else None)
    else:
        identifier = experiment.experiment_id
    found = store.search_runs([identifier], f"tags.`asd.retraining` = '{key}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    return str(store.create_run(identifier, run_name=name, tags={"asd.retraining": key}).info.run_id)


def log_epoch(home: Home, run: str, figures: dict[str, float]) -> None:
    """The figures of one epoch, as one call: a call costs 20 ms however many it holds."""
    epoch = int(figures["epoch"])
    rest = {f"training/{name}": value for name, value in figures.items() if name != "epoch"}
    log_metrics(home, run, rest, epoch)


def log_metrics(home: Home, run: str, figures: dict[str, float], step: int = 0) -> None:
    """Figures by name. What MLflow allows in no name becomes a dash; NaN is left out, its charts do not draw it."""
    import math
    import time

    now = int(time.time() * 1000)
    metrics = [Metric(metric_name(name), value, now, step) for name, value in figures.items() if not math.isnan(value)]
    client(home).log_batch(run, metrics=metrics)


def metric_name(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-./ ") else "-" for c in name)


def logged_epochs(home: Home, run: str) -> set[int]:
    """The epochs that a run has figures of."""
    return {metric.step for metric in client(home).get_metric_history(run, "training/loss")}


def log_parameters(home: Home, run: str, parameters: dict[str, Any]) -> None:
    """Parameters, flattened with dots. A parameter of a run never changes, so those that are there are left alone."""
    store = client(home)
    flat = dict(_flat(parameters))
    there = store.get_run(run).data.params
    for name, value in flat.items():
        if name not in there:
            store.log_param(run, name, value)


def _flat(parameters: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in parameters.items():
        flat += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return flat


__all__ = ["MlflowException", "client", "log_epoch", "log_metrics", "log_parameters", "logged_epochs", "retraining_run"]
