"""What happens after the answer of a scoring run is printed."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from asdcore.errors import AsdError
from asdcore.storage.home import Home, without_userinfo
from flows.cli.console import err
from flows.cli.startup import prefect_server_named
from tasks.notification import notified

if TYPE_CHECKING:
    from tasks.scoring import Scored


def answered(write: Callable[[], None]) -> bool:
    """Write a part of the answer; whether that was possible.

    A disk that is full, or a pipe whose reader has gone away, must not keep a scoring run from being published, nor
    change the exit code of an alarm.
    """
    try:
        write()
        sys.stdout.flush()  # A pipe has the answer now.
    except (AsdError, OSError) as error:
        err.print(f"scored, but the answer was not written: {error}")
    except SystemExit:
        pass  # Of Rich, where the reader of a pipe has gone away: as after `asd score ... | head -1`.
    else:
        return True
    try:
        sys.stdout.flush()
    except OSError:
        # Python would try again when it ends, and end with another exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return False


def published(done: "Scored", place: Home) -> None:
    """Publish a scoring run, whose files are written, to the named servers, and send messages about incidents.

    The next scoring flow, or `asd ui`, adds to MLflow what is not there yet. A server that does not answer changes
    nothing of the answer, nor of the exit code.
    """
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
