"""Webhooks: JSON of the documented form, signed, tried again, and silent about what is secret."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest

from asdcore.errors import AsdError
from asdcore.notification.message import Message, NotDelivered
from asdcore.notification.webhook import Webhook

KEY = base64.b64encode(bytes(range(32))).decode()


def test_it_posts_the_documented_json(receiver: Any, message: Message) -> None:
    Webhook(f"http://127.0.0.1:{receiver.port}/hook").send(message)
    headers, body = receiver.requests[0]
    sent = json.loads(body)
    assert headers["content-type"] == "application/json" and "webhook-signature" not in headers
    assert (sent["schema"], sent["version"], sent["event"]) == ("asd.notification", 1, "opened")
    assert sent["text"] == "pump: anomaly: 1 recording anomalous"
    assert sent["incidents"][0]["opened"] == "2026-05-01T12:00:00+00:00" and sent["incidents"][0]["closed"] is None


def test_a_receiver_that_has_the_key_can_check_who_sent_it_and_when(receiver: Any, message: Message) -> None:
    Webhook(f"http://127.0.0.1:{receiver.port}", key=f"whsec_{KEY}").send(message)
    headers, body = receiver.requests[0]
    # As docs/how-to/notifications.md shows it.
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(base64.b64decode(KEY), signed, hashlib.sha256).digest()).decode()
    assert hmac.compare_digest(headers["webhook-signature"], f"v1,{expected}")
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 300 and headers["webhook-id"] == message.id


def test_an_answer_to_come_back_later_is_tried_again_at_once(receiver: Any, message: Message) -> None:
    receiver.answers = [503]
    Webhook(f"http://127.0.0.1:{receiver.port}").send(message)
    assert [body for _, body in receiver.requests] == 2 * [receiver.requests[0][1]]


@pytest.mark.parametrize("answer", [400, 401, 404, 500, 302])
def test_any_other_answer_is_an_error_that_names_it(receiver: Any, message: Message, answer: int) -> None:
    receiver.answers = [answer]
    with pytest.raises(NotDelivered, match=f"127.0.0.1 answered {answer}"):
        Webhook(f"http://127.0.0.1:{receiver.port}").send(message)
    assert len(receiver.requests) == 1


def test_no_error_contains_the_path_of_the_url(receiver: Any, message: Message) -> None:
    receiver.stop()
    with pytest.raises(NotDelivered, match=r"^no connection to 127\.0\.0\.1$"):
        Webhook(f"http://127.0.0.1:{receiver.port}/services/T0KEN").send(message)
    assert "T0KEN" not in repr(Webhook("http://127.0.0.1", headers={"Authorization": "T0KEN"}, key=KEY))


def test_a_certificate_is_trusted_only_if_the_authority_is_known(
    receiver: Any, certificates: Any, message: Message
) -> None:
    receiver.stop()
    receiver.port = 0
    receiver.start(certificates.server)
    with pytest.raises(NotDelivered, match=r"the certificate of 127\.0\.0\.1 is not trusted"):
        Webhook(f"https://127.0.0.1:{receiver.port}").send(message)
    assert receiver.requests == []
    Webhook(f"https://127.0.0.1:{receiver.port}", ca=certificates.ca).send(message)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("key", ["not base64!", base64.b64encode(b"short").decode()])
def test_a_key_that_is_none_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(AsdError, match="openssl rand") as raised:
        Webhook("http://127.0.0.1", key=key)
    assert key not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "headers"),
    [("http://plant.example/a", {"Authorization": "s3cret"}), ("http://anna:s3cret@plant.example/a", {})],
)
def test_headers_and_logins_never_cross_the_network_unencrypted(url: str, headers: dict[str, str]) -> None:
    with pytest.raises(AsdError, match=r"plant\.example: headers or a login need https://") as raised:
        Webhook(url, headers=headers)
    assert "s3cret" not in str(raised.value)
    Webhook(url.replace("http:", "https:"), headers=headers)
    Webhook(url.replace("plant.example", "127.0.0.1:8080"), headers=headers)
