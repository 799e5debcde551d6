"""Runs that a worker of this machine has left behind when it was killed, or the machine was switched off."""

import socket
from contextlib import suppress
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed

from asdcore.storage.files import digest_of

WORKER_LABEL = "prefect.worker.name"
RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"


def worker_name() -> str:
    """The name of a worker, the same for all in which a process id means the same process.

    That is those of one start of one machine, or of one container: another one may have the same host name.
    """
    kernel = ""
    with suppress(OSError):  # Only Linux says it.
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text() + str(Path("/proc/self/ns/pid").readlink())
    return f"asd on {socket.gethostname()}, {digest_of(kernel)[:8]}"


def end_runs_left_behind(worker: str) -> list[str]:
    """Set the runs of workers of this name to Crashed whose processes are gone; their names.

    They would hold the only place of their deployment until the server misses their heartbeat. A run of which it is
    not certain that it has ended is left to that.
    """
    states = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    with get_client(sync_client=True) as api:
        found = api.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)))
        )
        ended = [run for run in found if run.labels.get(WORKER_LABEL) == worker and _has_ended(run)]
        for run in ended:
            api.set_flow_run_state(run.id, Crashed(message="its process was killed, or the machine was switched off"))
    return [run.name for run in ended]


def _has_ended(run: FlowRun) -> bool:
    """Whether there is certainly no process of a run of this machine; where that is not Linux, nobody knows."""
    number = run.infrastructure_pid or ""
    if not number.isdigit() or not Path("/proc/self/environ").exists():
        return False
    try:
        return f"{RUN_VARIABLE}={run.id}".encode() not in Path("/proc", number, "environ").read_bytes().split(b"\0")
    except FileNotFoundError:
        return True
    except OSError:
        return False
