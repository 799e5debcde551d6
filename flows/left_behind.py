"""Runs that a worker of this computer left behind when it was killed, or when the computer was switched off."""

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
    """The name of a worker, the same for all workers that share process ids.

    These are the workers of one boot of one computer, or of one container; others may have the same host name.
    """
    kernel = ""
    with suppress(OSError):  # Only Linux has them.
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text() + str(Path("/proc/self/ns/pid").readlink())
    return f"asd on {socket.gethostname()}, {digest_of(kernel)[:8]}"


def end_runs_left_behind(worker: str) -> list[str]:
    """Set runs of workers of this name to Crashed if their processes are gone; return the names of these runs.

    They would occupy the only slot of their deployment until the server misses their heartbeat. A run that has not
    certainly ended is left to that.
    """
    states = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    with get_client(sync_client=True) as api:
        found = api.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)))
        )
        ended = [run for run in found if run.labels.get(WORKER_LABEL) == worker and _has_ended(run)]
        for run in ended:
            api.set_flow_run_state(run.id, Crashed(message="its process was killed, or the computer was switched off"))
    return [run.name for run in ended]


def _has_ended(run: FlowRun) -> bool:
    """Whether a run of this computer certainly has no process; only Linux can tell."""
    number = run.infrastructure_pid or ""
    if not number.isdigit() or not Path("/proc/self/environ").exists():
        return False
    try:
        return f"{RUN_VARIABLE}={run.id}".encode() not in Path("/proc", number, "environ").read_bytes().split(b"\0")
    except FileNotFoundError:
        return True
    except OSError:
        return False
