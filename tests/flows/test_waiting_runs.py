"""Runs that wait for a run which does what they are to do."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.states import AwaitingConcurrencySlot, Running, Scheduled

from tasks.waiting_runs import instead_of_waiting_runs

pytestmark = pytest.mark.flow


@flow
def take_all(folder: str = "a") -> None:
    """A flow that a deployment runs."""


@pytest.fixture
def started(prefect_api: str) -> Callable[..., UUID]:
    """Start a run of a deployment, as an automation does or as a person does; give it a state."""
    with get_client(sync_client=True) as api:
        pool = api.create_work_pool(WorkPoolCreate(name=f"pool-{uuid4()}", type="process"))
        flow_id = api.create_flow(take_all)
        deployment = api.create_deployment(flow_id, f"take-all-{uuid4()}", work_pool_name=pool.name)

    def start(state: Any, *, folder: str = "a", automatic: bool = True) -> UUID:
        name = b64encode(b"what has arrived is taken").decode()
        headers = {"prefect-automation-id": str(uuid4()), "prefect-automation-name": name} if automatic else {}
        with get_client(sync_client=True, httpx_settings={"headers": headers}) as api:
            run = api.create_flow_run_from_deployment(deployment, parameters={"folder": folder})
            api.set_flow_run_state(run.id, state, force=True)
            return run.id

    return start


def still_there(runs: list[UUID]) -> list[UUID]:
    with get_client(sync_client=True) as api:
        return [run.id for run in api.read_flow_runs() if run.id in runs]


def test_only_runs_that_waited_before_it_began_are_deleted_and_only_automatic_ones_that_would_do_the_same(
    started: Callable[..., UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = started(Running())
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(own))
    waiting = [started(AwaitingConcurrencySlot(scheduled_time=None)) for _ in range(3)]
    others = [
        started(Scheduled()),
        started(AwaitingConcurrencySlot(scheduled_time=None), folder="b"),
        started(AwaitingConcurrencySlot(scheduled_time=None), automatic=False),
    ]
    with instead_of_waiting_runs():
        assert len(still_there(waiting)) == 3
        others.append(started(AwaitingConcurrencySlot(scheduled_time=None)))
    assert still_there(waiting) == []
    assert sorted(still_there([own, *others])) == sorted([own, *others])


def test_runs_stay_that_wait_for_one_that_fails(started: Callable[..., UUID], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(started(Running())))
    waiting = started(AwaitingConcurrencySlot(scheduled_time=None))
    with pytest.raises(ValueError, match="damaged"), instead_of_waiting_runs():
        raise ValueError("damaged")
    assert still_there([waiting]) == [waiting]


def test_without_a_deployment_nothing_is_deleted(prefect_api: str) -> None:
    @flow
    def by_hand() -> str:
        with instead_of_waiting_runs():
            return "done"

    assert by_hand() == "done"
