"""What is registered is read from the SQLite file as MLflow would say it."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from unittest.mock import patch
from uuid import uuid4

import mlflow
import pytest
from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT
from prefect.client.schemas.objects import FlowRun
from prefect.states import Failed

from asdcore.errors import AsdError
from asdcore.monitoring.incidents import open_incidents
from asdcore.storage.home import Home
from flows.environment import prepare
from flows.failures import tell_failure
from flows.servers import serve
from tasks.registered import NAME, Version, registered_folder, registered_models, versions_in_file
from tasks.registry import champion_version, set_champion
from tasks.review import NOT_JUDGED, champions_review
from tasks.tracking import client

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three versions, 2 of which is deleted; 1 is the champion."""
    home = Home.at(tmp_path_factory.mktemp("a home, 100 %"))
    store = client(home)
    store.create_registered_model(NAME)
    for number in ("1", "2", "3"):
        folder = home.mlartifacts / "models" / number / "artifacts"
        (folder / "detector").mkdir(parents=True)
        (folder / "detector" / "detector.json").write_text(number)
        store.create_model_version(NAME, folder.as_uri())
        store.set_model_version_tag(NAME, number, "score", f"{number}0.00")
        store.set_registered_model_alias(NAME, f"alias-{number}", number)
    store.set_registered_model_alias(NAME, "champion", "1")
    store.delete_model_version(NAME, "2")
    return home


def read(home: Home, model: str) -> tuple[str, str]:
    with registered_folder(home, model) as (folder, version):
        return (folder / "detector.json").read_text(), version


def test_the_file_says_what_mlflow_says(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    by_file = registered_models(home)
    assert [(row["version"], row["alias"], row["score"]) for row in by_file] == [
        ("3", "alias-3", "30.00"),
        ("1", "alias-1, champion", "10.00"),
    ]
    monkeypatch.setattr("tasks.registered.versions_in_file", lambda _: None)
    assert registered_models(home) == by_file


@pytest.mark.parametrize("model", ["champion", "1", "3", "alias-3"])
def test_a_detector_is_found_in_the_file_and_by_mlflow(home: Home, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setattr(mlflow.artifacts, "download_artifacts", None)
        by_file = read(home, model)
    monkeypatch.setattr("tasks.registered.versions_in_file", lambda _: None)
    assert read(home, model) == by_file


@pytest.mark.parametrize("model", ["2", "alias-2", "nobody"])
def test_what_is_deleted_or_was_never_there_is_not_found(home: Home, model: str) -> None:
    with pytest.raises(AsdError, match=f"no registered detector '{model}'"):
        read(home, model)


def test_a_change_of_the_champion_is_seen_at_once(home: Home) -> None:
    client(home).set_registered_model_alias(NAME, "champion", "3")
    assert read(home, "champion") == ("3", "3")
    client(home).set_registered_model_alias(NAME, "champion", "1")
    assert read(home, "champion") == ("1", "1")


def test_nothing_is_registered_where_there_is_no_file_and_none_is_made(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    assert registered_models(home) == []
    with pytest.raises(AsdError, match="`asd retrain` makes one"):
        read(home, "champion")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_layout_is_left_to_mlflow(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE model_versions (name TEXT)")
    assert versions_in_file(Home.at(tmp_path)) is None


def test_another_store_is_left_to_mlflow(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert versions_in_file(home) is None


def test_a_registry_that_does_not_answer_is_said_to_and_its_password_is_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:s3cret@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    home = Home.at(tmp_path)
    for ask in (registered_models, lambda home: read(home, "champion"), lambda home: set_champion(home, "1", "")):
        with pytest.raises(AsdError, match=r"the registry http://127\.0\.0\.1:1 does not answer") as raised:
            ask(home)
        assert "s3cret" not in str(raised.value) and raised.value.__suppress_context__
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(home, 0, 0, say)
    assert said == ["mlflow   http://127.0.0.1:1, as MLFLOW_TRACKING_URI says"]
    tell_failure(home, "retrain", FlowRun(flow_id=uuid4()), Failed(message="no answer from http://anna:s3cret@there/"))
    (incident,) = open_incidents(home)
    assert "no answer from http://there/" in incident.sentence and "s3cret" not in incident.sentence
    assert home.registry == "http://anna:s3cret@127.0.0.1:1"


def test_a_version_that_was_deleted_cannot_become_the_champion(home: Home) -> None:
    with pytest.raises(AsdError, match="no registered version '2'"):
        set_champion(home, "2", "")


def test_mlflow_prints_no_url_between_the_data_of_a_command(tmp_path: Path) -> None:
    with patch.dict(os.environ):
        prepare(Home.at(tmp_path), quiet=True)
        assert MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.get()


def test_a_model_that_is_not_on_this_machine_is_left_to_mlflow(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Version("1", 0, "", "s3://plant/mlartifacts/models/1", ("champion",), {})
    monkeypatch.setattr("tasks.registered.versions_in_file", lambda _: [elsewhere])
    assert read(home, "champion") == ("1", "1")


def test_a_home_that_was_moved_has_its_detectors(home: Home, tmp_path: Path) -> None:
    moved = home.root.rename(tmp_path / "moved")
    try:
        assert read(Home.at(moved), "champion") == ("1", "1")
    finally:
        moved.rename(home.root)


def test_files_that_are_gone_are_named(home: Home) -> None:
    file = home.mlartifacts / "models" / "3" / "artifacts" / "detector" / "detector.json"
    file.rename(file.with_name("away"))
    try:
        with pytest.raises(AsdError, match="the files of version 3 are not where the registry says"):
            read(home, "3")
    finally:
        file.with_name("away").rename(file)


def test_a_registry_that_does_not_answer_is_not_one_without_a_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    home = Home.at(tmp_path)
    for ask in (champion_version, registered_models):
        with pytest.raises(AsdError, match=r"the registry .* does not answer"):
            ask(home)
    told: list[str] = []
    rows = [{"recording": "ab12", "machine": "pump", "path": "a.wav", "session": ""}]
    assert champions_review(home, told.append)(rows) == {"ab12": NOT_JUDGED}
    assert told[0].startswith("the champion could not judge what is new, so all of it is pending review")
