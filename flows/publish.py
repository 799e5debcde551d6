"""The flow `publish`: the Prefect UI and MLflow learn what `asd score` has found."""

from pathlib import Path
from typing import Any

from prefect import flow

from asdcore.storage.home import Home
from tasks import publishing
from tasks.warn import warn


@flow(name="publish")
def publish(scored: dict[str, Any], home: Path | None = None) -> None:
    """Publish a scoring run that is over: artifacts, events, drift over time.

    Args:
        scored: what the run did; see `tasks.scoring.Scored`.
        home: where the scores are; default ``ASD_HOME`` or ``.asd``.
    """
    place = Home.at(home) if home else Home.default()
    with place.synchronised(warn):
        publishing.publish(place, scored)  # type: ignore[arg-type]
