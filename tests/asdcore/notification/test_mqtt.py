"""MQTT, with a real broker: events, retained states, login and encryption."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from iotcore import Broker
from paho.mqtt.enums import CallbackAPIVersion

from asdcore.errors import AsdError
from asdcore.notification.message import Message, NotDelivered
from asdcore.notification.mqtt import Mqtt
from tests.asdcore.notification.conftest import NOON, free_port, incident


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with Broker(port=free_port(), listen="127.0.0.1") as broker:
        yield broker.port


def received(port: int, topic: str, count: int, send: Any = lambda: None) -> list[tuple[str, bool, dict[str, Any]]]:
    """topic, whether it was retained, content: so many messages of a topic, of which ``send`` causes some."""
    messages: list[tuple[str, bool, dict[str, Any]]] = []
    subscribed, complete = threading.Event(), threading.Event()

    def take(client: Any, data: Any, message: paho.MQTTMessage) -> None:
        messages.append((message.topic, message.retain, json.loads(message.payload)))
        if len(messages) >= count:
            complete.set()

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = take
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        client.subscribe(topic, qos=1)
        assert subscribed.wait(10)
        send()
        assert complete.wait(10), messages
    finally:
        client.disconnect()
        client.loop_stop()
    return messages


def test_an_event_goes_to_the_topic_of_its_machine_and_the_state_stays_there(port: int, message: Message) -> None:
    event, state = received(port, "one/#", 2, lambda: Mqtt("127.0.0.1", port, "one").send(message))
    assert event[0] == "one/machine/pump/event" and event[2] == message.to_json()
    assert state[0] == "one/machine/pump/state" and (state[2]["state"], state[2]["open"]) == ("anomaly", 1)
    # A PLC that connects later is told at once.
    assert received(port, "one/machine/+/state", 1)[0] == ("one/machine/pump/state", True, state[2])


def test_the_state_is_ok_when_nothing_of_the_machine_is_open(port: int, message: Message) -> None:
    over = replace(message, event="closed", incidents=(incident(closed=NOON),), still_open=(incident("fan"),))
    Mqtt("127.0.0.1", port, "two").send(message)
    Mqtt("127.0.0.1", port, "two").send(over)
    assert received(port, "two/machine/pump/state", 1)[0][2]["state"] == "ok"


def test_each_machine_of_a_summary_gets_it_and_odd_names_are_one_level(port: int, message: Message) -> None:
    several = replace(message, event="summary", incidents=(incident("a/b"), incident("ü+#")), still_open=())
    topics = [
        topic for topic, *_ in received(port, "three/#", 4, lambda: Mqtt("127.0.0.1", port, "three").send(several))
    ]
    assert sorted(topics) == [f"three/machine/{name}/{what}" for name in ("a_b", "ü__") for what in ("event", "state")]


def test_what_belongs_to_no_machine_goes_to_the_home(port: int, message: Message) -> None:
    run = replace(incident(), machine="", subject="retrain", kind="failed run")
    failed = replace(message, incidents=(run,), still_open=(run,))
    event, state = received(port, "four/home/+", 2, lambda: Mqtt("127.0.0.1", port, "four").send(failed))
    assert event[0] == "four/home/event" and state[2]["state"] == "failed run"


def test_no_broker_and_a_wildcard_as_topic_are_errors(message: Message) -> None:
    with pytest.raises(NotDelivered, match=r"127\.0\.0\.1: .*refused"):
        Mqtt("127.0.0.1", free_port()).send(message)
    with pytest.raises(AsdError, match="topic 'asd/#'"):
        Mqtt("127.0.0.1", topic="asd/#")


@pytest.mark.parametrize("login", [{"user": "asd"}, {"password": "s3cret"}])
def test_a_login_never_crosses_the_network_unencrypted(login: dict[str, str]) -> None:
    with pytest.raises(AsdError, match=r"broker\.plant: a login needs tls: true") as raised:
        Mqtt("broker.plant", **login)  # type: ignore[arg-type]
    assert "s3cret" not in str(raised.value)
    Mqtt("broker.plant", tls=True, **login)  # type: ignore[arg-type]
    Mqtt("127.0.0.1", **login)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def guarded(certificates: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a broker that wants TLS and a password."""
    import trustme

    folder = tmp_path_factory.mktemp("broker")
    port = free_port()
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    (folder / "broker.toml").write_text(GUARDED.format(port=port, folder=folder))
    with Broker(config_path=str(folder / "broker.toml")) as broker:
        assert broker.port == port
        yield port


GUARDED = """
id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 1048576
max_segment_count = 10
[v4.1]
name = "tls"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
    [v4.1.tls]
    certpath = "{folder}/cert.pem"
    keypath = "{folder}/key.pem"
    [v4.1.connections]
    connection_timeout_ms = 5000
    max_payload_size = 20480
    max_inflight_count = 100
    dynamic_filters = true
    [v4.1.connections.auth]
    asd = "right"
"""


def test_it_logs_in_over_tls(guarded: int, message: Message, tmp_path_factory: pytest.TempPathFactory) -> None:
    ca = next(Path(tmp_path_factory.getbasetemp()).glob("broker*/ca.pem"))
    Mqtt("127.0.0.1", guarded, tls=True, user="asd", password="right", ca=ca).send(message)
    with pytest.raises(NotDelivered, match="refused the connection, or the login") as raised:
        Mqtt("127.0.0.1", guarded, tls=True, user="asd", password="wr0ng", ca=ca).send(message)
    assert "wr0ng" not in str(raised.value)
    with pytest.raises(NotDelivered, match="certificate verify failed"):
        Mqtt("127.0.0.1", guarded, tls=True, user="asd", password="right").send(message)
