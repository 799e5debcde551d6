"""The report of a scoring run says what was heard, in one file that is safe and not too large."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from asdcore.detector import Detector
from asdcore.normality.calibration import Calibration
from asdcore.normality.gaussian import LedoitWolfCovariance
from asdcore.normality.machine import MachineModel
from asdcore.normality.threshold import Threshold
from asdcore.reports import cards
from asdcore.reports.cards import MOST_SHOWN
from asdcore.reports.known import Known
from asdcore.reports.page import MOST_BYTES
from asdcore.reports.score import MOST_ROWS, score_report
from asdcore.storage.files import digest_of_file
from tests.asdcore.reports.conftest import Page


@pytest.fixture(scope="module")
def strange(plant):
    return plant.recording("new/whistle.wav", 100, whistle=1.0)


@pytest.fixture(scope="module")
def page(plant, strange) -> str:
    """A whistle, and a normal recording."""
    heard = list(plant.detector.listen([strange, plant.recording("new/quiet.wav", 101)]))
    return score_report(plant.detector, heard, Known(plant.table), version="7")


def test_it_says_verdict_score_p_value_and_what_differs(page: str, plant, strange) -> None:
    text = Page(page).text
    (row,) = plant.detector.score([strange]).to_dict("records")
    assert "1 anomalous, 1 normal of 2 recordings" in text
    assert "Detector version 7" in text
    assert f"{row['p_value']:.2g}" in text
    for sentence in plant.detector.explain(strange).sentences:
        assert sentence in text
    assert "3.00 kHz" in text or "3.0" in text


def test_a_recording_of_interest_and_the_most_similar_normal_one_are_there_to_listen_to_equally_amplified(
    page: str, plant, strange
) -> None:
    own, normal = Page(page).sounds()
    original = soundfile.read(strange, dtype="float32")[0]
    gain = float(np.abs(own).max() / np.abs(original).max())
    assert np.abs(own).max() == pytest.approx(0.89, abs=1e-3)
    np.testing.assert_allclose(own, original * gain, atol=2e-4)
    (name,) = [path for path in plant.training if f"{path.name}, session" in page]
    np.testing.assert_allclose(normal, soundfile.read(name, dtype="float32")[0] * gain, atol=2e-4)


def test_both_spectrograms_have_one_scale_and_the_places_are_marked(page: str) -> None:
    found = Page(page)
    labels = found.values("svg", "aria-label")
    assert sum(label.startswith("Spectrogram of") for label in labels) == 2
    assert sum(label.startswith("Colour scale") for label in labels) == 1
    kinds = found.values("rect", "class")
    assert "mark more" in kinds and "mark more compared" in kinds
    assert all(found.values("svg", "aria-label"))


def test_nothing_is_loaded_and_nothing_is_run(page: str) -> None:
    found = Page(page)
    assert not re.search(r"https?://", page)
    assert not {"script", "link", "iframe", "object", "embed", "form", "img"} & {*found.tags}
    places = [value for _, name, value in found.attributes if name in ("src", "href")]
    assert places and all(place.startswith(("data:", "#")) for place in places)
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert "default-src 'none'" in found.values("meta", "content")[-1]
    assert found.tags.count("h1") == 1


def test_every_link_leads_to_a_place_in_the_page(page: str) -> None:
    found = Page(page)
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    assert {place.removeprefix("#") for place in found.values("a", "href")} == {*ids}


def test_names_are_text_whatever_they_are(plant, detectors: Callable[..., Detector]) -> None:
    machine = "<img src=x onerror=alert(1)>"
    file = plant.recording("odd/<script>alert(1)</script>.wav", 100, whistle=1.0)
    other = plant.recording("odd/'\"&&lt;.wav", 101)
    detector = detectors(plant.training, machine)
    table = plant.table.assign(machine=machine, session='"><script>alert(2)</script>')
    notes = {machine: ["</style><script>alert(3)</script>"]}
    page = score_report(detector, list(detector.listen([file, other])), Known(table), notes=notes)
    found = Page(page)
    assert not {"script", "img"} & {*found.tags} and found.tags.count("style") == 1
    assert "<script>alert(1)</script>.wav" in found.text and machine in found.text
    assert "'\"&&lt;.wav" in found.text and "</style><script>alert(3)</script>" in found.text
    assert '"><script>alert(2)' in found.text


def test_many_recordings_are_bounded_and_it_says_where_the_rest_is(plant, strange) -> None:
    heard = [*plant.detector.listen([strange])] * 30 + [*plant.detector.listen([plant.training[7]])] * 1500
    page = score_report(plant.detector, heard, Known(plant.table), elsewhere="scores/score-1.parquet")
    found = Page(page)
    assert len(page.encode()) < MOST_BYTES
    assert found.tags.count("article") == MOST_SHOWN
    assert f"The {MOST_SHOWN} strangest of 30 that are anomalous or suspect" in found.text
    assert found.tags.count("tr") == MOST_ROWS + 1
    assert "The 1000 highest scores of 1,530 recordings; all of them are in scores/score-1.parquet" in found.text
    assert "Each point is the highest score of 2 recordings" in found.text


def test_sound_is_left_out_before_pictures_and_it_says_so(plant, strange, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = [*plant.detector.listen([strange])] * 4
    monkeypatch.setattr(cards, "_FOR_SOUND", 1)
    found = Page(score_report(plant.detector, heard, Known(plant.table)))
    assert found.tags.count("audio") == 2 and found.tags.count("figure") == 8
    assert "Left out, to bound the size of this file: the sound of 3 recordings" in found.text
    monkeypatch.setattr(cards, "_FOR_PICTURES", 1)
    found = Page(score_report(plant.detector, heard, Known(plant.table)))
    assert found.tags.count("audio") == 2 and found.tags.count("figure") == 2
    assert "pictures and sound of 3 recordings" in found.text


def test_of_a_long_recording_at_most_ten_seconds_are_heard(plant) -> None:
    file = plant.recording("new/long.wav", 100, whistle=1.0, seconds=18.0)
    found = Page(score_report(plant.detector, list(plant.detector.listen([file])), Known(plant.table)))
    assert [len(sound) / 16_000 for sound in found.sounds()] == [10.0, 2.0]
    assert "You hear 0.0 to 10.0 s of it" in found.text


def test_a_recording_that_was_cut_says_where_it_is_strangest(plant) -> None:
    file = plant.recording("new/cut.wav", 100, whistle=1.0, seconds=30.0)
    found = Page(score_report(plant.detector, list(plant.detector.listen([file])), Known(plant.table)))
    assert re.search(r"at 0:[0-9]{2}, of 3 clips", found.text)


@pytest.mark.parametrize("table", [None, "moved"])
def test_where_no_normal_recording_can_be_read_it_says_so(plant, strange, table: str | None) -> None:
    known = Known(plant.table.assign(path="/nowhere/" + plant.table["recording"]) if table else None)
    found = Page(score_report(plant.detector, list(plant.detector.listen([strange])), known))
    assert found.tags.count("audio") == 1
    assert "No file of a similar normal recording is known and readable here" in found.text


def test_models_that_keep_no_recordings_have_none_to_compare_with(plant, strange) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 128))
    machine = MachineModel({"spectrum": LedoitWolfCovariance().fit(vectors)}, plant.detector.machines["pump"].profile)
    settings = plant.detector.settings.model_copy(
        update={"normality": plant.detector.settings.normality.model_copy(update={"scorers": ("spectrum",)})}
    )
    detector = replace(plant.detector, machines={"pump": machine}, settings=settings)
    found = Page(score_report(detector, list(detector.listen([strange])), Known(plant.table)))
    assert "keep no normal recordings to compare it with" in found.text


def test_a_training_recording_is_compared_with_another_one(plant) -> None:
    file = plant.training[3]
    found = Page(score_report(plant.detector, list(plant.detector.listen([file])), Known(plant.table)))
    assert "fitted on it; this is the verdict of a model without it" in found.text
    own, normal = found.sounds()
    assert not np.array_equal(own, normal)


def test_what_can_not_be_scored_is_in_the_table_with_its_reason(plant, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"not a sound")
    found = Page(score_report(plant.detector, list(plant.detector.listen([tmp_path / "broken.wav"]))))
    assert "1 not scored of 1 recording" in found.text and "unreadable" in found.text
    assert "article" not in found.tags


def test_where_nothing_is_strange_the_nearest_to_it_is_shown(plant) -> None:
    files = [plant.recording(f"new/normal-{seed}.wav", seed) for seed in (1, 2)]
    heard = list(plant.detector.listen(files))
    assert {one.verdict["verdict"] for one in heard} == {"normal"}
    found = Page(score_report(plant.detector, heard, Known(plant.table)))
    assert "Nothing is anomalous or suspect" in found.text and found.tags.count("article") == 1


def test_where_labels_are_known_faults_caught_and_false_alarms_are_counted(plant) -> None:
    named = "new/section_00_source_test_{}_{:04d}.wav"
    files = [plant.recording(named.format("anomaly", n), n, whistle=1.0) for n in range(3)]
    files += [plant.recording(named.format("anomaly", 9), 9), plant.recording(named.format("normal", 10), 100, 1.0)]
    files += [plant.recording("new/unnamed.wav", 40, whistle=1.1), plant.training[0]]
    found = Page(score_report(plant.detector, list(plant.detector.listen(files)), Known(plant.table)))
    assert "faults caught 3 faults missed 1 false alarms 1 normal, no alarm 0" in found.text
    assert "Caught 3 of 4 faulty recordings" in found.text
    assert found.values("circle", "class").count("ring") == 4


def test_the_command_labels_a_recording_of_the_table(plant, strange) -> None:
    row = plant.table.iloc[:1].assign(
        recording=digest_of_file(strange), path=str(strange), split="train", label="unknown"
    )
    known = Known(pd.concat([plant.table, row]), "--home /plant/asd")
    page = score_report(plant.detector, list(plant.detector.listen([strange])), known)
    assert f"asd label {digest_of_file(strange)[:12]} --as anomaly --home /plant/asd" in Page(page).text


def test_a_report_is_written_where_no_finite_score_is_anomalous(plant, strange, detectors) -> None:
    detector = detectors(plant.training)
    distances = np.r_[np.arange(39.0), np.inf, np.inf]
    detector.machines["pump"].calibration = Calibration().fit(distances)
    detector = detector.with_threshold("pump", Threshold(0.05))
    assert np.isinf(detector.machines["pump"].calibration.threshold(0.05))
    assert "are called anomalous" not in Page(score_report(detector, list(detector.listen([strange])))).text


def test_a_recording_that_was_only_scored_is_labelled_by_its_digest(plant, strange) -> None:
    (heard,) = plant.detector.listen([strange])
    digits = digest_of_file(strange)[:12]
    commands = [f"asd label {digits} --as anomaly --home a", f"asd label {digits} --as normal --home a"]
    assert Known(plant.table, "--home a").commands(heard) == commands
    page = Page(score_report(plant.detector, [heard], Known(plant.table, "--home a"))).text
    assert "this adds it to the table of recordings" in page and "asd ingest" not in page
    # Neither what came on standard input nor what no home knows of can be labelled.
    assert Known(plant.table).commands(replace(heard, path=Path("-"))) == Known().commands(heard) == []


def test_simulated_recordings_are_called_simulated(plant, strange, page: str) -> None:
    (plant.folder / "sim").mkdir()
    (plant.folder / "sim" / "SIMULATED.txt").touch()
    file = plant.recording("sim/pump/whistle.wav", 100, whistle=1.0)
    both = score_report(plant.detector, list(plant.detector.listen([file, strange])))
    assert "Simulated recordings: no real machine" in score_report(plant.detector, list(plant.detector.listen([file])))
    assert "1 of 2 recordings are simulated" in both
    assert "imulated" not in Page(page).text
