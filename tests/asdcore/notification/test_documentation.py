"""What docs/how-to/notifications.md shows is true."""

import base64
import hashlib
import hmac
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from asdcore.monitoring.incidents import Incident
from asdcore.notification.configuration import subscriptions
from asdcore.notification.message import Message
from asdcore.notification.webhook import Webhook

KEY = base64.b64encode(bytes(range(32))).decode()


def example(language: str) -> str:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "notifications.md"
    (found,) = re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def test_the_configuration_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"\$\{(\w+)\}", example("yaml")):
        monkeypatch.setenv(name, KEY)
    (tmp_path / "notify.yaml").write_text(example("yaml"))
    channels, _ = subscriptions(tmp_path / "notify.yaml")
    assert list(channels) == ["phone", "maintenance_system", "office", "scada"]


def test_a_message_has_the_form_of_the_json(message: Message) -> None:
    shown, sent = json.loads(example("json")), message.to_json()
    assert list(shown) == list(sent) and list(shown["incidents"][0]) == list(sent["incidents"][0])
    incident = Incident.from_json(shown["incidents"][0])
    again = Message(shown["id"], "opened", incident.opened, shown["home"], (incident,))
    assert again.to_json() == shown


def test_the_check_of_the_signature_tells_a_genuine_request_from_others(receiver: Any, message: Message) -> None:
    names: dict[str, Any] = {"base64": base64, "hashlib": hashlib, "hmac": hmac, "time": time}
    exec(example("python"), names)
    Webhook(f"http://127.0.0.1:{receiver.port}", key=KEY).send(message)
    headers, body = receiver.requests[0]
    assert names["is_genuine"](headers, body, KEY)
    assert not names["is_genuine"](headers, body + b" ", KEY)
    assert not names["is_genuine"](headers | {"webhook-timestamp": "1"}, body, KEY)
    assert not names["is_genuine"](headers, body, base64.b64encode(bytes(32)).decode())
