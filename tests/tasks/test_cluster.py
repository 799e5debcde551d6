"""What a cluster is asked, without one: tests/flows/test_cluster.py has real workers."""

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from asdcore.errors import AsdError
from asdcore.settings import NormalitySettings, TrainingSettings
from asdcore.storage.home import Home
from tasks.cluster import _Workers
from tasks.encoder import train_encoder
from tasks.features import spectrum_statistics
from tasks.stage import Artifact


class Runner:
    """Takes a moment for each task, and returns its home."""

    address = "tcp://127.0.0.1:9"

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool, self.tasks = pool, list[Path]()

    def submit(self, run: object, parameters: dict[str, Any]) -> SimpleNamespace:
        root = parameters["home"].root
        self.tasks.append(root)

        def work() -> dict[str, object]:
            time.sleep(0.2)
            return {"files": {}, "facts": {"home": root}}

        future: Future[dict[str, object]] = self.pool.submit(work)
        return SimpleNamespace(
            wrapped_future=future, wait=lambda seconds: wait([future], seconds), result=future.result
        )


def test_a_task_is_asked_once_for_each_home_however_many_need_it_at_once(tmp_path: Path) -> None:
    homes = [Home.at(tmp_path / name) for name in ("a", "b", "a")]
    with ThreadPoolExecutor() as pool, ThreadPoolExecutor() as callers:
        runner = Runner(pool)
        workers = _Workers(runner)  # type: ignore[arg-type]
        run = SimpleNamespace(refresh_cache=False)
        results = list(callers.map(lambda home: workers(run, "key", home, {}), homes))
    assert [result["facts"]["home"] for result in results] == [home.root for home in homes]
    assert sorted(runner.tasks) == sorted({home.root for home in homes})


def test_a_worker_with_another_version_of_a_package_from_outside_computes_nothing(
    outside: Path, tmp_path: Path
) -> None:
    settings, store = TrainingSettings(encoder="bands"), Artifact(tmp_path, "")
    other = {"bands": "outside_asd.Bands 0123456789abcdef"}
    with pytest.raises(AsdError, match="another version of outside_asd than the machine that asks it"):
        train_encoder.function(tmp_path / "encoder", store, pd.DataFrame(), settings, other, "")
    other = {"peak": "outside_asd.PeakScorer 0123456789abcdef settings"}
    with pytest.raises(AsdError, match="another version of outside_asd"):
        list(spectrum_statistics._whole.function(["a"], store, other, NormalitySettings()))
    assert not list(tmp_path.glob("encoder*"))
