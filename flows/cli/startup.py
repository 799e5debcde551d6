"""The start of a command that works on a home: Prefect and MLflow are configured before a flow is imported."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.console import err

if TYPE_CHECKING:
    from asdcore.storage.home import Home


def start(home: Path | None, below: str = "") -> "Home":
    """Open the home and configure Prefect and MLflow for it. Call it before importing a flow.

    Args:
        home: what ``--home`` says; default: ``ASD_HOME`` or ``.asd``.
        below: a home of its own within that one.
    """
    from asdcore.storage.home import Home
    from flows.environment import prepare

    place = Home.at(home) if home else Home.default()
    if below:
        place = Home.at(f"{place.name}/{below}")
    prepare(place, quiet=not os.environ.get("ASD_DEBUG"))
    return place


def announce_api() -> None:
    """Say what the wait is for where no Prefect server is named."""
    if not os.environ.get("PREFECT_API_URL"):
        err.print("Starting Prefect's API for this run ...", style="dim")
