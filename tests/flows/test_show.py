"""What the command line prints of scores."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.text import Text

from asdcore.normality.calibration import Calibration
from asdcore.normality.threshold import Threshold
from asdcore.storage.home import Home
from flows.cli.output import Output
from flows.cli.show import print_scores, show_enrolment, show_registered, show_threshold
from flows.cli.tables import table


def scores() -> pd.DataFrame:
    rows = [
        ("pump", "new.wav", 9.0, 0.05, "suspect", False, 1, 0.0, ""),
        ("pump", "day.wav", 8.0, 0.02, "anomalous", True, 120, 40.0, ""),
        ("pump", "night.wav", 2.0, 0.5, "normal", False, 900, 3725.0, ""),
        ("pump", "broken.wav", None, None, "", None, None, None, "unreadable"),
    ]
    names = ["machine", "path", "score", "p_value", "verdict", "in_training", "clips", "strangest_at", "reason"]
    typed = {"in_training": "boolean", "clips": "Int64", "score": float, "p_value": float}
    return pd.DataFrame(rows, columns=names).assign(triggered_by="", treatment="").astype(typed)


def test_the_table_says_where_the_strangest_clip_is_and_what_was_trained_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_scores(scores(), {"pump": "About 1 in 17 normal recordings is this strange."})
    printed = capsys.readouterr().out
    new, day, night, broken = (
        next(line for line in printed.splitlines() if name in line) for name in ("new", "day", "night", "broken")
    )
    assert "suspect" in new and "at" not in new
    assert "ANOMALOUS (in training)" in day and "at 0:40 of 120 clips" in day
    assert "in training" not in night and "at 1:02:05 of 900 clips" in night
    assert "not scored" in broken
    assert "pump, 1 suspect: listen to it. About 1 in 17 normal recordings is this strange." in printed
    # No colours in a pipe.
    assert "\x1b" not in printed


def test_without_a_long_recording_there_is_no_column_for_clips(capsys: pytest.CaptureFixture[str]) -> None:
    print_scores(scores().iloc[[0, 3]], {})
    assert "strangest" not in capsys.readouterr().out


def test_of_many_recordings_the_strange_ones_are_shown_and_it_is_said_how_many_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    many = pd.concat([scores().iloc[[2]]] * 200 + [scores()], ignore_index=True)
    print_scores(many, {})
    printed = capsys.readouterr().out
    assert "new.wav" in printed and "day.wav" in printed and printed.count("night.wav") == 48
    assert "The 50 strangest of 204 recordings" in printed


def test_a_verdict_keeps_its_colour_on_a_terminal() -> None:
    terminal = Console(force_terminal=True, color_system="standard", width=80, no_color=False)
    with terminal.capture() as printed:
        terminal.print(table(["verdict"], [[Text("suspect", "yellow")], [Text("ANOMALOUS", "red")]]))
    assert "\x1b[33msuspect" in printed.get() and "\x1b[31mANOMALOUS" in printed.get()


def test_an_enrolment_repeats_the_first_sentence_of_the_reliability_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.cli.show.show_registered", lambda done, place: None)
    done = {
        "machine": "pump",
        "parent": "1",
        "machines": ["pump"],
        "training_recordings": 16,
        "reliability": ["Collect 83 more normal recordings.", "Another sentence."],
    }
    show_enrolment(done, Path())  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert "pump: Collect 83 more normal recordings." in printed and "Another" not in printed


def test_the_expected_rate_of_an_alarm_rule_says_what_it_assumes(capsys: pytest.CaptureFixture[str]) -> None:
    machine = SimpleNamespace(calibration=Calibration().fit(np.arange(99.0)))
    detector = SimpleNamespace(
        machines={"pump": machine}, threshold_of=lambda name: Threshold(0.05, 3, 5), enrolled=lambda name: name
    )
    show_threshold("pump", detector, 96, Output())  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert "0.43 a week at 96 recordings a day, if recordings are independent" in printed
    assert "those of one session are not" in printed


def test_a_registration_ends_with_the_training_recordings_to_listen_to(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = ["pump: listen to one of 20 first; nothing says that it is a fault", "  pump/7.wav (change)"]
    done = {"champion": "1", "version": "1", "detector": str(tmp_path), "listen_first": lines}
    show_registered(done, Home.at(tmp_path))
    assert capsys.readouterr().out.splitlines()[-2:] == lines
