"""What tests share: the folder of real recordings, and quiet, private servers."""

import os
import signal
from pathlib import Path

import pytest

# Before any test imports prefect or mlflow.
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
for inherited in ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI", "ASD_HOME", "ASD_DEBUG"):
    os.environ.pop(inherited, None)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # Several workers share the cores.
# A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """A worker a core, four at most: each starts servers of its own."""
    return min(os.cpu_count() or 1, 4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers the long files come first, so that no worker is left alone with one of them at the end."""
    if config.getoption("numprocesses", None) or "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: (item.path.name != "test_faults.py", "flow" not in item.keywords))


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The folder of real recordings that ``ASD_SAMPLE_DATA`` names; without it the test is skipped."""
    folder = os.environ.get("ASD_SAMPLE_DATA")
    if not folder:
        pytest.skip("ASD_SAMPLE_DATA is not set: no real recordings to test with")
    return Path(folder)
