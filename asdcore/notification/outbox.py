"""The outbox: messages that are still to be sent, each to every channel once, in their order."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import cast

from filelock import FileLock, Timeout

from asdcore.monitoring.incident_store import StoredMessage, changing, reading
from asdcore.monitoring.incidents import Incident, Kind, open_incidents
from asdcore.notification.message import Channel, Event, Message, failure_to_send
from asdcore.notification.quiet_hours import QuietHours
from asdcore.progress import say
from asdcore.storage.files import digest_of
from asdcore.storage.home import Home

FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=30), timedelta(hours=1)
"""time until the next attempt after the first failure in a row; doubled with each of them, at most the second"""
KEPT = timedelta(days=7)
"""How long a message waits. Nobody wants to be told later, and the outbox of a channel that is gone must not grow."""
SECONDS_TO_WAIT = 30
"""for another process that is sending"""


@dataclass(frozen=True)
class Subscription:
    """A channel, and which messages it gets when."""

    channel: Channel
    quiet: QuietHours = field(default_factory=QuietHours)
    kinds: Sequence[Kind] = ()
    """of incidents; empty: all"""


def deliver(
    home: Home,
    subscriptions: Mapping[str, Subscription],
    since: datetime,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    at_once: bool = False,
) -> dict[str, str]:
    """Send what waits to every channel that is not quiet, and not waiting for its next attempt.

    A message is marked as sent when the channel has taken it: a process that is killed in between lets the next one
    send it again, with the same id.

    Args:
        home: whose messages.
        subscriptions: name: channel.
        since: a channel that is new gets what has happened since this time.
        clock: the time, with a time zone.
        at_once: try a channel that has failed again, whenever that was; quiet hours are kept.

    Returns:
        name of a channel: why its next message was not delivered; empty if all is well.

    Raises:
        AsdError: see `asdcore.monitoring.incident_store.changing`.
    """
    if not _something_waits(home, subscriptions):
        return {}
    with changing(home) as stored:
        for name, lost in stored.expire(clock() - KEPT).items():
            say(f"{name}: {lost} messages were not delivered within {KEPT.days} days, and are discarded")
        for name in subscriptions:
            stored.subscribe(name, since)
    failures = {}
    for name, subscription in subscriptions.items():
        try:
            # One after the other: two processes at once would send a message twice, or in another order.
            with FileLock(home.root / f"notify-{name}.lock", timeout=SECONDS_TO_WAIT):
                failed = _deliver_to(home, name, subscription, clock, at_once)
        except Timeout:
            continue  # The process that holds it sends what waits, or tries again later.
        if failed:
            failures[name] = failed
    return failures


def waiting(home: Home, name: str) -> tuple[int, tuple[datetime, str] | None]:
    """How many messages wait for a channel; when it tries again and its last error, None if it did not fail."""
    with reading(home) as stored:
        return (0, None) if stored is None else (len(stored.messages(name)), stored.failure(name))


def _something_waits(home: Home, subscriptions: Mapping[str, Subscription]) -> bool:
    with reading(home) as stored:
        return stored is not None and any(not stored.knows(name) or stored.messages(name) for name in subscriptions)


def _deliver_to(home: Home, name: str, subscription: Subscription, clock: Callable[[], datetime], at_once: bool) -> str:
    """Send what waits for one channel; why it failed, empty if it did not."""
    while True:
        with reading(home) as stored:
            pending = stored.messages(name) if stored is not None else []
            failure = stored.failure(name) if stored is not None else None
        now = clock()
        pausing = failure is not None and now < failure[0] and not at_once
        if not pending or subscription.quiet.at(now) or pausing:
            return ""
        held = list(takewhile(lambda one: subscription.quiet.at(one.at), pending))
        batch = held or pending[:1]
        message = _message(home, batch, subscription.kinds)
        failed = failure_to_send(subscription.channel, message) if message is not None else ""
        with changing(home) as stored:
            if failed:
                stored.failed(name, failed, now, _pause)
                return failed
            stored.sent(name, batch[-1].n)


def _message(home: Home, batch: Sequence[StoredMessage], kinds: Sequence[Kind]) -> Message | None:
    """One message of what waits; None if the channel does not want it."""
    found = [(one, Incident.from_json(json.loads(one.json))) for one in batch]
    found = [(one, incident) for one, incident in found if not kinds or incident.kind in kinds]
    if not found:
        return None
    # An incident that opened and closed in quiet hours is sent as it is now.
    latest = {incident.id: incident for _, incident in found}
    last = found[-1][0]
    if len(found) == 1:
        name, event = last.id, cast("Event", last.event)
    else:
        name, event = digest_of(*(one.id for one, _ in found)), "summary"
    return Message(name, event, last.at, home.name, tuple(latest.values()), tuple(open_incidents(home)))


def _pause(failures: int) -> timedelta:
    """The time until the next attempt, after so many earlier failures in a row."""
    return min(FIRST_RETRY * (1 << min(failures, 10)), LONGEST_RETRY)
