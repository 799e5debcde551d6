"""Stages: what is cached, what is computed again, and that partial output is never used."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from asdcore.features.store import Row, Store
from asdcore.settings import MelSettings, Settings, TrainingSettings
from asdcore.storage.home import Home
from tasks.encoder import training_key
from tasks.features import feature_store, originals_artifact
from tasks.stage import Artifact, Facts, forget_scratch, input_digest, scratch_folder, stage
from tasks.store import store_stage

CALLS: list[object] = []


@stage("runs/doubles/{key}.txt", uncounted=("label",))
def double(out: Path, number: int, label: str = "") -> Facts:
    CALLS.append(number)
    out.write_text(str(2 * number))
    return {"number": number}


@stage("runs/folders/{key}/")
def write_folder(out: Path, source: Artifact) -> None:
    CALLS.append("folder")
    (out / "a.txt").write_text(source.path.read_text())
    (out / "b.txt").write_text("b")


@stage("runs/broken/{key}.txt")
def break_off(out: Path) -> None:
    out.write_text("half")
    scratch_folder().mkdir(parents=True, exist_ok=True)
    (scratch_folder() / str(len(list(scratch_folder().iterdir())))).touch()
    if len(list(scratch_folder().iterdir())) < 2:
        raise ValueError("killed")


@stage("runs/slow/{key}.txt")
def slowly(out: Path, number: int) -> None:
    CALLS.append("begun")
    time.sleep(0.2)
    out.write_text(str(number))
    CALLS.append("done")


@store_stage("runs/squares/{key}")
def squares(recordings: Sequence[str], power: int) -> Iterator[tuple[str, Row]]:
    for recording in recordings:
        CALLS.append(recording)
        yield recording, {"square": np.full(2, float(recording) ** power, np.float32)}


@pytest.fixture
def home(prefect_api: str, tmp_path: Path) -> Iterator[Home]:
    place = Home.at(tmp_path / "home")
    CALLS.clear()
    with place.lock():
        yield place


def test_a_stage_runs_once_for_the_same_inputs(home: Home) -> None:
    first, again, other = double(21), double(21, label="shown only"), double(4)
    assert CALLS == [21, 4]
    assert first == again and first != other
    assert first.path.read_text() == "42" and first.facts["number"] == 21
    assert first.path.is_relative_to(home.runs) and list(first.files) == [first.path]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("4")], ids=["gone", "damaged"])
def test_an_output_that_is_gone_or_damaged_is_made_again(home: Home, damage: object) -> None:
    artifact = double(21)
    damage(artifact.path)  # type: ignore[operator]
    assert double(21).path.read_text() == "42"
    assert CALLS == [21, 21]


def test_a_folder_is_an_artifact_whose_digest_is_that_of_its_files(home: Home) -> None:
    folder = write_folder(double(21))
    assert sorted(path.name for path in folder.path.iterdir()) == ["a.txt", "b.txt"]
    assert write_folder(double(21)) == folder
    assert write_folder(double(4)).digest != folder.digest
    (folder.path / "a.txt").unlink()
    assert write_folder(double(21)) == folder and (folder.path / "a.txt").read_text() == "42"


def test_a_stage_that_fails_leaves_nothing_that_passes_for_its_output_and_resumes_from_its_scratch(home: Home) -> None:
    with pytest.raises(ValueError, match="killed"):
        break_off()
    assert not list(home.runs.glob("broken/*"))
    assert break_off().path.read_text() == "half"
    assert not list(home.runs.glob("scratch/*"))


def test_a_store_gets_what_it_lacks_and_each_row_once(home: Home) -> None:
    store = squares(["1", "2"], 2)
    assert squares(["2", "3"], 2) == store and CALLS == ["1", "2", "3"]
    assert Store(store.path).read("3", "square").tolist() == [9.0, 9.0]
    assert squares(["2"], 3).path != store.path


def test_several_inputs_at_once_come_back_in_their_order(home: Home) -> None:
    artifacts = double.map([{"number": number} for number in (3, 1, 2)], at_once=2)
    assert [artifact.path.read_text() for artifact in artifacts] == ["6", "2", "4"]
    assert [double(number) for number in (3, 1, 2)] == artifacts
    assert sorted(map(str, CALLS)) == ["1", "2", "3"]


def test_the_averages_of_a_retraining_and_an_enrolment_are_the_same_stage(home: Home) -> None:
    training = Settings(training=TrainingSettings(encoder="resnet18"))
    of_retraining = originals_artifact(feature_store(training))
    assert of_retraining == feature_store(Settings(), variants=False)


def test_a_retraining_with_the_base_encoder_has_a_key_of_its_spectrograms(two_recordings: pd.DataFrame) -> None:
    settings, base = Settings(), Artifact(Path("base"), "base")
    keys = {
        training_key(Artifact(Path("store"), digest), two_recordings, settings.training, settings, base)
        for digest in ("one", "two")
    }
    assert len(keys) == 2


def test_a_training_with_other_recordings_or_settings_is_another_one(home: Home, two_recordings: pd.DataFrame) -> None:
    rows = two_recordings
    spectrograms = Artifact(home.features, "store")

    def key_of(spectrograms: Artifact, rows: pd.DataFrame, **changed: object) -> str:
        training = TrainingSettings(encoder="resnet18").model_copy(update=changed)
        return training_key(spectrograms, rows, training, Settings(training=training), None)

    key = key_of(spectrograms, rows)
    assert key_of(spectrograms, rows.iloc[::-1]) == key
    assert key_of(spectrograms, rows, device="cpu") == key
    assert key_of(spectrograms, rows, seed=1) != key
    assert key_of(spectrograms, rows.head(1)) != key
    assert key_of(Artifact(home.features, "another"), rows) != key


@pytest.mark.parametrize(
    ("value", "same", "other"),
    [
        ({"a": 1, "b": [2.0, None]}, {"b": [2.0, None], "a": 1}, {"a": 1, "b": [2.0, True]}),
        (Ridge(alpha=1.0), Ridge(alpha=1.0), Ridge(alpha=2.0)),
        (MelSettings(), MelSettings(n_mels=128), MelSettings(n_mels=64)),
        (("1",), ("1",), (1,)),
        (Artifact(Path("a"), "digest"), Artifact(Path("b"), "digest"), Artifact(Path("a"), "other")),
    ],
)
def test_inputs_with_the_same_content_have_the_same_digest(value: object, same: object, other: object) -> None:
    assert input_digest(value) == input_digest(same) != input_digest(other)


@pytest.mark.parametrize("value", [Path("a"), np.zeros(2), object()])
def test_an_input_whose_content_is_unknown_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="has no digest"):
        input_digest(value)


def test_a_misspelt_parameter_is_noticed_when_the_stage_is_made() -> None:
    with pytest.raises(TypeError, match="no parameter labl"):
        stage("runs/{key}", uncounted=("labl",))(lambda out, label: None)


def test_two_tasks_of_a_cluster_with_the_same_key_compute_once(home: Home) -> None:
    CALLS.clear()
    with home.lock(), ThreadPoolExecutor(2) as workers:
        inputs = slowly.bound(3)
        key = slowly.key(inputs)
        first, second = workers.map(lambda _: slowly.execute_on_worker(key, home, inputs), range(2))
        assert first == second and CALLS == ["begun", "done"]
        (home.root / next(iter(first["files"]))).unlink()
        assert slowly.execute_on_worker(key, home, inputs)["files"] == first["files"], "a file that is gone is made"
        assert CALLS == ["begun", "done"] * 2
        forget_scratch(home, key)
        assert not list((home.runs / "scratch").iterdir())
