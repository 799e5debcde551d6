"""A message about incidents, and what a channel is that sends it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from asdcore.monitoring.incidents import Incident
from asdcore.terminal import visible

SCHEMA = "asd.notification"
VERSION = 1
"""of the JSON; a change that a receiver could stumble over makes it one more"""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""hosts to which a secret may go unencrypted"""
Event = Literal["opened", "closed", "summary", "test"]


@dataclass(frozen=True)
class Message:
    """What is sent: an incident that has opened or closed, a summary of several after quiet hours, or a test."""

    id: str
    """the same when the message is sent again: a receiver that knows it already ignores it"""
    event: Event
    at: datetime
    """when it happened; of a summary, when the last of it did"""
    home: str
    incidents: Sequence[Incident] = ()
    """one of an incident, several of a summary, none of a test"""
    still_open: Sequence[Incident] = ()
    """all incidents that last when the message is sent"""

    @property
    def title(self) -> str:
        """A few words, in one line."""
        if self.event == "test":
            return "test message"
        if self.event == "summary":
            n, lasting = len(self.incidents), sum(incident.is_open for incident in self.incidents)
            return f"{n} incident{'s' * (n > 1)} during quiet hours, {lasting} still open"
        return one_line(f"{headline(self.incidents[0])}{'' if self.incidents[0].is_open else ' is over'}")

    @property
    def text(self) -> str:
        """One line; of a summary, one more per incident."""
        if self.event == "test":
            return f"This is a test message of asd for {self.home}."
        lines = [line(incident) for incident in self.incidents]
        return "\n".join([f"{self.title}:", *lines]) if self.event == "summary" else lines[0]

    def to_json(self) -> dict[str, Any]:
        """The JSON that webhooks and MQTT send."""
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "id": self.id,
            "event": self.event,
            "at": self.at.isoformat(timespec="seconds"),
            "home": self.home,
            "title": self.title,
            "text": self.text,
            "incidents": [incident.to_json() for incident in self.incidents],
        }


class NotDelivered(Exception):
    """A message was not delivered, and is tried again. The text contains no secret: it is stored and shown."""


class Channel(Protocol):
    """Something that delivers messages."""

    def send(self, message: Message) -> None:
        """Deliver a message.

        Raises:
            NotDelivered: it may not have arrived.
        """


def failure_to_send(channel: Channel, message: Message) -> str:
    """Send a message; why it was not delivered, without secrets, empty if it was."""
    try:
        channel.send(message)
    except NotDelivered as error:
        return str(error)
    except Exception as error:
        # Such as of smtplib for a password with an umlaut. The other channels must not fail with it, and its text may
        # contain a secret.
        return f"unexpected {type(error).__name__}"
    return ""


def headline(incident: Incident) -> str:
    """What an incident is, in a few words."""
    return incident.kind if incident.subject == "challenger" else f"{incident.subject}: {incident.kind}"


def line(incident: Incident) -> str:
    """What an incident is, in one line."""
    if incident.closed is None:
        return one_line(f"{headline(incident)}: {incident.sentence}")
    lasted = _duration((incident.closed - incident.opened).total_seconds())
    return one_line(f"{headline(incident)} is over after {lasted}, closed by {incident.closed_by}: {incident.sentence}")


def one_line(text: str) -> str:
    """Without line breaks and with control characters as escapes: the name of a file may contain both."""
    return visible(" ".join(text.split()))


def _duration(seconds: float) -> str:
    """A length of time in two units at most.

    >>> _duration(40), _duration(4000), _duration(200_000)
    ('0 min', '1 h 6 min', '2 d 7 h')
    """
    minutes = int(seconds // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
