"""Recordings and home in object storage: a real server that speaks S3, on loopback, and machines with caches apart."""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
import pytest
import requests
from moto.server import ThreadedMotoServer

from asdcore.errors import AsdError
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.fetch import fetched
from asdcore.settings import Settings
from asdcore.storage.home import Home
from asdcore.storage.mirror import Mirror
from flows.retrain import retrain
from flows.score import score

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of an S3 server on loopback that asks for no known credentials."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else a line for each request
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def storage(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the server, with an empty bucket ``plant``; this machine's cache is empty, too."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    requests.post(f"{server}/moto-api/reset", timeout=10)
    client = boto3.client("s3")
    client.create_bucket(Bucket="plant")
    return client


def send(storage: Any, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            storage.upload_file(str(path), "plant", f"{prefix}/{path.relative_to(folder)}")


def objects(storage: Any, prefix: str = "") -> dict[str, str]:
    pages = storage.get_paginator("list_objects_v2").paginate(Bucket="plant", Prefix=prefix)
    return {one["Key"]: one["ETag"] for page in pages for one in page.get("Contents", [])}


def test_a_retraining_in_object_storage_is_there_on_another_machine(
    prefect_api: str,
    storage: Any,
    small_machines: Path,
    small_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = small_settings.training.model_copy(update={"epochs": 1, "cycles": 1})
    settings = small_settings.model_copy(update={"training": training})
    send(storage, small_machines, "recordings")
    place: dict[str, Any] = {"recordings": Path("s3://plant/recordings"), "home": Path("s3://plant/home")}
    first = retrain(machines=["simFan"], settings=settings, **place)
    assert first["version"] == "1"
    there = objects(storage, "home/")
    kinds = ("features/", "runs/", "recordings/", "scores/", "prefect/results/", "mlartifacts/", "mlflow.db")
    assert all(any(name.startswith(f"home/{kind}") for name in there) for kind in kinds)
    assert not [name for name in there if "partial" in name or "scratch/" in name or "verified.json" in name]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    recording = next(name for name in objects(storage, "recordings/simFan/test") if "anomaly" in name)
    scored = score(recordings=[Path(f"s3://plant/{recording}")], home=place["home"])
    assert (scored["version"], scored["scored"]) == ("1", 1)
    assert not Home.at(place["home"]).features.exists(), "to score takes no spectrograms"
    assert pd.read_parquet(scored["table"])["machine"].tolist() == ["simFan"]
    before = objects(storage, "home/")
    again = retrain(machines=["simFan"], settings=settings, **place)
    assert (again["version"], again["run"]) == (first["version"], first["run"])
    after = objects(storage, "home/")
    # That the recordings lie elsewhere on this machine is a new part of their table; the registry knows of the score.
    made = {name for name, tag in after.items() if before.get(name) != tag}
    assert {name for name in made if not name.startswith("home/recordings/part-")} <= {"home/mlflow.db"}
    assert there.keys() <= after.keys()


def test_two_machines_do_not_lose_each_others_files(
    storage: Any, small_machines: Path, small_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asdcore.recordings.names import find_recordings

    def home(machine: str) -> Home:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        return Home.at("s3://plant/home")

    one, two = home("one"), home("two")
    assert one.root != two.root
    with pytest.raises(AsdError, match=r"another machine has changed the registry.*MLFLOW_TRACKING_URI"), one.lock():
        (one.root / "mlflow.db").touch()
        with two.lock():
            Catalog(two.recordings).ingest(find_recordings(small_machines / "simFan"), small_settings.recordings)
            (two.root / "mlflow.db").touch()
        Catalog(one.recordings).ingest(find_recordings(small_machines / "simValve"), small_settings.recordings)
    told: list[str] = []
    with one.lock(told.append):
        pass
    assert "set aside" in told[0] and list(one.root.glob("mlflow-*.db"))
    with two.lock():
        pass
    for place in (one, two, home("three")):
        with place.synchronised():
            assert set(Catalog(place.recordings).recordings["machine"]) == {"simFan", "simValve"}


def test_only_what_is_new_is_fetched_and_sent(storage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.wav", "b.wav", "notes.txt"):
        storage.put_object(Bucket="plant", Key=f"line/pump/{name}", Body=name.encode())
    pump = fetched(Path("s3://plant/line/pump"))
    assert pump.parts[-3:] == ("plant", "line", "pump") and sorted(p.name for p in pump.iterdir()) == ["a.wav", "b.wav"]
    before = (pump / "a.wav").stat().st_ino
    storage.put_object(Bucket="plant", Key="line/pump/b.wav", Body=b"another")
    storage.put_object(Bucket="plant", Key="line/pump/c.wav", Body=b"more")
    assert fetched(Path("s3://plant/line/pump/a.wav")) == pump / "a.wav"
    fetched(Path("s3://plant/line/pump"))
    assert (pump / "a.wav").stat().st_ino == before and (pump / "b.wav").read_bytes() == b"another"
    storage.delete_object(Bucket="plant", Key="line/pump/a.wav")
    assert sorted(path.name for path in fetched(Path("s3://plant/line/pump")).iterdir()) == ["b.wav", "c.wav"]

    home, sent = Home.at("s3://plant/home"), list[str]()
    (home.runs / "deep").mkdir(parents=True)
    (home.runs / "deep" / "model.npz").write_bytes(b"1")
    (home.runs / ".model.npz.0123.partial").write_bytes(b"half")
    monkeypatch.setattr("asdcore.storage.s3.Bucket.send", lambda _, path, name: sent.append(name) or "tag")
    home.send()
    home.send()
    assert sent == ["runs/deep/model.npz"]
    shutil.rmtree(home.root)
    Mirror(Home.at("s3://plant/home").root, "s3://plant/home").push()
    assert sent == ["runs/deep/model.npz"], "what is gone here is not deleted there"


def test_what_is_wrong_with_object_storage_is_named_with_the_remedy(
    storage: Any, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AsdError, match=r"s3://plant/empty: no \.wav or \.flac file there"):
        fetched(Path("s3://plant/empty"))
    with (
        pytest.raises(AsdError, match=r"there is no bucket nowhere.*create the bucket"),
        Home.at("s3://nowhere").lock(),
    ):
        pass
    requests.post(f"{server}/moto-api/reset-auth", data=b"0", timeout=10)
    with pytest.raises(AsdError, match=r"credentials are wrong.*AWS_ACCESS_KEY_ID"):
        fetched(Path("s3://plant"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AsdError, match="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        fetched(Path("s3://plant"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(AsdError, match="Is the network up, and is AWS_ENDPOINT_URL the right server"):
        fetched(Path("s3://plant"))
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    with pytest.raises(AsdError, match=r"needs boto3, which is not installed: pip install 'asd\[s3\]'"):
        fetched(Path("s3://plant"))
