"""A run that fails opens an incident, and the next one that completes closes it."""

from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State

from asdcore.monitoring.incidents import run_completed, run_failed
from asdcore.storage.home import Home, without_userinfo
from tasks.incidents import unfailing
from tasks.notification import notified


def failed(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of a flow whose run has failed. Where a person waits for the run, no incident is needed.

    `asd watch` opens its own incidents, see `flows.attempts`. A process that has crashed cannot say so: see
    `report_crash`.
    """
    if flow_run.deployment_id is not None:
        tell_failure(_home(flow_run), flow.name, flow_run, state)


def completed(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of a flow whose run has completed."""
    home = _home(flow_run)
    unfailing(lambda: run_completed(home, flow.name))
    notified(home)


@flow(name="report-crash")
def report_crash(flow_run_id: UUID, home: Path | None = None) -> None:
    """Open an incident about a run that has crashed.

    Args:
        flow_run_id: of the run.
        home: where incidents are kept, if the run does not say; default ``ASD_HOME`` or ``.asd``.
    """
    with get_client(sync_client=True) as api:
        run = api.read_flow_run(flow_run_id)
        name = api.read_flow(run.flow_id).name
    # One that is cancelled has Crashed for a moment, until its worker says why.
    if run.state is not None and run.state.is_crashed():
        tell_failure(_home(run, home), name, run, run.state)


def tell_failure(home: Home, flow: str, run: FlowRun, state: State[Any]) -> None:
    """Open an incident about a run, or update the open one of its flow, and send it."""
    reason = (state.message or "no reason was given").removeprefix("Flow run encountered an exception: ")
    sentence = f"run {run.name} {(state.name or state.type.value).lower()}: {reason}"
    unfailing(lambda: run_failed(home, flow, without_userinfo(sentence)[:1000]))
    notified(home)


def _home(run: FlowRun, default: Path | None = None) -> Home:
    home = (run.parameters or {}).get("home") or default
    return Home.at(home) if home else Home.default()
