"""Runs of a worker that was killed."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.states import Running

from flows.left_behind import RUN_VARIABLE, WORKER_LABEL, end_runs_left_behind, worker_name

pytestmark = pytest.mark.flow


@flow
def work() -> None:
    """What a worker runs."""


@pytest.fixture
def run(prefect_api: str) -> Callable[..., UUID]:
    """A run that is under way, of a worker."""

    def create(worker: str) -> UUID:
        with get_client(sync_client=True) as api:
            created = api.create_flow_run(work, state=Running())
            api.update_flow_run_labels(created.id, {WORKER_LABEL: worker})
            return created.id

    return create


@pytest.fixture
def process() -> Iterator[Callable[[UUID], "subprocess.Popen[bytes]"]]:
    """Start the process of a run."""
    started: list[subprocess.Popen[bytes]] = []

    def start(of: UUID) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | {RUN_VARIABLE: str(of)}))
        with get_client(sync_client=True) as api:
            api.update_flow_run(of, infrastructure_pid=str(started[-1].pid))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


def state(of: UUID) -> StateType:
    with get_client(sync_client=True) as api:
        found = api.read_flow_run(of).state
    assert found is not None
    return found.type


def test_a_run_whose_process_is_gone_has_crashed_and_one_that_goes_on_has_not(
    run: Callable[..., UUID], process: Callable[[UUID], "subprocess.Popen[bytes]"]
) -> None:
    worker = f"asd on plant, {uuid4()}"
    gone, goes_on, elsewhere = run(worker), run(worker), run(f"{worker} of another machine")
    for one in (gone, elsewhere):
        ended = process(one)
        ended.kill()
        ended.wait()
    process(goes_on)
    assert len(end_runs_left_behind(worker)) == 1
    assert [state(one) for one in (gone, goes_on, elsewhere)] == [
        StateType.CRASHED,
        StateType.RUNNING,
        StateType.RUNNING,
    ]


def test_a_process_that_has_got_the_number_of_one_that_is_gone_is_not_taken_for_it(
    run: Callable[..., UUID], process: Callable[[UUID], "subprocess.Popen[bytes]"]
) -> None:
    worker = f"asd on plant, {uuid4()}"
    gone, other = run(worker), run("another worker")
    number = process(other).pid
    with get_client(sync_client=True) as api:
        api.update_flow_run(gone, infrastructure_pid=str(number))
    end_runs_left_behind(worker)
    assert (state(gone), state(other)) == (StateType.CRASHED, StateType.RUNNING)


def test_a_run_that_has_no_process_yet_is_left_to_its_worker(run: Callable[..., UUID]) -> None:
    worker = f"asd on plant, {uuid4()}"
    begins = run(worker)
    assert end_runs_left_behind(worker) == [] and state(begins) == StateType.RUNNING


def test_workers_of_one_machine_have_one_name() -> None:
    other = [sys.executable, "-c", "from flows.left_behind import worker_name; print(worker_name())"]
    assert subprocess.check_output(other, text=True).strip() == worker_name()
