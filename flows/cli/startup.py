"""The start of a command that works on a home: Prefect and MLflow are configured before a flow is imported."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def imports() -> Iterator[None]:
    """Import at once: the garbage collector leaves alone what the block imports, now and when the program ends.

    It would look at the million objects of PyTorch and pandas again and again, which takes a third of the time of
    `asd score`.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def prefect_server_named() -> bool:
    """Whether there is a Prefect server; without one, a flow starts one for itself alone."""
    return bool(os.environ.get("PREFECT_API_URL"))


def warn_of_a_share(home: "Home") -> None:
    """Warn if the databases of the home are on a network share."""
    from asdcore.storage.shares import share_of

    if kind := share_of(home.root):
        err.print(
            f"{home.root} is on a network share ({kind}), where SQLite and file locks cannot be relied on: use it "
            "from one computer only, or keep the home on a local disk. Recordings may stay on the share.",
            style="yellow",
        )


@contextmanager
def prefect_server(home: "Home") -> Iterator[None]:
    """The Prefect server that flows of the block run on; if none is configured, says what the wait is for."""
    from flows.private_server import prefect_server as server

    warn_of_a_share(home)
    if not prefect_server_named():
        err.print("Starting Prefect's API for this run ...", style="dim")
    with server(home):
        yield
