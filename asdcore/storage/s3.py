"""Object storage: the objects below an ``s3://`` address, on any S3-compatible server.

boto3's variables configure server and credentials: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ...
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asdcore.errors import AsdError
from asdcore.progress import progress, say
from asdcore.storage.files import atomic_write

AT_ONCE = 16
"""Concurrent transfers."""
ELSEWHERE = "set XDG_CACHE_HOME to a folder on another disk"
DENIED = {"403", "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
MISSING = {"404", "NoSuchBucket", "NoSuchKey"}
CHANGED = {"412", "PreconditionFailed", "ConditionalRequestConflict"}


class Changed(AsdError):
    """The object has been written by another client since it was last read."""


def s3_address(place: str | Path) -> str | None:
    """``s3://bucket/prefix`` if ``place`` is such an address, else None. A Path has lost one of the two slashes.

    >>> s3_address(Path("s3://plant/pumps/")), s3_address("s3:/plant"), s3_address("plant")
    ('s3://plant/pumps', 's3://plant', None)
    """
    match = re.fullmatch(r"s3:/+([^/].*?)/*", str(place))
    return f"s3://{match[1]}" if match else None


def cache_folder() -> Path:
    """Where local copies of objects are kept: ``asd`` in ``XDG_CACHE_HOME``, or in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().resolve() / "asd"


def at_once(work: Callable[[str], object], names: Sequence[str], what: str) -> None:
    """Run a transfer for each name, several at a time, with a progress bar. The first failure ends them all."""
    if names:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for _ in progress(threads.map(work, names), what, total=len(names)):
                pass


@dataclass(frozen=True)
class Found:
    """An object: bytes, ETag, and seconds since 1970 when it was last changed."""

    size: int
    tag: str
    changed: int


class Bucket:
    """The objects below an address; their names are relative to it.

    Args:
        address: ``s3://bucket`` or ``s3://bucket/prefix``.

    Raises:
        AsdError: boto3 is not installed, or its variables are invalid. From the methods: missing or wrong
            credentials, no such bucket, no answer.
    """

    def __init__(self, address: str) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise AsdError(f"{address} needs boto3, which is not installed: pip install 'asd[s3]'") from error
        self.address = address
        self.bucket, _, prefix = address.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix}/" if prefix else ""
        patient = Config(
            retries={"mode": "standard", "total_max_attempts": 4}, connect_timeout=10, max_pool_connections=AT_ONCE
        )
        with self._remedies():
            self._client: Any = boto3.Session().client("s3", config=patient)

    def find(self, below: str = "") -> dict[str, Found]:
        """Every object whose name begins with ``below``, by name.

        Left out are names such as ``../a.wav``, which as a path would lead out of the folder for the copies.
        """
        objects: dict[str, Found] = {}
        with self._remedies():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + below
            )
            for page in pages:
                for item in page.get("Contents", []):
                    name, changed = item["Key"].removeprefix(self.prefix), int(item["LastModified"].timestamp())
                    if name.startswith("/") or ".." in name.split("/") or "\0" in name:
                        say(f"{self.address}: {name!r} is left out, since it would lead out of its folder")
                        continue
                    objects[name] = Found(item["Size"], item["ETag"], changed)
        return objects

    def fetch(self, name: str, path: Path) -> None:
        """Write an object to ``path`` atomically. An interrupted transfer is retried."""
        from boto3.s3.transfer import TransferConfig

        with atomic_write(path, ELSEWHERE) as temporary, self._remedies(name):
            self._client.download_file(
                self.bucket, self.prefix + name, str(temporary), Config=TransferConfig(use_threads=False)
            )

    def send(self, path: Path, name: str, **condition: str) -> str:
        """Write a file to an object atomically; return its ETag.

        Args:
            path: the file, 5 GB at most.
            name: of the object.
            condition: ``IfMatch`` an ETag, or ``IfNoneMatch="*"``: only if the object does not exist.

        Raises:
            Changed: the condition is not met.
        """
        with path.open("rb") as file, self._remedies(name):
            response = self._client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=file, **condition)
        return str(response["ETag"])

    @contextmanager
    def _remedies(self, name: str = "") -> Iterator[None]:
        """Raise boto3's errors as AsdErrors with a remedy."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

        where = f"{self.address}/{name}" if name else self.address
        try:
            yield
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise AsdError(
                f"{where}: {error}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            ) from error
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in CHANGED:
                raise Changed(f"{where}: another client has written it") from error
            if code in DENIED:
                remedy = "these credentials are wrong, have expired, or do not permit this; check AWS_ACCESS_KEY_ID"
            elif code in MISSING:
                remedy = f"there is no bucket {self.bucket}, or no such object; create the bucket, or name another one"
            else:
                remedy = "the server refused"
            raise AsdError(f"{where}: {remedy} ({error})") from error
        except (BotoCoreError, Boto3Error, ValueError) as error:
            raise AsdError(
                f"{where}: {error}. Is the network up, and is AWS_ENDPOINT_URL the right server? Finished work is "
                "kept: the same command resumes"
            ) from error
