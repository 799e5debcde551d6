"""The outbox: every message once, in order, whatever fails in between; one summary after quiet hours."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from asdcore.monitoring import incident_store
from asdcore.monitoring.incidents import close_incident, run_completed, run_failed
from asdcore.notification import outbox
from asdcore.notification.message import Message
from asdcore.notification.outbox import FIRST_RETRY, KEPT, Subscription, deliver, waiting
from asdcore.notification.quiet_hours import QuietHours
from asdcore.notification.webhook import Webhook
from asdcore.storage.home import Home
from tasks.notification import sent_tests
from tests.asdcore.notification.conftest import Receiver

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def webhook(receiver: Receiver, **options: Any) -> dict[str, Subscription]:
    return {"office": Subscription(Webhook(f"http://127.0.0.1:{receiver.port}"), **options)}


def texts(receiver: Receiver) -> list[str]:
    return [json.loads(body)["text"] for _, body in receiver.requests]


def later(by: timedelta) -> Callable[[], datetime]:
    return lambda: datetime.now(UTC) + by


def set_time(monkeypatch: pytest.MonkeyPatch, time: datetime) -> None:
    """What is noted from now on happens at this time."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return time.astimezone(tz)

    monkeypatch.setattr(incident_store, "datetime", Clock)


def test_one_message_when_an_incident_opens_and_one_when_it_closes(home: Home, receiver: Receiver) -> None:
    assert deliver(home, webhook(receiver), LONG_AGO) == {}
    for number in range(3):
        run_failed(home, "retrain", f"No. {number}")
        assert deliver(home, webhook(receiver), LONG_AGO) == {}
    run_completed(home, "retrain")
    deliver(home, webhook(receiver), LONG_AGO)
    opened, closed = texts(receiver)
    assert opened == "retrain: failed run: No. 0"
    assert closed == "retrain: failed run is over after 0 min, closed by a run that completed: No. 2"


def test_what_a_server_that_is_down_missed_it_gets_in_order_once_it_is_up(home: Home, receiver: Receiver) -> None:
    receiver.stop()
    for flow in ("ingest", "retrain", "score"):
        run_failed(home, flow, "No.")
    assert deliver(home, webhook(receiver), LONG_AGO) == {"office": "no connection to 127.0.0.1"}
    count, failure = waiting(home, "office")
    assert count == 3 and failure is not None and failure[1] == "no connection to 127.0.0.1"
    receiver.start()
    # Not at once: a server that is down must not cost every scoring run its time.
    assert deliver(home, webhook(receiver), LONG_AGO) == {} and receiver.requests == []
    deliver(home, webhook(receiver), LONG_AGO, later(FIRST_RETRY))
    assert [text.partition(":")[0] for text in texts(receiver)] == ["ingest", "retrain", "score"]
    assert waiting(home, "office") == (0, None)


def test_the_pause_doubles_up_to_an_hour() -> None:
    pauses = [outbox._pause(failures).total_seconds() for failures in range(50)]
    assert pauses[:3] == [30, 60, 120] and max(pauses) == pauses[-1] == 3600


def test_a_channel_that_fails_does_not_hold_up_the_others(home: Home, receiver: Receiver) -> None:
    run_failed(home, "retrain", "No.")
    broken = {"broken": Subscription(Webhook("http://127.0.0.1:1"))}
    assert list(deliver(home, broken | webhook(receiver), LONG_AGO)) == ["broken"]
    assert len(receiver.requests) == 1


class Umlaut:
    """Fails as smtplib does for a password with an umlaut."""

    def send(self, message: Message) -> None:
        "geheim\N{LATIN SMALL LETTER U WITH DIAERESIS}".encode("ascii")


def test_any_error_of_a_channel_is_its_own_failure_and_shows_no_secret(home: Home, receiver: Receiver) -> None:
    run_failed(home, "retrain", "No.")
    channels = {"broken": Subscription(Umlaut())} | webhook(receiver)
    assert deliver(home, channels, LONG_AGO) == {"broken": "unexpected UnicodeEncodeError"}
    assert len(receiver.requests) == 1
    count, failure = waiting(home, "broken")
    assert count == 1 and failure is not None and failure[1] == "unexpected UnicodeEncodeError"
    assert failure[0] > datetime.now(UTC)
    assert sent_tests(channels, home) == {"broken": "unexpected UnicodeEncodeError", "office": ""}


def test_quiet_hours_end_with_one_summary(home: Home, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    night = webhook(receiver, quiet=QuietHours(["22:00-06:00"]))
    evening = datetime(2026, 5, 1, 23, 0).astimezone()
    set_time(monkeypatch, evening)
    first = run_failed(home, "ingest", "One.")
    run_failed(home, "score", "Two.")
    assert deliver(home, night, LONG_AGO, lambda: evening) == {} and receiver.requests == []
    close_incident(home, first.id, "anna")
    morning = evening.replace(day=2, hour=6)
    set_time(monkeypatch, morning)
    run_failed(home, "retrain", "Three.")
    deliver(home, night, LONG_AGO, lambda: morning)
    summary, single = (json.loads(body) for _, body in receiver.requests)
    assert summary["event"] == "summary" and summary["title"] == "2 incidents during quiet hours, 1 still open"
    assert [one["closed_by"] for one in summary["incidents"]] == ["anna", ""]
    assert single["event"] == "opened" and single["text"].startswith("retrain")


def test_a_channel_hears_only_of_the_kinds_that_it_wants(home: Home, receiver: Receiver) -> None:
    run_failed(home, "retrain", "No.")
    deliver(home, webhook(receiver, kinds=("anomaly",)), LONG_AGO)
    assert receiver.requests == [] and waiting(home, "office") == (0, None)


def test_a_new_channel_is_not_told_what_was_before_it(home: Home, receiver: Receiver) -> None:
    run_failed(home, "retrain", "No.")
    since = datetime.now(UTC) + timedelta(seconds=1)
    deliver(home, webhook(receiver), since)
    assert receiver.requests == []


def test_a_message_that_nobody_takes_for_a_week_is_given_up(
    home: Home, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.answers = [500]
    run_failed(home, "retrain", "No.")
    deliver(home, webhook(receiver), LONG_AGO)
    assert deliver(home, webhook(receiver), LONG_AGO, later(KEPT + timedelta(hours=1))) == {}
    assert len(receiver.requests) == 1 and "office: 1 messages were not delivered" in capsys.readouterr().err


class Deadly:
    """Delivers to a file, and kills its process after the message was taken."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def send(self, message: Message) -> None:
        with self.file.open("a") as lines:
            lines.write(f"{message.id}\n")
        os.kill(os.getpid(), signal.SIGKILL)


def deliver_to_file(root: Path, file: Path, deadly: bool) -> None:
    channel = Deadly(file) if deadly else Appending(file)
    deliver(Home.at(root), {"file": Subscription(channel)}, LONG_AGO)


class Appending:
    def __init__(self, file: Path) -> None:
        self.file = file

    def send(self, message: Message) -> None:
        with self.file.open("a") as lines:
            lines.write(f"{message.id}\n")


def test_a_process_killed_while_it_sends_loses_no_message_and_repeats_the_id(home: Home, tmp_path: Path) -> None:
    run_failed(home, "retrain", "No.")
    file = tmp_path / "sent"
    killed = multiprocessing.get_context("fork").Process(target=deliver_to_file, args=(home.root, file, True))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    deliver_to_file(home.root, file, False)
    first, second = file.read_text().split()
    assert first == second


def fail_and_deliver(root: Path, file: Path, name: str) -> None:
    for number in range(5):
        run_failed(Home.at(root), f"{name}-{number}", "No.")
        deliver_to_file(root, file, False)


def test_two_processes_at_once_send_every_message_once(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "sent"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=fail_and_deliver, args=(home.root, file, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    sent = file.read_text().split()
    assert len(sent) == len(set(sent)) == 10
