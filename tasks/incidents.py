"""Incidents that follow from scoring runs; see `asdcore.monitoring.following`."""

import os
from collections.abc import Callable

from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.monitoring.following import Rule, begin_following, follow
from asdcore.normality.threshold import Threshold
from asdcore.progress import say
from asdcore.storage.home import Home

UNKNOWN = Rule(Threshold(0.01), streak=4)
"""of a machine that an earlier scoring run has scored, and that has been retired since"""


def ready(home: Home) -> None:
    """Call it before a scoring run stores anything."""
    unfailing(lambda: begin_following(home))


def followed(home: Home, detector: Detector) -> None:
    """Let incidents follow from what has been stored. The scores are: an error here must not hide them."""

    def rule_of(machine: str) -> Rule:
        model = detector.machines.get(machine)
        return Rule.of(detector.threshold_of(machine), model.calibration) if model else UNKNOWN

    unfailing(lambda: follow(home, rule_of))


def unfailing(work: Callable[[], object]) -> None:
    """Do something about incidents that the work which led to it must not fail with."""
    try:
        work()
    except (AsdError, OSError) as error:
        say(f"no incident was opened or closed: {error}")
    except Exception as error:
        if os.environ.get("ASD_DEBUG"):
            raise
        say(f"no incident was opened or closed: unexpected {type(error).__name__}: {error}")
