"""The champion looks at what is about to become normal training data, before anything is learned from it.

Neither Prefect nor MLflow is imported here, and PyTorch only where there is something to look at.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asdcore.errors import AsdError
from asdcore.recordings.catalog import Review
from asdcore.recordings.formats import NOT_COMPARED
from asdcore.recordings.found import DETECTOR
from asdcore.storage.home import Home
from asdcore.threads import one_blas_thread
from tasks.registered import CHAMPION, load_detector, registered_models

NOT_JUDGED = f"{DETECTOR}unknown"
"""``labelled_by`` of recordings that are pending review because the champion could not be used, or not for them"""


def champions_review(home: Home, say: Callable[[str], None]) -> Review:
    """A `Review` by the champion: what it calls suspect or anomalous is pending review.

    See `asdcore.monitoring.learned.to_decide`. So is what it cannot compare with its training recordings, such as
    those of a lossy codec. Machines that the champion does not know, recordings that it was fitted on, and those that
    it cannot read are skipped; so is everything if there is no champion. If there may be one that
    cannot be used, everything is pending review, since what was added is not judged later.

    Args:
        home: where the registry is; synchronised when the review is called.
        say: called with a message if the champion cannot be used, or finds recordings strange together.
    """

    def review(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
        try:
            if not any(CHAMPION in model["alias"].split(", ") for model in registered_models(home)):
                return {}
            detector, version = load_detector(home)
        except AsdError as error:
            say(f"the champion could not judge what is new, so all of it is pending review: {error}")
            return dict.fromkeys((str(row["recording"]) for row in rows), NOT_JUDGED)
        # Only here: most ingests find nothing new.
        from asdcore.monitoring.learned import to_decide

        doubted: dict[str, str] = {}
        for machine in sorted({str(row["machine"]) for row in rows} & set(detector.machines)):
            own = {str(row["recording"]): row for row in rows if row["machine"] == machine}
            with one_blas_thread():
                table = detector.score([Path(str(row["path"])) for row in own.values()], machine)
            other_format = table["recording"].isin(list(own)) & table["reason"].str.startswith(NOT_COMPARED)
            doubted |= dict.fromkeys(table.loc[other_format, "recording"], NOT_JUDGED)
            table = table[table["recording"].isin(list(own)) & ~table["in_training"].fillna(True)]
            table = table.assign(session=[own[recording]["session"] for recording in table["recording"]])
            rate = detector.threshold_of(machine).false_alarm_rate
            recordings, objections = to_decide(machine, detector.machines[machine].calibration, table, rate)
            doubted |= dict.fromkeys(recordings, f"{DETECTOR}{version}")
            for objection in objections:
                say(objection)
        return doubted

    return review
