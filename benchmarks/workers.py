"""What Dask workers gain, and how the time of a benchmark grows with the recordings.

    python benchmarks/workers.py [--quick] [--json]

Everything is simulated, and one run measures all of it. Workers: `asd benchmark` with several seeds on a cluster of one
worker and on one of two, on this machine and with one thread each, in a new home. Then again in the same home, where
nothing is left to be computed: what a second run still takes is what workers do not change. The same for pretraining
the base encoder.

Growth: stages in this process with n, 2n and 4n recordings of 10 s, one thread. Seconds are fitted as a + b n, the
models of one machine as a + b n + c n^2; from that the time for 14 x 1,000 and for a million recordings is computed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from asdcore.baselines.autoencoder import fit_autoencoder
from asdcore.baselines.two_branch import WINDOWS
from asdcore.baselines.two_branch_training import read_waveforms, train_two_branch
from asdcore.datasets.simulate import simulate
from asdcore.encoder.base import load_base
from asdcore.encoder.embedding import embeddings
from asdcore.features.compute import compute_features
from asdcore.features.store import EXTENDS, Store
from asdcore.normality.base import model_class
from asdcore.settings import NormalitySettings, Settings
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home

CPU = torch.device("cpu")
SYSTEMS = ["detector", "resnet18:tied-h", "baseline-mse", "wilkinghoff-2024"]
MODELS = ["standardised_knn", "local_density", "knn", "tied", "ledoit_wolf", "kmeans_cosine", "memory_mixup"]
"""the first two are those of a quick run"""
H_SIZE = 2048
"""values of an embedding of the base encoder"""
SIZES = {"14 x 1,000": (14, 1000), "1,000 x 1,000": (1000, 1000)}
"""machines, and training recordings of each"""
LARGEST = 71_000
"""training recordings of each of 14 machines that together have a million"""


def processes(*arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "dask", *arguments], stderr=subprocess.DEVNULL)


@contextmanager
def cluster(workers: int, folder: Path) -> Iterator[str]:
    """The address of a Dask scheduler with so many workers."""
    folder.mkdir()
    told = folder / "scheduler.json"
    common = ["--no-dashboard", "--host", "127.0.0.1", "--scheduler-file", str(told)]
    started = [processes("scheduler", "--port", "0", *common)]
    try:
        while not told.exists():
            time.sleep(0.05)
        worker = ["worker", "--nthreads", "1", *common, "--local-directory"]
        started += [processes(*worker, str(folder / str(index))) for index in range(workers)]
        yield json.loads(told.read_text())["address"]
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait()


def with_workers(folder: Path, work: Mapping[str, Callable[[Path], object]]) -> list[dict[str, Any]]:
    """One row per kind of work and number of workers: seconds of the first run, and of one with nothing to compute."""
    from flows.private_server import prefect_server
    from tasks.tracking import EXPERIMENT, client

    seconds: dict[tuple[str, int], tuple[float, float]] = {}
    server = Home.at(folder / "server")
    # One store, made before: a new one takes seconds, and would be the first run's.
    os.environ["MLFLOW_TRACKING_URI"] = server.own_mlflow_uri
    client(server).get_experiment_by_name(EXPERIMENT)
    with prefect_server(server):
        for workers in (1, 2):
            with cluster(workers, folder / f"cluster-{workers}") as address:
                os.environ["ASD_DASK"] = address
                _wait_for(address, workers)
                for name, run in work.items():
                    home = folder / f"home-{workers}-{name}"
                    first = timed(lambda run=run, home=home: run(home))  # type: ignore[misc]
                    seconds[name, workers] = first, timed(lambda run=run, home=home: run(home))  # type: ignore[misc]
    del os.environ["ASD_DASK"]
    rows: list[dict[str, Any]] = []
    for name in work:
        one = seconds[name, 1]
        for workers in (1, 2):
            first, again = seconds[name, workers]
            rows.append(
                {
                    "work": name,
                    "workers": workers,
                    "seconds": round(first, 1),
                    "again": round(again, 1),
                    "speed_up": round(one[0] / first, 2),
                    "speed_up_of_the_rest": round((one[0] - one[1]) / (first - again), 2),
                }
            )
    return rows


def _wait_for(address: str, workers: int) -> None:
    """Until the workers are there and have imported what they need, which is not to be measured."""
    from distributed import Client

    with Client(address) as client:
        client.wait_for_workers(workers)
        client.run(_imports)


def _imports() -> None:
    import tasks.comparison
    import tasks.evaluation
    import tasks.pretraining  # noqa: F401


def board(folder: Path, recordings: int, seeds: int) -> Callable[[Path], object]:
    """`asd benchmark` of `SYSTEMS` on two simulated machines of so many training recordings."""
    from flows.ranking import rank_systems

    machines, n = ["simFan", "simValve"], recordings - 2
    simulate(folder, machines=machines, source_train=n, target_train=2, test_per_kind=5, seconds=2.0)
    demo = Settings.preset("demo")
    training = demo.training.model_copy(update={"epochs": 4, "crop_frames": 32, "batch_size": 24})
    settings = demo.model_copy(update={"training": training})
    return lambda home: rank_systems([folder], SYSTEMS, seeds, settings, home)


def base_encoder(machines: int, steps: int) -> Callable[[Path], object]:
    """`asd pretrain`, of fewer machines and steps."""
    from flows.pretrain import pretrain

    return lambda home: pretrain(home / "base.safetensors", steps, 0, machines, home=home)


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def growth(folder: Path, n: int, vectors: int, models: Sequence[str]) -> list[dict[str, Any]]:
    """One row per stage: seconds with n, 2n and 4n recordings, and the fit to them. ``vectors``: n of the models.

    4n is at most a shard, which one process makes.
    """
    sizes, settings = [n, 2 * n, 4 * n], Settings()
    paths = simulate(folder, machines=["simFan"], source_train=4 * n, target_train=0, test_per_kind=0, seconds=10.0)
    clips = [(digest_of_file(path), str(path)) for path in paths]
    stages: dict[str, Callable[[int], object]] = {
        "spectrograms": lambda m: compute_features(folder / f"{m}-originals", None, clips[:m], settings),
        "spectrograms and variants": lambda m: compute_features(
            folder / f"{m}", folder / f"{m}" / f"{EXTENDS}0", clips[:m], settings
        ),
    }
    rows = [grown(name, sizes, run, quadratic=False) for name, run in stages.items()]
    store = Store(folder / f"{4 * n}")
    names = [name for name, _ in clips]
    encoder = load_base()
    autoencoder = settings.autoencoder.model_copy(update={"epochs": 1})
    two_branch = settings.two_branch.model_copy(update={"epochs": 1})

    def spectrograms(m: int) -> Iterator[Any]:
        return (store.read(name, "original") for name in names[:m])

    def trained(m: int) -> object:
        """One epoch, and the statistics of the batch normalisation, which every training ends with."""
        described = pd.DataFrame({"recording": names[:m], "machine": "fan", "section": "00", "domain": "source"})
        described["attributes"] = [f'{{"n": "{i % 4}"}}' for i in range(m)]
        data = read_waveforms(described, paths[:m], settings.recordings, 10.0)
        return train_two_branch(data, WINDOWS["two_branch"], two_branch, CPU, folder / f"checkpoints-{m}", "", print)

    later: dict[str, Callable[[int], object]] = {
        "embeddings, base encoder": lambda m: list(embeddings(encoder, spectrograms(m), CPU)),
        "autoencoder, one epoch": lambda m: fit_autoencoder(((s, "source") for s in spectrograms(m)), autoencoder, CPU),
        "two_branch, one epoch": trained,
    }
    rows += [grown(name, sizes, run, quadratic=False) for name, run in later.items()]
    h = np.random.default_rng(0).standard_normal((4 * vectors, H_SIZE)).astype(np.float32)
    for name in models:
        model = model_class(name).of(NormalitySettings(layer="h"))

        def fitted(m: int, model: Any = model) -> object:
            domains = ["target" if i % 100 == 0 else "source" for i in range(m)]
            return model.fit(h[:m], domains=domains, groups=list(range(m)))

        rows.append(grown(f"{name}, one machine", [vectors, 2 * vectors, 4 * vectors], fitted, quadratic=True))
    return rows


def grown(name: str, sizes: Sequence[int], run: Callable[[int], object], *, quadratic: bool) -> dict[str, Any]:
    """The seconds of ``run`` by size, and their fit: a, b and c of a + b n + c n^2, none of them negative."""
    run(max(2, sizes[0] // 4))  # Warm.
    seconds = [timed(lambda size=size: run(size)) for size in sizes]  # type: ignore[misc]
    a, b, c = fit(sizes, seconds, quadratic)
    told = a + b * np.array(sizes) + c * np.square(np.array(sizes, float))
    off = float(np.max(np.abs(told - seconds) / seconds))
    return {
        "stage": name,
        "sizes": list(sizes),
        "seconds": [round(each, 3) for each in seconds],
        "a": a,
        "b": b,
        "c": c,
        "off": round(off, 2),
    }


def fit(sizes: Sequence[int], seconds: Sequence[float], quadratic: bool) -> tuple[float, float, float]:
    """Least squares of the relative error, of coefficients that are not negative.

    >>> [round(value, 6) for value in fit([1, 2, 4], [3, 5, 9], False)]
    [1.0, 2.0, 0.0]
    """
    from scipy.optimize import nnls

    n = np.array(sizes, float)
    columns = np.stack([np.ones(len(n)), n, np.square(n)][: 3 if quadratic else 2], axis=1)
    found = nnls(columns / np.array(seconds)[:, None], np.ones(len(n)))[0]
    return float(found[0]), float(found[1]), float(found[2]) if quadratic else 0.0


def computed(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Core-hours of each stage, computed from its fit: of `SIZES`, and of 14 machines of `LARGEST`."""
    table: list[dict[str, Any]] = []
    for row in rows:

        def seconds(n: float, row: Mapping[str, Any] = row) -> float:
            return float(row["a"] + row["b"] * n + row["c"] * n * n)

        one = row["stage"].endswith("one machine")
        hours = {
            name: (machines * seconds(each) if one else seconds(machines * each)) / 3600
            for name, (machines, each) in SIZES.items()
        }
        hours[f"14 x {LARGEST:,}"] = (14 * seconds(LARGEST) if one else seconds(14 * LARGEST)) / 3600
        table.append({"stage": row["stage"]} | {name: float(f"{value:.2g}") for name, value in hours.items()})
    return table


def told(figures: Mapping[str, Any]) -> str:
    lines = ["| work | workers | s | again, s | speed-up | of what is computed |", "|---|---:|---:|---:|---:|---:|"]
    for row in figures["workers"]:
        values = (row["seconds"], row["again"], row["speed_up"], row["speed_up_of_the_rest"])
        lines.append(f"| {row['work']} | {row['workers']} | " + " | ".join(map(str, values)) + " |")
    lines += ["", "| stage, one thread | recordings | s | a + b n + c n^2 | off by |", "|---|---:|---:|---|---:|"]
    for row in figures["growth"]:
        parts = [f"{row['a']:.2g}", f"{row['b']:.2g} n", *([f"{row['c']:.2g} n^2"] if row["c"] else [])]
        sizes, seconds = (", ".join(f"{value:g}" for value in row[name]) for name in ("sizes", "seconds"))
        lines.append(f"| {row['stage']} | {sizes} | {seconds} | {' + '.join(parts)} | {100 * row['off']:.0f} % |")
    names = [name for name in figures["computed"][0] if name != "stage"]
    lines += ["", "| computed, core-hours | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for row in figures["computed"]:
        lines.append(f"| {row['stage']} | " + " | ".join(f"{row[name]:g}" for name in names) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few recordings, no pretraining: a minute")
    parser.add_argument("--json", action="store_true", help="the results as one JSON object")
    arguments = parser.parse_args()
    quick = arguments.quick
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        from flows.environment import prepare

        folder = Path(temporary)
        prepare(Home.at(folder / "server"), quiet=True)
        work = {"benchmark": board(folder / "machines", 12 if quick else 60, 2 if quick else 3)}
        if not quick:
            work["pretraining"] = base_encoder(machines=64, steps=20)
        figures: dict[str, Any] = {"benchmark": "workers", "data": "simulated", "quick": quick, "cores": os.cpu_count()}
        figures["workers"] = with_workers(folder, work)
        torch.set_num_threads(1)
        with threadpool_limits(1):
            n, vectors, models = (4, 64, MODELS[:2]) if quick else (32, 250, MODELS)
            figures["growth"] = growth(folder / "growth", n, vectors, models)
    figures["computed"] = computed(figures["growth"])
    print(json.dumps(figures) if arguments.json else told(figures))


if __name__ == "__main__":
    main()
