"""The report of everything that was scored since a time."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asdcore.errors import AsdError
from asdcore.reports.comparison import compared_again
from asdcore.reports.day import day_report
from asdcore.reports.known import Known
from asdcore.storage.files import digest_of_file
from tests.asdcore.reports.conftest import Page, hum, table_of, write


@pytest.fixture
def strange(plant, tmp_path: Path) -> Path:
    """A whistle; a copy of its own for each test, which may change it."""
    return write(tmp_path / "arriving" / "whistle.wav", hum(100, whistle=1.0))


def scored(plant, files: list[Path], version: str = "3") -> pd.DataFrame:
    return plant.detector.score(files).assign(detector=version)


def report(plant, scores: pd.DataFrame, table: pd.DataFrame | None = None) -> Page:
    known = Known(plant.table if table is None else table, "--home plant")
    return Page(day_report(plant.detector, scores, known, since="2026-05-01 06:00", version="3"))


def test_the_verdicts_of_several_runs_are_one_page_and_a_recording_counts_once(plant, strange: Path) -> None:
    quiet = plant.recording("new/quiet.wav", 101)
    runs = [scored(plant, [strange, quiet], "2"), scored(plant, [plant.recording("new/calm.wav", 102), strange])]
    page = report(plant, pd.concat(runs, ignore_index=True))
    assert page.text.startswith("3 recordings since 2026-05-01 06:00")
    assert "1 anomalous, 2 normal of 3 recordings" in page.text
    assert "Judged by detector version 2, 3" in page.text and "dashed lines by version 3" in page.text
    assert (len(page.sounds()) == 2 and "3.00 kHz" in page.text) or "3.0" in page.text


def test_a_recording_that_was_changed_or_deleted_keeps_its_verdict_and_has_no_sound(plant, strange: Path) -> None:
    scores = scored(plant, [strange])
    write(strange, hum(7))
    page = report(plant, scores)
    assert "1 anomalous of 1 recording" in page.text and "whistle.wav has changed since it was scored" in page.text
    strange.unlink()
    assert "whistle.wav no longer exists" in report(plant, scores).text
    assert not page.sounds()


def test_what_a_detector_has_labelled_says_nothing_of_false_alarms(plant, strange: Path) -> None:
    quiet = plant.recording("new/quiet.wav", 101)
    rows = table_of({strange: ("train", "unknown", "day 9"), quiet: ("train", "normal", "day 9")})
    scores = scored(plant, [strange, quiet])
    judged = pd.concat([plant.table.assign(labelled_by=None), rows.assign(labelled_by="detector 3")])
    assert "false alarms" not in report(plant, scores, judged).text
    by_person = pd.concat([plant.table.assign(labelled_by=None), rows.assign(labelled_by="Ada")])
    assert "false alarms 0 normal, no alarm 1" in report(plant, scores, by_person).text


def test_what_waits_for_a_label_has_the_command_that_lists_it_and_those_that_label_it(plant, strange: Path) -> None:
    rows = table_of({strange: ("train", "unknown", "day 9")}).assign(labelled_by="detector 3")
    page = report(plant, scored(plant, [strange]), pd.concat([plant.table, rows]))
    assert "pump 1 recording They are not used for training until" in page.text
    assert "asd label --home plant" in page.text
    assert f"asd label {digest_of_file(strange)[:12]} --as normal --home plant" in page.text


def test_machines_that_are_no_longer_enrolled_are_named_and_left_out(plant, strange: Path) -> None:
    scores = scored(plant, [strange])
    page = report(plant, pd.concat([scores, scores.assign(machine="mill")], ignore_index=True))
    assert "no longer enrolled: mill" in page.text and re.match(r"1 recording since", page.text)


def test_a_recording_on_standard_input_has_a_verdict_and_no_sound(plant, strange: Path) -> None:
    page = report(plant, scored(plant, [strange]).assign(path="-"))
    assert "1 anomalous of 1 recording" in page.text and not page.sounds()


def test_of_a_long_recording_only_the_strangest_clip_is_heard_again(
    plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = np.concatenate([hum(1, seconds=11.0), hum(2, whistle=1.0, seconds=10.0), hum(3, seconds=10.0)])
    long = write(tmp_path / "long.wav", samples)
    scores = scored(plant, [long])

    def whole(*_: object) -> None:
        raise AssertionError("the whole recording is heard")

    monkeypatch.setattr(type(plant.detector), "_heard", whole)
    page = report(plant, scores)
    assert "It cannot be shown" not in page.text and page.sounds() and "of 3 clips; that clip is shown" in page.text


def test_a_clip_that_is_compared_again_keeps_the_trigger_of_its_recording(plant, tmp_path: Path) -> None:
    long = write(tmp_path / "long.wav", np.concatenate([hum(1, seconds=11.0), hum(2, whistle=1.0, seconds=10.0)]))
    (row,) = scored(plant, [long]).to_dict("records")
    for told in ("change", "spectrum"):
        again = compared_again(plant.detector, row | {"triggered_by": told}, {})
        assert again.trigger.startswith(f"Triggered by {told}:")
    assert "level" not in compared_again(plant.detector, row | {"triggered_by": "level"}, {}).trigger
    with pytest.raises(AsdError, match="was read from standard input"):
        compared_again(plant.detector, row | {"path": "-"}, {})
