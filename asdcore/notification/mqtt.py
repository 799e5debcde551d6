"""Messages by MQTT: an event for each incident, and a retained state of each machine."""

import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asdcore.errors import AsdError
from asdcore.monitoring.incidents import KINDS, Incident
from asdcore.notification.message import LOOPBACK, Message, NotDelivered
from asdcore.terminal import visible

SECONDS = 10
"""for the connection, and for each acknowledgement"""
AT_LEAST_ONCE = 1
"""quality of service"""


@dataclass(frozen=True)
class Mqtt:
    """A channel to an MQTT broker (3.1.1). It needs paho-mqtt: ``pip install 'asd[mqtt]'``.

    Topics below ``topic``: ``machine/NAME/event`` and ``home/event`` get what a webhook gets, and the retained
    ``machine/NAME/state`` and ``home/state`` say what is open.

    Args:
        host: of the broker.
        port: default: 1883, or 8883 with TLS.
        topic: what all topics begin with.
        tls: encrypt, and check the broker's certificate.
        user: who logs in; empty: nobody.
        password: of the user.
        ca: PEM file of the authority that signed the broker's certificate; default: those of the system.

    Raises:
        AsdError: a topic with a wildcard, or a login that would cross the network unencrypted.
    """

    host: str
    port: int | None = None
    topic: str = "asd"
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    ca: Path | None = None

    def __post_init__(self) -> None:
        if not self.topic or set("+#\0") & set(self.topic):
            raise AsdError(f"MQTT topic {self.topic!r}: must not be empty or contain + or #")
        if (self.user or self.password) and not self.tls and self.host not in LOOPBACK:
            raise AsdError(f"MQTT over {self.host}: a login needs tls: true, or everybody can read it")

    def send(self, message: Message) -> None:
        """Publish events, then states, and wait until the broker has acknowledged each of them."""
        try:
            import paho.mqtt.client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        except ModuleNotFoundError:
            raise NotDelivered("MQTT needs a package: pip install 'asd[mqtt]'") from None
        answer, reasons = threading.Event(), list[Any]()

        def answered(client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
            reasons.append(reason)
            answer.set()

        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311, reconnect_on_failure=False)
        # Some brokers answer a wrong password by closing the connection.
        client.on_connect = client.on_disconnect = answered
        client.connect_timeout = SECONDS
        if self.user:
            client.username_pw_set(self.user, self.password)
        try:
            if self.tls:
                client.tls_set_context(ssl.create_default_context(cafile=self.ca))
            client.connect(self.host, self.port or (8883 if self.tls else 1883))
            client.loop_start()
            try:
                if not answer.wait(SECONDS):
                    raise NotDelivered(f"{self.host} did not answer in time")
                if reasons[0].is_failure:
                    raise NotDelivered(f"{self.host} refused the connection, or the login: {reasons[0]}")
                for topic, payload, retain in self._publications(message):
                    sent = client.publish(topic, payload, qos=AT_LEAST_ONCE, retain=retain)
                    sent.wait_for_publish(SECONDS)
                    if not sent.is_published():
                        raise NotDelivered(f"{self.host} did not acknowledge in time")
                client.disconnect()
            finally:
                client.loop_stop()
        except (OSError, ValueError, RuntimeError) as error:
            raise NotDelivered(f"{self.host}: {type(error).__name__}: {error}"[:300]) from None

    def _publications(self, message: Message) -> Iterator[tuple[str, bytes, bool]]:
        """topic, payload, whether it is retained."""
        if not message.incidents:
            yield f"{self.topic}/home/event", _json(message.to_json()), False
        for incident in message.incidents:
            yield f"{self.topic}/{_place(incident)}/event", _json(message.to_json()), False
        for place, machine in {_place(incident): incident.machine for incident in message.incidents}.items():
            yield f"{self.topic}/{place}/state", _json(state(message, machine)), True


def state(message: Message, machine: str) -> dict[str, Any]:
    """What is open of a machine, or, for an empty name, of the home.

    ``state`` is ``ok`` or the most serious kind that is open.
    """
    lasting = [incident for incident in message.still_open if incident.machine == machine]
    kinds = [incident.kind for incident in lasting]
    return {
        "schema": "asd.state",
        "version": 1,
        "machine": machine,
        "state": next((kind for kind in KINDS if kind in kinds), "ok"),
        "open": len(lasting),
        "incidents": [incident.to_json() for incident in lasting],
    }


def _place(incident: Incident) -> str:
    # + and # are wildcards, / is a level, and brokers may close the connection for a control character.
    name = "".join("_" if sign in "+#/\t\n" or visible(sign) != sign else sign for sign in incident.machine)
    return f"machine/{name}" if name else "home"


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
