"""notify.yaml: what it can say, and errors that name the place and no value."""

import base64
from pathlib import Path

import pytest

from asdcore.errors import AsdError
from asdcore.notification.configuration import configuration_file, subscriptions
from asdcore.notification.mail import Mail
from asdcore.notification.mqtt import Mqtt
from asdcore.notification.webhook import Webhook
from asdcore.storage.home import Home

KEY = base64.b64encode(bytes(32)).decode()


@pytest.fixture
def file(home: Home) -> Path:
    home.root.mkdir()
    return configuration_file(home)


def test_three_kinds_of_channels_with_secrets_from_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", KEY)
    monkeypatch.setenv("TOKEN", "t0ken")
    monkeypatch.setenv("MAIL_PASSWORD", "right")
    file.write_text("""
phone:
  type: webhook
  url: https://push.example/${TOKEN}
  key: ${HOOK_KEY}
  headers: {Authorization: "Bearer ${TOKEN}"}
  quiet_hours: [22:00-06:00]
office:
  type: mail
  host: mail.example
  sender: asd@example
  to: [anna@example]
  user: asd
  password: ${MAIL_PASSWORD}
  kinds: [failed run, refused challenger]
plc:
  type: mqtt
  host: 10.0.0.5
""")
    channels, _ = subscriptions(file)
    assert channels["phone"].channel == Webhook("https://push.example/t0ken", KEY, {"Authorization": "Bearer t0ken"})
    assert channels["phone"].quiet.ranges == ("22:00-06:00",)
    mail = Mail("mail.example", "asd@example", ("anna@example",), user="asd", password="right")
    assert channels["office"].channel == mail and channels["office"].kinds == ("failed run", "refused challenger")
    assert channels["plc"].channel == Mqtt("10.0.0.5")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:\n  type: pigeon", "a: type: Input tag 'pigeon'"),
        ("a:\n  type: mqtt", "a: host: Field required"),
        ("a:\n  type: mqtt\n  host: x\n  colour: red", "a: colour: Extra inputs are not permitted"),
        ("a:\n  type: webhook\n  url: ftp://x/s3cret", "a: url: String should match"),
        ("a:\n  type: mqtt\n  host: x\n  password: s3cret", "a: password: a secret does not belong in this file"),
        ("a:\n  type: webhook\n  url: http://x\n  headers: {X: s3cret}", "a: headers: a secret does not belong"),
        ("a:\n  type: webhook\n  url: ${NOT_SET}", "a: the environment variable NOT_SET is not set"),
        ("a:\n  type: mqtt\n  host: x\n  quiet_hours: [night]", "a: quiet hours 'night'"),
        ("a:\n  type: mqtt\n  host: x\n  quiet_hours: [10:00-10:00]", "a: quiet hours '10:00-10:00'"),
        ("a:\n  type: mqtt\n  host: x\n  kinds: [rain]", "a: kinds.0: Input should be"),
        ("a: 1", "a: needs fields below it"),
        ("- a", "needs a name for each channel"),
        ("a/b:\n  type: mqtt", "a channel's name"),
        ("password: s3cret: s3cret", "not YAML, line 1"),
    ],
)
def test_an_error_names_the_place_and_shows_no_value_that_may_be_secret(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(AsdError) as raised:
        subscriptions(file)
    assert said in str(raised.value) and str(file) in str(raised.value) and "s3cret" not in str(raised.value)


def test_an_empty_file_has_no_channels_and_the_file_may_be_elsewhere(
    file: Path, home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file.write_text("")
    assert subscriptions(file)[0] == {}
    monkeypatch.setenv("ASD_NOTIFY", str(tmp_path / "elsewhere.yaml"))
    assert configuration_file(home) == tmp_path / "elsewhere.yaml"
