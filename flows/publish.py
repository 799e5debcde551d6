"""The flow `publish`: the Prefect UI and MLflow learn what `asd score` has found."""

from pathlib import Path
from typing import Any

from prefect import flow

from asdcore.storage.home import Home
from tasks import publishing
from tasks.run_names import add_to_run_name, run_name
from tasks.warn import warn


@flow(name="publish", flow_run_name=run_name)
def publish(scored: dict[str, Any], home: Path | None = None) -> None:
    """Publish a scoring run that is over: artifacts, events, drift over time.

    Args:
        scored: what the run did; see `tasks.scoring.Scored`.
        home: where the scores are; default ``ASD_HOME`` or ``.asd``.
    """
    place = Home.at(home) if home else Home.default()
    with place.synchronised(warn):
        add_to_run_name(f" {publishing.summary(scored)}")  # type: ignore[arg-type]
        publishing.publish(place, scored)  # type: ignore[arg-type]
