"""Notification: sends the messages about incidents, also those that could not be sent before."""

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from asdcore.progress import say
from asdcore.storage.home import Home

if TYPE_CHECKING:
    from asdcore.notification.outbox import Subscription


SECONDS_BETWEEN_MESSAGES = 30.0
"""between two looks of a program that keeps running at what waits"""


class Every:
    """Whether it is time to do something again, every so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether so many seconds have passed since it last was."""
        now = time.monotonic()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True


def notified(home: Home) -> None:
    """Send what waits to the channels of ``notify.yaml``. Nothing fails because of it: what was not sent still waits.

    Call it at every occasion: it takes milliseconds where nothing waits.
    """
    from asdcore.errors import AsdError
    from asdcore.notification.configuration import configuration_file, subscriptions

    file = configuration_file(home)
    if not home.incidents.exists() or not file.exists():
        return
    try:
        from asdcore.notification.outbox import deliver

        for name, error in deliver(home, *subscriptions(file)).items():
            say(f"{name} did not accept a message, which will be sent again: {error}")
    except AsdError as error:
        say(f"no message was sent: {error}")
    except Exception as error:
        if os.environ.get("ASD_DEBUG"):
            raise
        say(f"no message was sent: unexpected {type(error).__name__}: {error}")


def sent_tests(subscriptions: "dict[str, Subscription]", home: Home) -> dict[str, str]:
    """Send a test message to each channel at once, quiet hours or not: name, and why it failed; empty if it did not."""
    from asdcore.notification.message import Message, failure_to_send
    from asdcore.storage.files import digest_of

    answers = {}
    for name, subscription in subscriptions.items():
        at = datetime.now(UTC)
        message = Message(digest_of(name, at.isoformat()), "test", at, home.name)
        answers[name] = failure_to_send(subscription.channel, message)
    return answers
