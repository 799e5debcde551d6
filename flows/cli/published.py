"""What happens while and after the answer of a scoring run is printed."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pandas as pd

from asdcore.errors import AsdError
from asdcore.recordings.listing import summed_up
from asdcore.storage.home import Home, without_userinfo
from flows.cli.console import err
from flows.cli.show import MOST_ROWS
from flows.cli.startup import prefect_server_named
from tasks.notification import notified
from tasks.scoring import not_enrolled_sentences

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


def complaints(done: "Scored", scores: pd.DataFrame) -> Iterator[str]:
    """What stderr says of a scoring run: what was not scored and why, what was left out, and the alarms."""
    if unscored := done["failed"] - len(done["refused"]):
        for row in scores[scores["score"].isna()].head(MOST_ROWS).to_dict("records"):
            yield f"not scored: {row['path']}: {row['reason']}"
        if unscored > MOST_ROWS:
            yield f"not scored: {unscored - MOST_ROWS} more; the table of scores has the reasons"
    yield from (f"not scored: {line}" for line in done["refused"])
    for line in not_enrolled_sentences(done["not_enrolled"]):
        yield f"not scored: {line}: `asd enroll` it, or name the machine with --machine"
    yield from (f"left out: {line}" for line in summed_up(done["left_out"]))
    yield from (f"alarm: {machine}: {sentence}" for machine, sentence in done["alarms"].items())


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
