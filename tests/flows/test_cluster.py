"""Features, a ranking and the pretraining on a Dask cluster of two workers on this machine."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from prefect.settings import PREFECT_API_URL, temporary_settings
from threadpoolctl import threadpool_limits

from asdcore.datasets.simulate import simulate
from asdcore.encoder.pretrain import pretrain as pretrain_here
from asdcore.errors import AsdError
from asdcore.settings import Settings
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home
from flows.cli.settings import settings_of
from flows.features import features
from flows.ingest import ingest
from flows.pretrain import pretrain
from flows.ranking import rank_systems
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
    with two_workers(tmp_path, "--no-nanny") as cluster:
        yield cluster


@pytest.fixture
def usual_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """The same as a user has it: each worker is the child of a nanny, and may not start processes."""
    with two_workers(tmp_path, "--nanny") as cluster:
        yield cluster


@contextmanager
def two_workers(tmp_path: Path, *options: str) -> Iterator[Cluster]:
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
        worker = ["worker", *options, "--nthreads", "1", *common, "--local-directory"]
        workers = [start(*worker, str(tmp_path / f"worker-{i}")) for i in range(2)]
        yield Cluster(json.loads(told.read_text())["address"], scheduler, workers)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
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


@pytest.mark.timeout(900)
def test_a_ranking_on_two_workers_killed_and_repeated_equals_that_on_one_machine(
    prefect_api: str, usual_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One store for all homes: each would take seconds to be made.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    datasets = [tmp_path / "fan", tmp_path / "valve"]
    for folder, machine in zip(datasets, ["simFan", "simValve"], strict=True):
        simulate(folder, machines=[machine], source_train=10, target_train=2, test_per_kind=2, seconds=1.0)
    systems = ["detector", "elliptic-h", "resnet18:tied-h", "baseline-mse", "wilkinghoff-2024"]
    changes = {
        "training.epochs": 2, "training.cycles": 1, "training.crop_frames": 16, "training.batch_size": 8,
        "two_branch.epochs": 2, "normality.elliptic_components": 3,
    }  # fmt: skip
    settings = settings_of("demo", [f"{name}={value}" for name, value in changes.items()])
    one, two = tmp_path / "one", tmp_path / "two"
    # The last bits of a training depend on the number of threads; Dask gives a worker one.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            local = rank_systems(datasets, systems, 2, settings, one)
    finally:
        torch.set_num_threads(threads)

    variables = {"ASD_DASK": usual_cluster.address, "PREFECT_API_URL": prefect_api}
    command = [sys.executable, "-m", "flows.cli", "benchmark", "--preset", "demo", "--seeds", "2", "--home", str(two)]
    command += ["--systems", ",".join(systems), *(f"--recordings={folder}" for folder in datasets)]
    command += [f"--set={name}={value}" for name, value in changes.items()]
    killed = subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while not list(two.glob("rankings/*/runs/two_branch/*.safetensors")):
        assert time.monotonic() < until and killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    monkeypatch.setenv("ASD_DASK", usual_cluster.address)
    repeated = rank_systems(datasets, systems, 2, settings, two)
    scores = pd.read_parquet(local["scores"])
    assert scores["system"].nunique() == 5 and scores["dataset"].nunique() == 2
    pd.testing.assert_frame_equal(pd.read_parquet(repeated["scores"]), scores, check_exact=True)
    for kind in ("encoders", "two_branch", "autoencoders"):
        here, there = (made(home, f"rankings/*/runs/{kind}/*.safetensors") for home in (one, two))
        # A frozen encoder's file names the path of its weights, which is another in each home.
        both = here.keys() & there.keys()
        assert len(both) >= 2 * 2, "two datasets, two seeds"
        assert {file: there[file] for file in both} == {file: here[file] for file in both}
    assert not list(two.glob("rankings/*/runs/scratch/*")), "a training is left, or its lock"


def test_a_base_encoder_pretrained_on_two_workers_equals_that_of_one_machine(
    prefect_api: str, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("ASD_DASK", cluster.address)
    try:
        pretrain_here(steps=2, seed=3, machines=18).save(tmp_path / "one.safetensors")
    finally:
        torch.set_num_threads(threads)
    pretrain(tmp_path / "two.safetensors", steps=2, seed=3, random_machines=18, home=tmp_path / "home")
    assert digest_of_file(tmp_path / "two.safetensors") == digest_of_file(tmp_path / "one.safetensors")
    assert len(made(tmp_path / "home", "runs/pretraining/*.npy")) == 2


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
    with home.lock():
        inputs = features_shards.bound(Artifact(home.features / "0123456789abcdef", ""), None, [], small_settings)
        with pytest.raises(AsdError, match="another version of asd"):
            features_shards.execute_on_worker("key of other code", home, inputs)
    elsewhere = Home.at(tmp_path / "not mounted")
    with pytest.raises(AsdError, match="has to be a folder that all machines share"):
        features_shards.execute_on_worker(features_shards.key(inputs), elsewhere, inputs)
    assert not elsewhere.root.exists() and not home.features.exists()


def test_a_cluster_needs_a_prefect_server_that_its_workers_reach(tmp_path: Path) -> None:
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(AsdError, match="PREFECT_API_URL is not"),
        Home.at(tmp_path).at_work(),
    ):
        list(run_on_cluster(features_shards, "tcp://127.0.0.1:9", [], ""))
