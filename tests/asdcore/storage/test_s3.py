from pathlib import Path
from typing import Any

import pytest
import requests

from asdcore.errors import AsdError
from asdcore.storage.s3 import Bucket, Changed, at_once


@pytest.fixture
def bucket(s3: Any) -> Bucket:
    return Bucket("s3://plant/pump")


def test_objects_are_found_under_names_relative_to_the_address(s3: Any, bucket: Bucket) -> None:
    for key in ("pump/a.wav", "pump/deep/b.wav", "pumps/c.wav", "d.wav"):
        s3.put_object(Bucket="plant", Key=key, Body=b"12345")
    assert sorted(bucket.find()) == ["a.wav", "deep/b.wav"]
    assert sorted(bucket.find("deep/")) == ["deep/b.wav"]
    assert bucket.find("nowhere/") == {}
    assert sorted(Bucket("s3://plant").find("pump")) == ["pump/a.wav", "pump/deep/b.wav", "pumps/c.wav"]
    about = s3.head_object(Bucket="plant", Key="pump/a.wav")
    found = bucket.find()["a.wav"]
    assert (found.size, found.tag, found.changed) == (5, about["ETag"], about["LastModified"].timestamp())


def test_objects_of_all_pages_of_a_listing_are_found(s3: Any, bucket: Bucket) -> None:
    for number in range(5):
        s3.put_object(Bucket="plant", Key=f"pump/{number}", Body=b"")
    pages: list[dict[str, Any]] = []

    def two_per_page(params: dict[str, Any], **_: Any) -> dict[str, Any]:
        pages.append(params)
        return params | {"MaxKeys": 2}

    bucket._client.meta.events.register("provide-client-params.s3.ListObjectsV2", two_per_page)
    assert sorted(bucket.find()) == ["0", "1", "2", "3", "4"]
    assert len(pages) == 3


def test_a_file_that_is_sent_comes_back_as_it_was(bucket: Bucket, tmp_path: Path) -> None:
    content = bytes(range(256)) * 50_000  # more than one part of a multipart transfer
    (tmp_path / "sent").write_bytes(content)
    tag = bucket.send(tmp_path / "sent", "deep/model.npz")
    assert bucket.find()["deep/model.npz"].tag == tag
    bucket.fetch("deep/model.npz", tmp_path / "here" / "model.npz")
    assert (tmp_path / "here" / "model.npz").read_bytes() == content


def test_a_transfer_that_fails_keeps_the_older_copy_and_nothing_partial(bucket: Bucket, tmp_path: Path) -> None:
    copy = tmp_path / "model.npz"
    copy.write_text("older")
    with pytest.raises(AsdError, match=r"s3://plant/pump/gone: .*no such object"):
        bucket.fetch("gone", copy)
    assert copy.read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


def test_a_file_is_sent_only_if_nobody_else_has_written_it(s3: Any, bucket: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "registry"
    file.write_text("1")
    first = bucket.send(file, "registry", IfNoneMatch="*")
    with pytest.raises(Changed, match=r"s3://plant/pump/registry: another client"):
        bucket.send(file, "registry", IfNoneMatch="*")
    file.write_text("2")
    bucket.send(file, "registry", IfMatch=first)
    file.write_text("3")
    with pytest.raises(Changed):
        bucket.send(file, "registry", IfMatch=first)
    assert s3.get_object(Bucket="plant", Key="pump/registry")["Body"].read() == b"2"


def test_the_first_transfer_that_fails_ends_them_all_with_its_error() -> None:
    def work(name: str) -> None:
        if name == "b":
            raise AsdError("b failed")

    with pytest.raises(AsdError, match="b failed"):
        at_once(work, ["a", "b", "c"], "transfers")
    at_once(pytest.fail, [], "nothing to transfer")


def test_a_bucket_that_does_not_exist_is_named(s3: Any) -> None:
    with pytest.raises(AsdError, match=r"s3://nowhere: there is no bucket nowhere.*create the bucket"):
        Bucket("s3://nowhere").find()


def test_wrong_credentials_are_an_error_that_names_their_variable(s3_server: str, bucket: Bucket) -> None:
    requests.post(f"{s3_server}/moto-api/reset-auth", data=b"0", timeout=10)
    with pytest.raises(AsdError, match=r"credentials are wrong.*AWS_ACCESS_KEY_ID"):
        bucket.find()


def test_without_credentials_it_says_which_variables_to_set(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "nowhere")
    with pytest.raises(AsdError, match="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        Bucket("s3://plant").find()


def test_a_server_that_does_not_answer_is_an_error_with_its_variable(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(AsdError, match="Is the network up, and is AWS_ENDPOINT_URL the right server"):
        Bucket("s3://plant").find()


def test_without_boto3_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    with pytest.raises(AsdError, match=r"s3://plant needs boto3, which is not installed: pip install 'asd\[s3\]'"):
        Bucket("s3://plant")
