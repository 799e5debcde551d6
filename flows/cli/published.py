"""What happens after the answer of a scoring run is printed."""

import os
import sys
from typing import TYPE_CHECKING

from asdcore.storage.home import Home, without_userinfo
from flows.cli.console import err
from flows.cli.startup import prefect_server_named
from tasks.notification import notified

if TYPE_CHECKING:
    from tasks.scoring import Scored


def published(done: "Scored", place: Home) -> None:
    """Publish a scoring run, whose files are written, to the named servers, and send messages about incidents.

    The next scoring flow, or `asd ui`, adds to MLflow what is not there yet. A server that does not answer changes
    nothing of the answer, nor of the exit code.
    """
    sys.stdout.flush()  # A pipe has the answer now.
    try:
        if prefect_server_named():
            from flows.publish import publish

            publish(scored=dict(done), home=place.root)
        elif os.environ.get("MLFLOW_TRACKING_URI"):
            from tasks.publishing import log_drift, log_report

            log_drift(place)
            log_report(place, done["report"])
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("ASD_DEBUG"):
            raise
        err.print(f"scored, but not published: {type(error).__name__}: {without_userinfo(error)}")
    notified(place)
