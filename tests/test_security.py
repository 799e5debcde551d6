"""What names of files, and files from elsewhere, must not be able to do."""

import csv
import io
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from asdcore.errors import AsdError
from asdcore.monitoring.incidents import Incident
from asdcore.notification.message import Message
from asdcore.notification.mqtt import Mqtt
from asdcore.notification.webhook import Webhook
from asdcore.plots.timeline import Point, timeline
from asdcore.recordings.audio import BadRecording, examine
from asdcore.recordings.fetch import fetched
from asdcore.recordings.names import find_recordings, label_in_name, parse_place
from asdcore.recordings.sessions import time_stamp
from asdcore.reports.page import template_environment
from asdcore.settings import RecordingSettings
from asdcore.storage.home import Home
from asdcore.terminal import Terminal, visible
from flows.board.server import TOKEN, serve
from flows.cli.output import Output
from flows.cli.tables import table
from tasks.markdown import code, word

ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202e"


def printed(what: Any) -> str:
    text = io.StringIO()
    Terminal(file=text, width=200, force_terminal=True, soft_wrap=True, highlight=False, markup=False).print(what)
    return text.getvalue()


def test_the_name_of_a_file_cannot_command_a_terminal() -> None:
    said = printed(f"pump/a{ESCAPES}.wav: silent\nnext line")
    assert not set("\x1b\x07\r\x9b\u202e") & set(said)
    assert r"pump/a\x1b[2J" in said and said.count("\n") == 2


def test_the_name_of_a_file_makes_no_row_in_a_table() -> None:
    drawn = printed(table(["machine", "recording"], [["pump", f"a{ESCAPES}\nfan  normal.wav"]]))
    assert not [line for line in drawn.splitlines() if line.lstrip().startswith("fan")]
    assert r"\x1b[2J" in drawn and r"\n" in drawn


def test_colours_of_our_own_are_still_printed() -> None:
    text = io.StringIO()
    Terminal(file=text, force_terminal=True, color_system="standard").print("plain", style="red")
    assert "\x1b[31mplain" in text.getvalue()


def test_messages_are_one_line_without_commands_for_a_terminal() -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    incident = Incident(
        "1a2b3c4d", "anomaly", f"pump{ESCAPES}\n", "pump\nBcc: all@example.org", at, at, 1, f"x{ESCAPES}\ny"
    )
    message = Message("1", "opened", at, "home", [incident])
    for text in (message.title, message.text):
        assert "\n" not in text and visible(text) == text


@pytest.mark.parametrize("name", ["+", "#", "a/b", "a\x1b[2J", "a\nb", "a\0b", "$SYS"])
def test_the_name_of_a_machine_is_one_level_of_a_topic(name: str) -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    incident = Incident("1a2b3c4d", "anomaly", name, name, at, at, 1, "x")
    topics = [topic for topic, _, _ in Mqtt("localhost")._publications(Message("1", "opened", at, "home", [incident]))]
    assert topics and all(topic.count("/") == 3 and visible(topic) == topic for topic in topics)
    assert not any(set("+#\n\0") & set(topic) for topic in topics)


@pytest.mark.parametrize("name", ["=HYPERLINK(0)", "+1+1", "-1+1", "@SUM(1)", "\t=1"])
def test_a_name_is_no_formula_in_a_spreadsheet(tmp_path: Path, name: str) -> None:
    file = tmp_path / "out.csv"
    Output(file).write([{"machine": name, "score": -1.5, "text": "-1.5", "path": "/mnt/a=b.wav"}])
    with file.open(newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert row == {"machine": f"'{name}", "score": "-1.5", "text": "-1.5", "path": "/mnt/a=b.wav"}


def test_a_carriage_return_in_a_name_makes_no_row(tmp_path: Path) -> None:
    Output(tmp_path / "out.csv").write([{"machine": "pump\rfan", "score": 1.0}])
    with (tmp_path / "out.csv").open(newline="") as lines:
        assert list(csv.DictReader(lines)) == [{"machine": r"pump\rfan", "score": "1.0"}]


@pytest.mark.parametrize(
    "name", ["a|b", "[x](javascript:1)", "![x](http://y)", "<img src=x>", "a\nb", "`x`", "*x*", "# x"]
)
def test_a_name_is_text_in_markdown(name: str) -> None:
    said = word(name)
    assert "\n" not in said
    for sign in "|[]<>!`*#":
        assert said.count(sign) == said.count(f"\\{sign}")
    assert code("a`` b\n|c.wav") == r"``` a`` b\n|c.wav ```"


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}</title></style>"


def test_names_are_text_in_pages_and_drawings() -> None:
    drawing = timeline([Point(1.0, "anomalous", HOSTILE, session=HOSTILE, link="#recording-1")], {}, HOSTILE)
    page = (
        template_environment()
        .from_string('<p title="{{ name }}" id={{ name|tojson }}>{{ name }}</p>{{ name|prose }}')
        .render(name=HOSTILE)
    )
    for text in (drawing, page):
        assert "<script" not in text and "<img" not in text and "49" not in text and "</style" not in text


def test_reports_may_load_and_run_nothing() -> None:
    page = (Path(template_environment.__code__.co_filename).with_name("templates") / "page.html").read_text()
    assert "default-src 'none'" in page and "script-src" not in page


def test_a_manifest_lists_files_elsewhere_and_shows_nothing_of_what_is_in_them(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("root:x:0:0:the content of a secret file")
    place = tmp_path / "place"
    place.mkdir()
    (place / "link.wav").symlink_to(secret)
    (place / "manifest.csv").write_text("path,machine\n../secret.txt,pump\nlink.wav,pump\n/dev/null,pump\n/,pump\n")
    reasons = []
    for found in find_recordings(place):
        try:
            reasons.append(found.problem or str(examine(found.path, RecordingSettings())))
        except BadRecording as bad:
            reasons.append(str(bad))
    assert len(reasons) == 4 and all(reason for reason in reasons)
    assert not any("root" in reason or "secret file" in reason for reason in reasons)


@pytest.mark.parametrize("name", [".", "..", "a/b", "a\\b", "a\nb", "a\x1bb", "x" * 250])
def test_no_machine_has_a_name_that_leads_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "manifest.csv").write_text(f'path,machine\na.wav,"{name}"\n')
    with pytest.raises(AsdError, match="choose another name"):
        find_recordings(tmp_path)


def test_objects_whose_names_lead_out_of_the_folder_are_left_out(s3: Any, tmp_path: Path) -> None:
    for key in ("in/pump/a.wav", "in/../../../evil.wav", "in//etc/evil.wav", "in/pump/../../../../evil.wav"):
        s3.put_object(Bucket="plant", Key=key, Body=b"x")
    folder = fetched(Path("s3://plant/in"))
    assert [path.name for path in tmp_path.rglob("*.wav")] == ["a.wav"]
    assert (folder / "pump" / "a.wav").is_file()


def test_a_token_that_was_chosen_is_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("flows.board.server._run", lambda *_: None)
    monkeypatch.setattr("flows.board.server.signal.signal", lambda *_: None)
    monkeypatch.setenv(TOKEN, "chosen and secret")
    serve(Home.at(tmp_path), "127.0.0.1", 0, said.append)
    assert "chosen" not in " ".join(said) and TOKEN in " ".join(said)
    monkeypatch.delenv(TOKEN)
    serve(Home.at(tmp_path), "0.0.0.0", 0, said.append)
    assert "?token=" in " ".join(said)


@pytest.mark.parametrize("url", ["http://[", "https://[::1]:99999/x", "https://user:secret@[x"])
def test_what_is_wrong_with_the_url_of_a_webhook_does_not_show_it(url: str) -> None:
    try:
        Webhook(url, headers={"Authorization": "secret"})
    except AsdError as error:
        assert url not in str(error) and "secret" not in str(error)


@pytest.mark.parametrize("part", ["section_00_", "0", "1", "_", "2026-05-01", "normal_id_", "a.", " ", "\\", "run_"])
def test_long_names_take_no_time(part: str) -> None:
    name = part * (20_000 // len(part))
    begin = time.perf_counter()
    for path in (Path(f"/{name}/a.wav"), Path(f"/pump/{name}.wav"), Path("/", *[part] * 500, "a.wav")):
        parse_place(path)
        label_in_name(path)
        time_stamp(path.stem)
    assert time.perf_counter() - begin < 2
