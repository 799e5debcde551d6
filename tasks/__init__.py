"""One Prefect task a stage: cache key, retries, MLflow logging, artifacts in the UI."""
