"""Runs that an automation started, and that still wait for their turn when their work is already done."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

AUTOMATION = "AUTOMATION"
WAITING = "AwaitingConcurrencySlot"
"""name of the state of a run that waits for the only slot of its deployment"""


@contextmanager
def instead_of_waiting_runs() -> Iterator[None]:
    """Delete the runs that wait for this one to end, once the block has done their work.

    Events can start runs faster than runs end: each batch of recordings that arrives starts one, and each run works on
    everything that is there. Waiting runs would pile up, and keep the server and the worker busy.

    Enter the block before anything is read: only the runs that wait then are deleted, not those that a later event
    starts. They belong to the same deployment, have the same parameters, and were started by an automation, not by a
    person. An error in the block keeps them. It is a no-op for a run without a deployment.
    """
    waiting = _waiting()
    yield
    # If the server does not answer, the next run deletes them.
    with suppress(httpx.HTTPError), get_client(sync_client=True) as api:
        for run in waiting:
            with suppress(ObjectNotFound):
                api.delete_flow_run(run)


def _waiting() -> list[UUID]:
    if not flow_run.id:
        return []
    with suppress(httpx.HTTPError), get_client(sync_client=True) as api:
        own = api.read_flow_run(UUID(flow_run.id))
        if own.deployment_id is None:
            return []
        found = api.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[own.deployment_id]),
                state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[WAITING])),
            )
        )
        return [
            run.id
            for run in found
            if run.created_by and run.created_by.type == AUTOMATION and run.parameters == own.parameters
        ]
    return []
