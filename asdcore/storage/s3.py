"""Object storage: what is below an ``s3://`` address, on any server that speaks S3.

The server and who asks are boto3's own variables: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ...
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
from asdcore.progress import progress
from asdcore.storage.files import atomic_write

AT_ONCE = 16
"""Transfers at the same time."""
ELSEWHERE = "set XDG_CACHE_HOME to a folder on another disk"
DENIED = {"403", "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
MISSING = {"404", "NoSuchBucket", "NoSuchKey"}
CHANGED = {"412", "PreconditionFailed", "ConditionalRequestConflict"}


class Changed(AsdError):
    """Somebody else has written the object since it was last looked at."""


def s3_address(place: str | Path) -> str | None:
    """``s3://bucket/prefix`` if that is what ``place`` says, else None. A Path has lost one of the two slashes.

    >>> s3_address(Path("s3://plant/pumps/")), s3_address("s3:/plant"), s3_address("plant")
    ('s3://plant/pumps', 's3://plant', None)
    """
    found = re.fullmatch(r"s3:/+([^/].*?)/*", str(place))
    return f"s3://{found[1]}" if found else None


def cache_folder() -> Path:
    """Where copies of what is in object storage are kept: ``XDG_CACHE_HOME``, or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().resolve() / "asd"


def at_once(work: Callable[[str], object], names: Sequence[str], what: str) -> None:
    """Do a transfer for each name, some at the same time, with a bar. The first that fails ends them all."""
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
        AsdError: boto3 is not installed, or does not like its variables. The methods: no credentials or the wrong
            ones, no such bucket, no answer.
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
        """Every object whose name begins with ``below``, by name."""
        found: dict[str, Found] = {}
        with self._remedies():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + below
            )
            for page in pages:
                for one in page.get("Contents", []):
                    name, changed = one["Key"].removeprefix(self.prefix), int(one["LastModified"].timestamp())
                    found[name] = Found(one["Size"], one["ETag"], changed)
        return found

    def fetch(self, name: str, path: Path) -> None:
        """Write an object to ``path``, whole or not at all. A transfer that breaks off is tried again."""
        from boto3.s3.transfer import TransferConfig

        with atomic_write(path, ELSEWHERE) as temporary, self._remedies(name):
            self._client.download_file(
                self.bucket, self.prefix + name, str(temporary), Config=TransferConfig(use_threads=False)
            )

    def send(self, path: Path, name: str, **condition: str) -> str:
        """Write a file to an object, whole or not at all; its ETag.

        Args:
            path: the file, 5 GB at most.
            name: of the object.
            condition: ``IfMatch`` an ETag, or ``IfNoneMatch="*"``: only if there is none.

        Raises:
            Changed: the condition is not met.
        """
        with path.open("rb") as file, self._remedies(name):
            sent = self._client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=file, **condition)
        return str(sent["ETag"])

    @contextmanager
    def _remedies(self, name: str = "") -> Iterator[None]:
        """boto3's errors as ones that a person can mend."""
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
                raise Changed(f"{where}: somebody else has written it") from error
            if code in DENIED:
                remedy = "these credentials are wrong, have expired, or may not do this; look at AWS_ACCESS_KEY_ID"
            elif code in MISSING:
                remedy = f"there is no bucket {self.bucket}, or no such object; create the bucket, or name another one"
            else:
                remedy = "the server says no"
            raise AsdError(f"{where}: {remedy} ({error})") from error
        except (BotoCoreError, Boto3Error, ValueError) as error:
            raise AsdError(
                f"{where}: {error}. Is the network up, and is AWS_ENDPOINT_URL the right server? What is done is kept: "
                "the same command goes on"
            ) from error
