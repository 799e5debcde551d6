"""Cached tasks on a Dask cluster, through Prefect's Dask task runner: the tasks are the same as on one machine."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prefect import Task
from prefect.settings import PREFECT_API_URL

from asdcore.errors import AsdError
from asdcore.progress import progress
from asdcore.storage.home import Home
from tasks.stage import Result

if TYPE_CHECKING:
    from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture

ADDRESS = "ASD_DASK"
"""The variable with the address of the scheduler, for example tcp://10.0.0.5:8786; not set: this machine alone."""
PATIENCE = 30
"""Seconds to wait for the scheduler, and for a cluster without a worker to get one."""


def cluster_address() -> str | None:
    return os.environ.get(ADDRESS) or None


def run_on_cluster(
    task: Task[..., Result], address: str, *, home: Home, works: Sequence[dict[str, Any]], what: str
) -> Iterator[Result]:
    """Run a cached task once for each of ``works`` (its arguments but ``home``) on the workers; yield in their order.

    A task whose worker dies is run anew by another: what it writes is named after its content, so nothing is doubled.
    Remembered results are not asked: ``works`` are what is known to be missing.

    Raises:
        AsdError: the extra is not installed, nobody answers or works, or the workers write elsewhere than in ``home``.
    """
    here = task.with_options(result_storage=home.prefect / "results", refresh_cache=True)
    with _runner(address) as runner:
        futures = [runner.submit(here, {"home": home, **work}) for work in works]
        for future in progress(futures, what):
            result = _result(future, runner)
            # Whether a file is there, not what is in it: to read it back would take as long as to make it.
            if not all((home.root / path).is_file() for path in result["files"]):
                raise AsdError(
                    f"the workers of {address} wrote files that are not in {home.root}: the home has to be a folder "
                    "that all machines share, under the same path (NFS, for example)"
                )
            yield result


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

    address, goes_on = runner.address, "What is done is kept: the same command goes on"
    waited: Any = future.wrapped_future
    while not waited.done():
        future.wait(PATIENCE)
        if not waited.done() and not runner.client.scheduler_info()["workers"]:
            raise AsdError(
                f"the Dask scheduler {address} has no worker: start some with "
                f"`dask worker {address} --nworkers auto --nthreads 1`. {goes_on}"
            )
    try:
        return future.result()
    except KilledWorker as error:
        raise AsdError(
            f"the cluster {address} has lost {error.allowed_failures + 1} workers with the same task, so it gave up; "
            f"their logs say why, often the memory (`dask worker --memory-limit`). {goes_on}"
        ) from error
    except CancelledError as error:
        raise AsdError(f"the Dask scheduler {address} has gone away. {goes_on} when it is back") from error
