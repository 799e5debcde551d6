"""Recordings and home in object storage: a server on loopback that speaks S3, and machines with separate caches."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.retrain import retrain
from flows.score import score

pytestmark = pytest.mark.flow


def send(s3: Any, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), "plant", f"{prefix}/{path.relative_to(folder)}")


def objects(s3: Any, prefix: str = "") -> dict[str, str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="plant", Prefix=prefix)
    return {one["Key"]: one["ETag"] for page in pages for one in page.get("Contents", [])}


@pytest.mark.slow
def test_a_retraining_in_object_storage_is_there_on_another_machine(
    prefect_api: str,
    s3: Any,
    small_machines: Path,
    small_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = small_settings.training.model_copy(update={"epochs": 1, "cycles": 1})
    settings = small_settings.model_copy(update={"training": training})
    send(s3, small_machines, "recordings")
    place: dict[str, Any] = {"recordings": Path("s3://plant/recordings"), "home": Path("s3://plant/home")}
    first = retrain(machines=["simFan"], settings=settings, **place)
    assert first["version"] == "1"
    there = objects(s3, "home/")
    kinds = ("features/", "runs/", "recordings/", "scores/", "prefect/results/", "mlartifacts/", "mlflow.db")
    assert all(any(name.startswith(f"home/{kind}") for name in there) for kind in kinds)
    assert not [name for name in there if "partial" in name or "scratch/" in name or "verified.json" in name]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    recording = next(name for name in objects(s3, "recordings/simFan/test") if "anomaly" in name)
    scored = score(recordings=[Path(f"s3://plant/{recording}")], home=place["home"])
    assert (scored["version"], scored["scored"]) == ("1", 1)
    assert not Home.at(place["home"]).features.exists(), "to score takes no spectrograms"
    assert pd.read_parquet(scored["table"])["machine"].tolist() == ["simFan"]
    before = objects(s3, "home/")
    again = retrain(machines=["simFan"], settings=settings, **place)
    assert (again["version"], again["run"]) == (first["version"], first["run"])
    after = objects(s3, "home/")
    # That the recordings lie elsewhere on this machine is a new part of their table; the registry knows of the score.
    made = {name for name, tag in after.items() if before.get(name) != tag}
    assert {name for name in made if not name.startswith("home/recordings/part-")} <= {"home/mlflow.db"}
    assert there.keys() <= after.keys()
