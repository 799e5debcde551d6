"""A home with a champion, scored recordings and incidents, and its board."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from asdcore.recordings.catalog import Catalog
from asdcore.recordings.names import find_recordings
from asdcore.storage.home import Home
from flows.board.app import application
from tasks.board import Records
from tasks.registered import CHAMPION, NAME
from tasks.scoring import score_recordings
from tests.asdcore.notification.conftest import Receiver
from tests.asdcore.reports.conftest import SETTINGS, Plant, detector_of, hum, write

ADDRESS = "http://127.0.0.1:5080"
FROM_HERE = {"sec-fetch-site": "same-origin"}


def made_plant(folder: Path) -> Plant:
    """Sixteen normal recordings of a pump, and its detector."""
    training = [write(folder / "pump" / f"{seed:02d}.wav", hum(seed, 120.0 + seed)) for seed in range(16)]
    return Plant(folder, detector_of(training), training, Catalog(folder / "none").recordings)


def register(home: Home, plant: Plant) -> None:
    """Make its detector the champion, in as much of MLflow's file as `tasks.registered` reads (test_registered checks
    that this is how MLflow writes it): MLflow itself takes ten seconds to make one.
    """
    folder = home.mlartifacts / "models" / "1" / "artifacts"
    plant.detector.save(folder / "detector")
    tables = {
        "model_versions (name, version, creation_time, run_id, storage_location, current_stage)": [
            (NAME, 1, 1_780_000_000_000, "", folder.as_uri(), "None")
        ],
        "registered_model_aliases (name, version, alias)": [(NAME, 1, CHAMPION)],
        "model_version_tags (name, version, key, value)": [(NAME, 1, "score", "80.00")],
    }
    with closing(sqlite3.connect(home.root / "mlflow.db")) as database, database:
        for table, rows in tables.items():
            database.execute(f"CREATE TABLE {table}")
            for row in rows:
                database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    return made_plant(tmp_path_factory.mktemp("plant"))


@pytest.fixture(scope="module")
def home(plant: Plant, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Scored: a normal recording, then three with a whistle, which are anomalous; ``pump/test/gone.wav`` is gone."""
    home = Home.at(tmp_path_factory.mktemp("home"))
    Catalog(home.recordings).ingest(find_recordings(plant.folder), SETTINGS.recordings)
    register(home, plant)
    normal = plant.recording("pump/test/quiet.wav", 101)
    whistles = [
        plant.recording(f"pump/test/{name}.wav", seed, 1.0) for seed, name in enumerate(("a", "b", "gone"), 200)
    ]
    score_recordings(home, [normal], None, CHAMPION, explain=False)
    time.sleep(1.1)  # The names of score tables tell the second: runs of the same one count as one.
    score_recordings(home, whistles, None, CHAMPION, explain=False)
    whistles[2].unlink()
    return home


def notify_by(receiver: Receiver, home: Home) -> None:
    """Let a home tell a receiver of what has happened in it, ever."""
    file = home.root / "notify.yaml"
    file.write_text(f"office:\n  type: webhook\n  url: http://127.0.0.1:{receiver.port}\n")
    os.utime(file, (0, 0))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver().start()
    yield receiver
    receiver.stop()


@pytest.fixture
def records(home: Home) -> Records:
    return Records(home)


@pytest.fixture
def board(records: Records) -> TestClient:
    return TestClient(application(records), base_url=ADDRESS, headers=FROM_HERE)
