"""What tests share: the folder of real recordings, and quiet, private servers."""

import os
from pathlib import Path

import pytest

# Before any test imports prefect or mlflow.
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
for inherited in ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI", "ASD_HOME", "ASD_DEBUG"):
    os.environ.pop(inherited, None)


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The folder of real recordings that ``ASD_SAMPLE_DATA`` names; without it the test is skipped."""
    folder = os.environ.get("ASD_SAMPLE_DATA")
    if not folder:
        pytest.skip("ASD_SAMPLE_DATA is not set: no real recordings to test with")
    return Path(folder)
