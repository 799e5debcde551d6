"""Names of flow runs in the Prefect UI: what is done, and to what, instead of two random words."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from asdcore.recordings.listing import AUDIO_SUFFIXES

MOST_NAMED = 3
"""machines; more are counted"""


def run_name() -> str:
    """The name of the flow run that begins, from its flow and its parameters."""
    return " ".join(filter(None, [str(flow_run.flow_name or ""), subject(flow_run.parameters or {})]))


def subject(parameters: dict[str, Any]) -> str:
    """What a flow works on, by its parameters.

    >>> subject({"recordings": Path("/data/plant"), "machines": None})
    'plant'
    >>> subject({"recordings": [Path("a.wav"), Path("b.wav")], "machine": "pump"})
    '2 recordings of pump'
    >>> subject({"machine": "pump", "recordings": None}), subject({"machines": ["fan", "pump"]}), subject({})
    ('pump', 'of fan, pump', '')
    """
    recordings, machine = parameters.get("recordings"), parameters.get("machine")
    arrived, machines = parameters.get("arrived"), parameters.get("machines")
    places = [recordings] if isinstance(recordings, str | Path) else list(recordings or [])
    kind = "recording" if all(Path(place).suffix.lower() in AUDIO_SUFFIXES for place in places) else "place"
    where = Path(places[0]).name if len(places) == 1 else counted(len(places), kind) if places else ""
    if arrived:
        return f"{counted(len(arrived), 'file')} that arrived in {where}"
    if machine:
        # `enroll` is of a machine, `score` of recordings.
        return f"{where} of {machine}" if isinstance(recordings, list) else str(machine)
    return " ".join(filter(None, [where, f"of {named(machines)}" if machines else ""]))


def named(machines: Collection[str]) -> str:
    """A few machines by name, more of them as a count.

    >>> named(["fan", "pump"]), named(["a", "b", "c", "d"])
    ('fan, pump', '4 machines')
    """
    return ", ".join(sorted(machines)) if len(machines) <= MOST_NAMED else counted(len(machines), "machine")


def counted(n: int, what: str) -> str:
    """
    >>> counted(1, "machine"), counted(8, "machine")
    ('1 machine', '8 machines')
    """
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def add_to_run_name(text: str) -> None:
    """Let the name of this flow run end with what is only known now. Outside of a flow run it is a no-op."""
    if not flow_run.id:
        return
    # A name is not worth a failed run.
    with suppress(httpx.HTTPError), get_client(sync_client=True) as api:
        api.update_flow_run(UUID(flow_run.id), name=f"{run_name()}{text}")
