"""Prefect events of the pipeline, which start deployments."""

from typing import Any

from prefect.events import emit_event

from asdcore.storage.files import digest_of
from asdcore.storage.home import Home

ALARM = "asd.alarm.raised"
ARRIVED = "asd.recordings.arrived"
DRIFTED = "asd.drift.seen"
RETRAINING_DUE = "asd.retraining.due"


def tell(event: str, home: Home, payload: dict[str, Any]) -> None:
    """Emit an event about this home. Without a Prefect server it is a no-op."""
    resource = {"prefect.resource.id": f"asd.home.{digest_of(home.name)}", "prefect.resource.name": home.name}
    emit_event(event, resource=resource, payload={"home": home.name, **payload})
