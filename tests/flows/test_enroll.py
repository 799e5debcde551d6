"""One machine more, one less."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from prefect.artifacts import Artifact

from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.monitoring.incident_store import changing
from asdcore.monitoring.incidents import ANOMALY, new_incident, open_incidents, opened
from asdcore.normality.threshold import Threshold
from asdcore.settings import Settings
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home
from flows.enroll import enroll, retire
from flows.retrain import retrain
from flows.score import score
from flows.threshold import threshold
from tasks.carried import enrolled_machines
from tasks.registered import load_detector, registered_models
from tasks.registry import set_champion
from tasks.tracking import client

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def without_valve(prefect_api: str, home: Home, small_machines: Path, small_settings: Settings) -> Detector:
    """The champion of a home that has never heard of simValve, as it was before anything was enrolled."""
    retrain(recordings=small_machines / "simFan", settings=small_settings, home=home.root)
    return load_detector(home)[0]


@pytest.fixture(scope="module")
def enrolled(without_valve: Detector, home: Home, small_machines: Path) -> dict[str, Any]:
    return enroll("simValve", small_machines / "simValve", home=home.root)


def test_an_enrolled_machine_is_scored_by_the_champion(
    enrolled: dict[str, Any], home: Home, small_machines: Path
) -> None:
    assert (enrolled["version"], enrolled["champion"], enrolled["parent"]) == ("2", "2", "1")
    assert enrolled["machines"] == ["simFan", "simValve"] and enrolled["training_recordings"] == 14
    done = score(recordings=[small_machines / "simValve" / "test"], home=home.root)
    scores = pd.read_parquet(done["table"])
    assert set(scores["machine"]) == {"simValve"} and scores["score"].notna().all()
    assert set(scores["detector"]) == {"2"}
    assert load_detector(home)[0].explain(scores["path"][0]).sentences


def test_an_enrolled_machine_has_a_trust_report_and_the_command_shows_it(
    asd: "Callable[..., subprocess.CompletedProcess[str]]", enrolled: dict[str, Any], home: Home
) -> None:
    shown = asd("models", "--machine", "simValve", "--model", enrolled["version"], "--home", home.root)
    assert shown.returncode == 0, shown.stderr
    assert f"simValve, detector version {enrolled['version']}: collect more" in shown.stdout
    assert "Collect 85 more normal recordings" in shown.stdout
    assert "simulated recordings" in shown.stdout
    assert "14 (12 source, 2 target)" in shown.stdout
    unknown = asd("models", "--machine", "simPump", "--home", home.root)
    assert unknown.returncode == 1 and "'simPump' is not enrolled; this detector knows simFan" in unknown.stderr


def test_its_page_says_how_far_to_trust_it_and_what_it_catches_and_the_run_keeps_it(
    enrolled: dict[str, Any], home: Home
) -> None:
    page = Path(enrolled["page"])
    text = page.read_text()
    assert "Version 2 includes simValve and is the champion" in text and "Collect 85 more normal recordings" in text
    assert "faults caught" in text and "AUC source" in text and "data:audio/flac;base64," in text
    assert page.name in {artifact.path for artifact in client(home).list_artifacts(enrolled["run"])}
    linked = Artifact.get("enrolment-page")
    assert linked is not None and page.as_uri() in str(linked.data)


def test_everything_else_of_the_detector_is_bit_for_bit_the_same(
    without_valve: Detector, enrolled: dict[str, Any], home: Home, small_machines: Path, tmp_path: Path
) -> None:
    now, _ = load_detector(home)
    for detector, name in ((without_valve, "before"), (now, "now")):
        detector.encoder.save(tmp_path / name)
    assert digest_of_file(tmp_path / "before") == digest_of_file(tmp_path / "now")
    before, after = (detector.machines["simFan"].to_arrays() for detector in (without_valve, now))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert now.settings == without_valve.settings
    files = sorted((small_machines / "simFan" / "test").glob("*.wav"))[:3]
    assert now.score(files).equals(without_valve.score(files))


def test_enrolling_the_same_recordings_again_registers_no_other_model_of_them(
    enrolled: dict[str, Any], home: Home, small_machines: Path
) -> None:
    models = {path: digest_of_file(path) for path in home.runs.glob("machines/*.npz")}
    again = enroll("simValve", small_machines / "simValve", home=home.root)
    assert {path: digest_of_file(path) for path in home.runs.glob("machines/*.npz")} == models
    assert again["data"] == enrolled["data"]


def test_spectrograms_of_other_code_are_embedded_again_by_the_same_encoder(
    enrolled: dict[str, Any], home: Home, small_machines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Home.at(shutil.copytree(home.root, tmp_path / "home"))
    before = set(copy.runs.glob("embeddings/*/*.parquet"))
    models = set(copy.runs.glob("normality/*.npz"))
    assert before
    monkeypatch.setattr("tasks.features.code_of_function", lambda function: "another")
    again = enroll("simValve", small_machines / "simValve", home=copy.root)
    (made,) = set(copy.runs.glob("embeddings/*/*.parquet")) - before
    assert made.parent not in {path.parent for path in before}
    assert set(copy.runs.glob("normality/*.npz")) > models
    assert again["machines"] == ["simFan", "simValve"]


def test_a_retired_machine_is_unknown_and_comes_back(
    enrolled: dict[str, Any], home: Home, small_machines: Path
) -> None:
    with changing(home) as stored:
        opened(stored, new_incident(stored, ANOMALY, "simValve", machine="simValve", recordings=1, sentence=""))
    gone = retire("simValve", home=home.root)
    assert gone["machines"] == ["simFan"] and gone["champion"] == gone["version"]
    assert "simValve" not in {one.machine for one in open_incidents(home)}
    with pytest.raises(AsdError, match="'simValve' is not enrolled; this detector knows simFan"):
        score(recordings=[small_machines / "simValve"], machine="simValve", home=home.root)
    with pytest.raises(AsdError, match="simFan is the only machine"):
        retire("simFan", home=home.root)
    back = enroll("simValve", small_machines / "simValve", home=home.root)
    assert back["machines"] == ["simFan", "simValve"]
    row = registered_models(home)[0]
    assert (row["version"], row["alias"]) == (back["version"], "champion")
    assert f"version {gone['version']}, enrolled simValve (14 normal recordings)" in str(row["data"])


def test_a_threshold_is_changed_at_once_and_its_rule_decides_what_is_an_alarm(
    enrolled: dict[str, Any], home: Home, small_machines: Path
) -> None:
    before = load_detector(home)[0]
    faults = sorted((small_machines / "simFan" / "test").glob("*anomaly*"))
    changed = threshold("simFan", 0.99, "2/3", home=home.root)
    detector, version = load_detector(home)
    assert version == changed["version"] == changed["champion"] and changed["parent"] != version
    assert detector.threshold_of("simFan") == Threshold(0.99, 2, 3)
    assert detector.threshold_of("simValve") == before.threshold_of("simValve")
    assert "threshold of simFan: 99 %, alarm 2/3 (was 1 %, alarm 1/1)" in str(registered_models(home)[0]["data"])
    one, two = (score(recordings=[fault], home=home.root) for fault in faults[:2])
    assert (one["anomalous"], one["alarms"]) == (1, {})
    # The second of the last three: the first was scored in another run.
    assert list(two["alarms"]) == ["simFan"] and "2 of the last 3 recordings" in two["alarms"]["simFan"]
    assert two["new_alarms"] == ["simFan"]
    third = score(recordings=[faults[2]], home=home.root)
    assert "since an earlier run" in third["alarms"]["simFan"] and third["new_alarms"] == []
    with pytest.raises(AsdError, match="'simPump' is not enrolled"):
        threshold("simPump", 0.1, home=home.root)
    with pytest.raises(AsdError, match="alarm rule 'two': write k/n"):
        threshold("simFan", 0.1, "two", home=home.root)
    set_champion(home, changed["parent"], "as it was")


def test_reports_use_a_machines_own_rate_and_say_so(
    asd: "Callable[..., subprocess.CompletedProcess[str]]",
    enrolled: dict[str, Any],
    home: Home,
    small_settings: Settings,
) -> None:
    changed = threshold("simFan", 0.2, home=home.root)
    shown = asd("models", "--machine", "simFan", "--home", home.root).stdout
    assert "20 %, the machine's own rate (asd threshold)" in shown and "more normal recordings" not in shown
    other = asd("models", "--machine", "simValve", "--home", home.root).stdout
    assert "own rate" not in other and "a decision at 1 % false alarms is not supported" in other
    again = retrain(settings=small_settings, home=home.root)
    fan, valve = again["outcomes"]
    assert "; 20 % asked, its own rate" in fan and "; 1 % asked" in valve and "own rate" not in valve
    trained = load_detector(home, again["version"])[0].about["reliability"]
    assert (trained["simFan"]["asked"], trained["simValve"]["asked"]) == (0.2, 0.01)
    set_champion(home, changed["parent"], "as it was")


def test_another_version_can_get_the_machine_and_the_champion_stays(
    enrolled: dict[str, Any], home: Home, small_machines: Path
) -> None:
    other = enroll("simValve", small_machines / "simValve", model="1", home=home.root)
    assert (other["parent"], other["machines"]) == ("1", ["simFan", "simValve"])
    assert other["champion"] != other["version"]


def test_recordings_that_are_no_machine_are_refused_with_the_reason_unless_forced(
    enrolled: dict[str, Any], home: Home, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for index in range(12):
        (tmp_path / "hiss").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "hiss" / f"{index}.wav", 0.1 * rng.normal(size=16_000).clip(-3, 3), 16_000)
    before = len(registered_models(home))
    with pytest.raises(AsdError, match=r"hiss is not enrolled: .* nearly identical.*--force"):
        enroll("hiss", tmp_path / "hiss", home=home.root)
    assert len(registered_models(home)) == before
    forced = enroll("hiss", tmp_path / "hiss", force=True, home=home.root)
    assert "hiss" in forced["machines"] and "nearly identical" in forced["failed_checks"][0]


def test_what_can_not_be_enrolled_is_said_before_anything_is_registered(
    enrolled: dict[str, Any], home: Home, small_machines: Path, tmp_path: Path
) -> None:
    before = len(registered_models(home))
    with pytest.raises(AsdError, match="holds recordings of simFan, simValve: name the folder of pump alone"):
        enroll("pump", small_machines, home=home.root)
    with pytest.raises(AsdError, match=r"26 of the recordings in .* are known as recordings of simValve"):
        enroll("pump", small_machines / "simValve", home=home.root)
    few = tmp_path / "pump"
    few.mkdir()
    source = sorted((small_machines / "simValve" / "test").glob("*normal*.wav"))[:3]
    for index, file in enumerate(source):
        samples, rate = soundfile.read(file)
        soundfile.write(few / f"{index}.wav", samples * 0.5, rate)
    with pytest.raises(AsdError, match="pump has 3; a machine needs 10"):
        enroll("pump", few, home=home.root)
    shutil.rmtree(few)
    few.mkdir()
    with pytest.raises(AsdError):
        enroll("pump", few, home=home.root)
    assert len(registered_models(home)) == before


def test_the_commands_say_what_they_have_done(
    asd: "Callable[..., subprocess.CompletedProcess[str]]", enrolled: dict[str, Any], home: Home, small_machines: Path
) -> None:
    done = asd("enroll", "simValve", "--recordings", small_machines / "simValve", "--home", home.root)
    assert done.returncode == 0, done.stderr
    assert "simValve enrolled on 14 normal recordings; nothing else of version" in done.stdout
    assert re.search(r"asd-detector version \d+, the champion", done.stdout)
    gone = asd("retire", "simPump", "--home", home.root)
    assert gone.returncode == 1
    assert "machine 'simPump' is not enrolled; this detector knows" in gone.stderr


@pytest.mark.slow
def test_a_machine_enrolled_from_elsewhere_stays_when_the_others_are_retrained_even_if_its_files_are_gone(
    enrolled: dict[str, Any], home: Home, small_machines: Path, small_settings: Settings, tmp_path: Path
) -> None:
    annex = Path(shutil.copytree(small_machines / "simValve" / "train", tmp_path / "annex"))
    for index, file in enumerate(sorted(annex.iterdir())):
        samples, rate = soundfile.read(file)
        soundfile.write(annex / f"{index}.wav", 0.9 * samples, rate)
        file.unlink()
    set_champion(home, "2", "as it was")
    assert enroll("annexValve", annex, home=home.root)["machines"] == ["annexValve", "simFan", "simValve"]
    shutil.rmtree(annex)
    again = retrain(recordings=small_machines / "simFan", settings=small_settings, home=home.root)
    detector = Detector.load(again["detector"])
    assert set(detector.machines) == {"annexValve", "simFan", "simValve"}
    assert again["judgement"] is not None and set(again["judgement"]["by"]) == {"annexValve", "simFan", "simValve"}
    assert not [reason for reason in again["judgement"]["reasons"] if "does not know" in reason]
    # The next one keeps them, too, if this one becomes the champion; and a retired machine does not come back.
    assert detector.about["stay_enrolled"] == ["annexValve", "simValve"]
    set_champion(home, again["version"], "by hand")
    retire("annexValve", home=home.root)
    with home.at_work():
        assert enrolled_machines() == ["simValve"]
