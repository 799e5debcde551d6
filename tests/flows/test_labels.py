"""Labels of a home with a champion: what it doubts, what a person says, and machines with another name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from asdcore.errors import AsdError
from asdcore.monitoring.incidents import open_incidents
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.training import pending_review, training_recordings
from asdcore.settings import RecordingSettings
from asdcore.storage.home import Home
from flows import rename as rename_flow
from flows.rename import rename
from tasks.labels import label_recordings
from tasks.recordings import ingest_recordings
from tasks.registered import load_detector
from tasks.scoring import score_recordings

pytestmark = pytest.mark.flow


@pytest.fixture
def home(pump_place: Path, tmp_path: Path) -> Home:
    return Home.at(shutil.copytree(pump_place / ".asd", tmp_path / "home"))


@pytest.fixture
def arriving(pump_place: Path, tmp_path: Path) -> Path:
    """A folder of four recordings of the pump that nobody has listened to, all of a fault."""
    samples, rate = soundfile.read(pump_place / "pump" / "test" / "new.wav")
    folder = tmp_path / "arriving" / "pump"
    folder.mkdir(parents=True)
    for index in range(4):
        soundfile.write(folder / f"{index}.wav", samples * (1 - index / 100), rate, subtype="FLOAT")
    return folder.parent


def test_a_file_that_was_only_scored_can_be_labelled(home: Home, pump_place: Path) -> None:
    strange, usual = (pump_place / "pump" / "test" / name for name in ("new.wav", "old.wav"))
    with pytest.raises(AsdError, match="no recording of the table; `asd ingest` it first, or `asd score` it"):
        label_recordings(home, [str(strange)], "anomaly", "anna")
    with home.synchronised():
        score_recordings(home, [strange, usual], None, "champion", explain=False)
    (digest,) = label_recordings(home, [str(strange)], "anomaly", "anna")
    label_recordings(home, [str(usual)], "normal", "anna")
    rows = Catalog(home.recordings).recordings.set_index("path")
    assert rows.loc[str(strange), ["machine", "split", "label", "labelled_by"]].tolist() == [
        *("pump", "test", "anomaly", "anna")
    ]
    assert rows.loc[str(usual), ["split", "label"]].tolist() == ["test", "normal"]
    assert label_recordings(home, [digest[:12]], "normal", "bert") == {digest: "normal"}


def test_ingest_keeps_what_the_champion_doubts_without_a_server_and_says_how_to_settle_it(
    home: Home, arriving: Path
) -> None:
    code = (
        "import sys; from flows.cli.app import app; app(sys.argv[1:], standalone_mode=False)\n"
        "print('imported:', sorted({name.split('.')[0] for name in sys.modules} & {'prefect', 'mlflow', 'torch'}))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    command = [sys.executable, "-c", code, "ingest", str(arriving), "--home", str(home.root)]
    before = len(training_recordings(Catalog(home.recordings).recordings))
    for added, imported in ((4, "['torch']"), (0, "[]")):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert f"{added} added" in done.stdout and done.stdout.splitlines()[-1] == f"imported: {imported}"
        assert ("pump: 4 new recordings are pending review" in done.stderr) == bool(added)
        assert (f"asd label --pending --machine pump --as normal --home {home.root}" in done.stderr) == bool(added)
    table = Catalog(home.recordings).recordings
    assert len(pending_review(table)) == 4 and len(training_recordings(table)) == before
    label_recordings(home, pending_review(table)["recording"].tolist(), "normal", "anna")
    assert len(training_recordings(Catalog(home.recordings).recordings)) == before + 4


def test_unlabelled_recordings_can_be_taken_as_unknown(tmp_path: Path, arriving: Path) -> None:
    home = Home.at(tmp_path / "another")
    (arriving / "manifest.csv").write_text("path,machine,label\npump/0.wav,pump,\npump/1.wav,pump,normal\n")
    ingest_recordings(arriving, home, RecordingSettings(), unlabelled="unknown")
    labels = {Path(row["path"]).stem: row["label"] for row in Catalog(home.recordings).recordings.to_dict("records")}
    assert labels == {"0": "unknown", "1": "normal"}


def test_a_machine_with_another_name_is_known_by_it_and_nothing_is_computed_again(
    prefect_api: str, home: Home, pump_place: Path
) -> None:
    before, parent = load_detector(home)
    done = rename("pump", "press", home=home.root)
    detector, version = load_detector(home)
    assert version == done["version"] != parent and set(detector.machines) == {"press"}
    assert detector.machines["press"].clips == before.machines["pump"].clips
    assert set(Catalog(home.recordings).recordings["machine"]) == {"press"}
    with home.synchronised():
        scored = score_recordings(home, [pump_place / "pump" / "test" / "new.wav"], None, "champion", explain=False)
    assert list(scored["alarms"]) == ["press"]


def test_a_rename_that_failed_half_way_is_finished_by_the_same_command(
    prefect_api: str, home: Home, pump_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with home.synchronised():
        score_recordings(home, [pump_place / "pump" / "test" / "new.wav"], None, "champion", explain=False)
    assert [one.machine for one in open_incidents(home)] == ["pump"]

    def no_registry(*_: object) -> None:
        raise AsdError("the registry cannot be reached")

    with monkeypatch.context() as patch:
        patch.setattr(rename_flow, "registered_change", no_registry)
        with pytest.raises(AsdError, match="cannot be reached"):
            rename("pump", "press", home=home.root)
    assert set(Catalog(home.recordings).recordings["machine"]) == {"press"}
    done = rename("pump", "press", home=home.root)
    detector, version = load_detector(home)
    assert set(detector.machines) == {"press"} and version == done["version"] and done["recordings"] > 0
    assert [one.machine for one in open_incidents(home)] == ["press"]


def test_a_name_that_the_champion_knows_is_refused_before_anything_changes(prefect_api: str, home: Home) -> None:
    catalog = Catalog(home.recordings)
    catalog.rename("pump", "mill")  # A machine of the table that the champion does not know, whose pump is in no table.
    with pytest.raises(AsdError, match="the champion knows a machine pump already"):
        rename("mill", "pump", home=home.root)
    assert set(Catalog(home.recordings).recordings["machine"]) == {"mill"}
