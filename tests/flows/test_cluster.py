"""The features on a Dask cluster of two workers on this machine."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from asdcore.errors import AsdError
from asdcore.settings import Settings
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home
from flows.features import features
from flows.ingest import ingest
from flows.retrain import retrain
from tasks.cluster import run_on_cluster
from tasks.features import features_shards
from tasks.stage import Artifact

pytestmark = [pytest.mark.flow, pytest.mark.slow]

Process = subprocess.Popen[bytes]


@dataclass
class Cluster:
    address: str
    scheduler: Process
    workers: list[Process]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler on loopback and its two workers: processes of their own, with one thread each."""
    told = tmp_path / "scheduler.json"
    common = ["--no-dashboard", "--host", "127.0.0.1", "--scheduler-file", str(told)]

    def start(*arguments: str) -> Process:
        started.append(subprocess.Popen([sys.executable, "-m", "dask", *arguments], stderr=subprocess.DEVNULL))
        return started[-1]

    started: list[Process] = []
    try:
        scheduler = start("scheduler", "--port", "0", *common)
        until = time.monotonic() + 60
        while not told.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        worker = ["worker", "--no-nanny", "--nthreads", "1", *common, "--local-directory"]
        workers = [start(*worker, str(tmp_path / f"worker-{i}")) for i in range(2)]
        yield Cluster(json.loads(told.read_text())["address"], scheduler, workers)
    finally:
        for process in started:
            process.kill()
            process.wait()


def made(home: Path, *patterns: str) -> dict[str, str]:
    return {str(path.relative_to(home)): digest_of_file(path) for one in patterns for path in home.glob(one)}


SHARDS = "features/**/shard-*.parquet"
ALL = (SHARDS, "runs/encoders/*.safetensors", "runs/embeddings/*/*.parquet", "runs/normality/*.npz")


def test_a_retraining_on_two_workers_one_of_them_killed_equals_that_on_one_machine(
    prefect_api: str,
    small_machines: Path,
    small_settings: Settings,
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.features.SHARD_SIZE", 4)
    monkeypatch.setattr("tasks.features.AT_ONCE", 4)
    training = small_settings.training.model_copy(update={"epochs": 1, "cycles": 1})
    settings = small_settings.model_copy(update={"training": training})
    one, two = tmp_path / "one", tmp_path / "two"
    retrain(recordings=small_machines, machines=["simFan"], settings=settings, home=one)
    monkeypatch.setenv("ASD_DASK", cluster.address)
    seen: list[int] = []

    def kill() -> None:
        until = time.monotonic() + 120
        while len(made(two, SHARDS)) < 2 and time.monotonic() < until:
            time.sleep(0.005)
        cluster.workers[0].send_signal(signal.SIGKILL)
        seen.append(len(made(two, SHARDS)))

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    retrain(recordings=small_machines, machines=["simFan"], settings=settings, home=two)
    killer.join()
    assert 2 <= seen[0] < len(made(one, SHARDS)), "killed in the middle"
    assert cluster.workers[0].wait() == -signal.SIGKILL and cluster.workers[1].poll() is None
    assert made(two, *ALL) == made(one, *ALL) and len(made(one, *ALL)) > len(made(one, SHARDS)) + 4
    for noted in two.glob("features/**/verified.json"):
        assert set(json.loads(noted.read_text())) == {path.name for path in noted.parent.glob("shard-*.parquet")}


def test_what_is_wrong_with_a_cluster_is_named_with_the_remedy(
    prefect_api: str,
    small_machines: Path,
    small_settings: Settings,
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.cluster.PATIENCE", 2)
    home = Home.at(tmp_path / "home")
    ingest(small_machines, small_settings.recordings, home=home.root)
    monkeypatch.setenv("ASD_DASK", "tcp://127.0.0.1:9")
    with pytest.raises(AsdError, match=r"ASD_DASK=tcp://127.0.0.1:9: no Dask scheduler answers.*dask scheduler"):
        features(small_settings, home=home.root)
    monkeypatch.setenv("ASD_DASK", cluster.address)
    for worker in cluster.workers:
        worker.kill()
    with pytest.raises(AsdError, match=r"has no worker: start some with `dask worker tcp://"):
        features(small_settings, home=home.root)
    threading.Timer(1, cluster.scheduler.kill).start()
    with pytest.raises(AsdError, match=r"the Dask scheduler .* has gone away.*resumes when it is back"):
        features(small_settings, home=home.root)


def test_a_worker_with_another_version_of_the_code_writes_nothing(small_settings: Settings, tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    with pytest.raises(AsdError, match="another version of asd"), home.at_work():
        features_shards.function(Path(), Artifact(home.features / "0123456789abcdef", ""), None, [], small_settings)


def test_a_cluster_needs_a_prefect_server_that_its_workers_reach(tmp_path: Path) -> None:
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(AsdError, match="PREFECT_API_URL is not"),
        Home.at(tmp_path).at_work(),
    ):
        list(run_on_cluster(features_shards, "tcp://127.0.0.1:9", [], ""))
