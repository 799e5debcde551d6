"""The champion looks at what is about to become normal training data, before anything is learned from it.

Neither Prefect nor MLflow is imported here, and PyTorch only where there is something to look at.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asdcore.errors import AsdError
from asdcore.normality.machine import NORMAL
from asdcore.recordings.catalog import Review
from asdcore.recordings.rows import DETECTOR
from asdcore.storage.home import Home
from tasks.registered import CHAMPION, load_detector, registered_models


def champions_review(home: Home, say: Callable[[str], None]) -> Review:
    """A `Review` by the champion: what it calls suspect or anomalous waits for a person.

    Machines that the champion does not know, recordings that it was fitted on, and those that it cannot score, are
    passed over; so is everything where there is no champion.

    Args:
        home: where the registry is; synchronised when the review is called.
        say: called with a message if the champion cannot be used.
    """

    def review(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
        if not any(CHAMPION in model["alias"].split(", ") for model in registered_models(home)):
            return {}
        try:
            detector, version = load_detector(home)
        except AsdError as error:
            say(f"nothing was judged before it was added: {error}")
            return {}
        doubted: dict[str, str] = {}
        for machine in sorted({str(row["machine"]) for row in rows} & set(detector.machines)):
            files = [Path(str(row["path"])) for row in rows if row["machine"] == machine]
            for heard in detector.listen(files, machine):
                strange = not heard.reason and heard.verdict["verdict"] != NORMAL
                if strange and not heard.verdict["in_training"]:
                    doubted[heard.recording] = f"{DETECTOR}{version}"
        return doubted

    return review
