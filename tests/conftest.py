"""What tests share: the folder of real recordings, and quiet, private servers."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.outside import ENTRY_POINTS, MODULE, install

# Before any test imports prefect or mlflow.
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
for inherited in ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI", "ASD_HOME", "ASD_DEBUG"):
    os.environ.pop(inherited, None)
# Work this small is not faster with more threads, and far slower where the cores are busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
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
def sample_data_if_any() -> Path | None:
    """The folder of real recordings that ``ASD_SAMPLE_DATA`` names."""
    folder = os.environ.get("ASD_SAMPLE_DATA")
    return Path(folder) if folder else None


@pytest.fixture(scope="session")
def sample_data(sample_data_if_any: Path | None) -> Path:
    """The folder of real recordings; without it the test is skipped."""
    if sample_data_if_any is None:
        pytest.skip("ASD_SAMPLE_DATA is not set: no real recordings to test with")
    return sample_data_if_any


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of an S3 server on loopback that asks for no known credentials."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else a line for each request
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def s3(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A boto3 client of the server, with an empty bucket ``plant``; this machine's cache is empty, too."""
    import boto3
    import requests

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    requests.post(f"{s3_server}/moto-api/reset", timeout=10)
    requests.post(f"{s3_server}/moto-api/reset-auth", data=b"inf", timeout=10)
    client = boto3.client("s3")
    client.create_bucket(Bucket="plant")
    return client


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site-packages"
    install(folder, "outside-asd", ENTRY_POINTS)
    (folder / "outside_asd.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("outside_asd", None)
