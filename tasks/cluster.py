"""Stages on a Dask cluster, through Prefect's Dask task runner: the same stages as on one machine."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from prefect.settings import PREFECT_API_URL

from asdcore.errors import AsdError
from asdcore.progress import progress
from asdcore.storage.home import Home
from tasks.stage import ELSEWHERE, Artifact, Result, Sealed, Stage, forget_scratch

if TYPE_CHECKING:
    from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture

ADDRESS = "ASD_DASK"
"""The variable with the address of the scheduler, for example tcp://10.0.0.5:8786; not set: this machine alone."""
PATIENCE = 30
"""Seconds to wait for the scheduler, and for a cluster without a worker to get one."""


def cluster_address() -> str | None:
    return os.environ.get(ADDRESS) or None


@contextmanager
def on_cluster(address: str | None) -> Iterator[None]:
    """Run the stages that the block calls on the workers, those that do not depend on each other at once: see
    `tasks.stage.each_of`. Without an address, or within such a block, nothing changes.

    Raises:
        AsdError: as `run_on_cluster`.
    """
    if not address or ELSEWHERE.get():
        yield
        return
    with _runner(address) as runner:
        token = ELSEWHERE.set(_Workers(runner))
        try:
            yield
        finally:
            ELSEWHERE.reset(token)


class _Workers:
    """Runs stages on the workers of a cluster. Two calls with the same key and home at the same time become one task.

    Datasets of a ranking have a home each, and may share machines.
    """

    def __init__(self, runner: "DaskTaskRunner") -> None:
        self._runner = runner
        self._running: dict[tuple[Path, str, bool], PrefectDaskFuture[Result]] = {}
        self._lock = Lock()

    def __call__(self, run: Any, key: str, home: Home, inputs: dict[str, Any]) -> Result:
        again = bool(run.refresh_cache)
        task = home.root, key, again
        with self._lock:
            future = self._running.get(task)
            if future is None:
                future = self._running[task] = self._runner.submit(
                    run, {"key": key, "home": home, "inputs": Sealed(inputs)}
                )
        try:
            result = _result(future, self._runner)
        finally:
            self._running.pop(task, None)
        # A cached result may name files that were deleted since; a new one does not.
        if again:
            _check_home(result, home, self._runner.address)
        return result


def run_on_cluster(
    stage: Stage[Any], address: str, inputs: Sequence[Mapping[str, Any]], what: str
) -> Iterator[Artifact]:
    """Run a stage once for each of ``inputs`` (by name) on the workers; yield the artifacts in their order.

    A task whose worker dies is run again by another: what it writes is named after its content, so nothing is doubled.
    Remembered results are not asked for: ``inputs`` are what is known to be missing.

    Raises:
        AsdError: the extra is not installed, no scheduler or worker answers, or the workers do not write to the home.
    """
    home = Home.current()
    run = stage.task.with_options(result_storage=home.prefect / "results", refresh_cache=True)
    with _runner(address) as runner:
        futures = []
        for each in inputs:
            bound = stage.bound(**each)
            key = stage.key(bound)
            futures.append((key, runner.submit(run, {"key": key, "home": home, "inputs": Sealed(bound)})))
        for key, future in progress(futures, what):
            result = _result(future, runner)
            # Whether a file is there, not what is in it: to read it back would take as long as to make it.
            _check_home(result, home, address)
            forget_scratch(home, key)
            yield stage.artifact(home, key, result)


def _check_home(result: Result, home: Home, address: str | None) -> None:
    if not all((home.root / path).is_file() for path in result["files"]):
        raise AsdError(
            f"the workers of {address} wrote files that are not in {home.root}: the home has to be a folder "
            "that all machines share, under the same path (NFS, for example)"
        )


@contextmanager
def _runner(address: str) -> "Iterator[DaskTaskRunner]":
    """Prefect's task runner, connected."""
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise AsdError(f"{ADDRESS} is set, but Dask is not installed: pip install 'asd[dask]'; or unset it") from error
    if not PREFECT_API_URL.value():
        raise AsdError(
            f"{ADDRESS} is set, but PREFECT_API_URL is not: the workers report to a Prefect server that they reach. "
            "Start `asd ui`, and set it as that says"
        )
    with DaskTaskRunner(address=address, client_kwargs={"timeout": PATIENCE}) as runner:
        try:
            _ = runner.client
        except (OSError, ValueError) as error:
            raise AsdError(
                f"{ADDRESS}={address}: no Dask scheduler answers there ({error}). Start one with `dask scheduler`, and "
                f"workers with `dask worker {address} --nworkers auto --nthreads 1`; or unset {ADDRESS}"
            ) from error
        yield runner


def _result(future: "PrefectDaskFuture[Result]", runner: "DaskTaskRunner") -> Result:
    from distributed import CancelledError, KilledWorker

    address, resumes = runner.address, "What is done is kept: the same command resumes"
    waited: Any = future.wrapped_future
    while not waited.done():
        future.wait(PATIENCE)
        if not waited.done() and not runner.client.scheduler_info()["workers"]:
            raise AsdError(
                f"the Dask scheduler {address} has no worker: start some with "
                f"`dask worker {address} --nworkers auto --nthreads 1`. {resumes}"
            )
    try:
        return future.result()
    except KilledWorker as error:
        raise AsdError(
            f"the cluster {address} has lost {error.allowed_failures + 1} workers with the same task, so it gave up; "
            f"their logs say why, often the memory (`dask worker --memory-limit`). {resumes}"
        ) from error
    except RuntimeError as error:
        if "deserialization of the task graph" not in str(error):
            raise
        raise AsdError(
            f"the Dask scheduler {address} has another version of asd than this machine: install the same version "
            "there, and start it again"
        ) from error
    except CancelledError as error:
        raise AsdError(f"the Dask scheduler {address} has gone away. {resumes} when it is back") from error
