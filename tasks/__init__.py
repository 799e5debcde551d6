"""Prefect tasks, one per stage: cache key, retries, MLflow logging, artifacts in the UI."""

import os

# Read when MLflow is imported: no report of usage to its makers, no progress bars among the log lines of a worker.
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
