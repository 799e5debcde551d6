"""What is registered: looked up in MLflow's SQLite file where there is one, as importing MLflow takes three seconds."""

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from asdcore.errors import AsdError, OutdatedDetectorError
from asdcore.storage.home import Home, without_userinfo
from tasks.no_answer import NoAnswerError, no_answer, said_by

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

    from asdcore.detector import Detector
    from asdcore.settings import Settings

NAME = "asd-detector"
CHAMPION = "champion"
DESCRIPTION = "detector.json"
"""the file that every folder of a detector has"""

SECONDS_TO_WAIT = 30
"""for another program that has locked the file"""
_VERSIONS = """
    SELECT version, creation_time, run_id, storage_location FROM model_versions
    WHERE name = ? AND current_stage != 'Deleted_Internal' ORDER BY version DESC"""
_ALIASES = "SELECT version, alias FROM registered_model_aliases WHERE name = ?"
_TAGS = "SELECT version, key, value FROM model_version_tags WHERE name = ?"


@dataclass(frozen=True)
class Version:
    """A registered version, as MLflow knows it."""

    number: str
    created: int
    """milliseconds since 1970"""
    run: str
    location: str
    """URI of the folder of the model; empty if MLflow must be asked"""
    aliases: tuple[str, ...]
    tags: dict[str, str]


def registered_models(home: Home) -> list[dict[str, str]]:
    """One row per registered version, newest first: version, alias, score, date, created, data, machines, run."""
    versions = versions_in_file(home)
    rows = []
    for found in _versions_of_mlflow(home) if versions is None else versions:
        date = datetime.fromtimestamp(found.created / 1000, UTC).astimezone()
        rows.append(
            {
                "version": found.number,
                "alias": ", ".join(sorted(found.aliases)),
                "score": found.tags.get("score", ""),
                "date": f"{date:%Y-%m-%d %H:%M}",
                "created": date.isoformat(timespec="seconds"),
                "data": found.tags.get("data", ""),
                "machines": found.tags.get("machines", ""),
                "run": found.run,
            }
        )
    return rows


def load_detector(home: Home, model: str = CHAMPION) -> tuple["Detector", str]:
    """The registered detector of an alias or version, and its version.

    Raises:
        AsdError: there is none.
    """
    from asdcore.detector import Detector  # Only here: a list of versions does without PyTorch.

    with registered_folder(home, model) as (folder, registered):
        return Detector.load(folder), registered


def registered_settings(home: Home, model: str) -> "Settings":
    """The settings of the registered detector of an alias or version.

    Raises:
        OutdatedDetectorError: its settings are those of an older version of asd, which cannot use it either.
        AsdError: there is none, or its description is damaged or of a newer version of asd.
    """
    from asdcore.settings import Settings  # Only here, as above.

    with registered_folder(home, model) as (folder, version):
        description: Any = {}
        try:
            description = json.loads((folder / DESCRIPTION).read_text())
            return Settings.model_validate(description["settings"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            from asdcore.detector import FORMAT  # Only here: it imports PyTorch.

            outdated = isinstance(description, dict) and description.get("format", FORMAT) < FORMAT
            kind = OutdatedDetectorError if outdated else AsdError
            raise kind(f"version {version} has no settings that can be read: {error}") from error


@contextmanager
def registered_folder(home: Home, model: str) -> Iterator[tuple[Path, str]]:
    """The folder of the registered detector of an alias or version, as long as the block lasts, and its version.

    It is only to be read: it may be the registry's own.

    Raises:
        AsdError: there is none, or the registry does not answer.
    """
    versions = versions_in_file(home)
    if versions == []:
        raise _none_registered(home, model)
    for found in versions or ():
        if model == found.number or model in found.aliases:
            folder = _local_folder(home, found.location)
            if folder is not None:
                yield folder, found.number
                return
            if urlsplit(found.location).scheme == "file":
                raise _files_gone(found.number, found.location)
    with _folder_of_mlflow(home, model) as (folder, registered):
        yield folder, registered


def versions_in_file(home: Home) -> list[Version] | None:
    """The versions, newest first, that the SQLite file of the home has; None if only MLflow can tell.

    The file is read and never changed. Nothing is cached between calls.

    Raises:
        NoAnswerError: another program keeps it locked.
    """
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    file = home.root / "mlflow.db"
    if not file.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=SECONDS_TO_WAIT)) as database:
            versions = database.execute(_VERSIONS, [NAME]).fetchall()
            aliases = database.execute(_ALIASES, [NAME]).fetchall()
            tags = database.execute(_TAGS, [NAME]).fetchall()
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise no_answer(home, error) from None
        return None  # Of another version of MLflow, or left by a killed writer: MLflow repairs it, or says what it is.
    return [
        Version(
            str(number),
            created,
            run or "",
            location or "",
            tuple(alias for of, alias in aliases if of == number),
            {key: value for of, key, value in tags if of == number},
        )
        for number, created, run, location in versions
    ]


def _local_folder(home: Home, location: str) -> Path | None:
    """The detector's folder in a model that is on this machine; None if it is not, or there is not exactly one."""
    parts = urlsplit(location)
    if parts.scheme != "file":
        return None
    model = Path(url2pathname(parts.path))
    if not model.exists() and home.mlartifacts.name in model.parts:
        # The home was moved, or restored elsewhere, and MLflow keeps absolute paths; the folder's name is unique.
        model = home.mlartifacts.joinpath(str(model).rpartition(f"/{home.mlartifacts.name}/")[2])
    found = list(model.rglob(DESCRIPTION))
    return found[0].parent if len(found) == 1 else None


def _versions_of_mlflow(home: Home) -> list[Version]:
    from tasks.mlflow_store import every
    from tasks.tracking import client

    model = registered_model(home)
    if model is None:
        return []
    aliases: dict[str, list[str]] = {}
    for alias, number in model.aliases.items():
        aliases.setdefault(str(number), []).append(alias)
    versions = every(client(home).search_model_versions, f"name = '{NAME}'", order_by=["version_number DESC"])
    return [
        Version(
            number := str(found.version),
            found.creation_timestamp,
            found.run_id or "",
            "",
            tuple(aliases.get(number, [])),
            found.tags,
        )
        for found in versions
    ]


def registered_model(home: Home) -> "RegisteredModel | None":
    """The model as MLflow knows it, with its aliases; None if MLflow says that there is none.

    Raises:
        NoAnswerError: MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException

    from tasks.mlflow_store import UNKNOWN
    from tasks.tracking import client

    try:
        found = client(home).get_registered_model(NAME)
    except MlflowException as error:
        # Only a definite answer means that there is none.
        if error.error_code == UNKNOWN:
            return None
        raise no_answer(home, error) from None
    if found.name != NAME:
        raise NoAnswerError(f"what answers as {home.registry_name} is not MLflow: it does not know the request")
    return found


@contextmanager
def _folder_of_mlflow(home: Home, model: str) -> Iterator[tuple[Path, str]]:
    """A copy of the folder, wherever MLflow keeps it."""
    import mlflow
    from mlflow.exceptions import MlflowException

    from tasks.mlflow_store import UNKNOWN
    from tasks.tracking import client

    known = registered_model(home)
    number = str(known.aliases.get(model, "")) if known and not model.isdigit() else model
    if known is None or not number:
        raise _none_registered(home, model)
    try:
        found = client(home).get_model_version(NAME, number)
    except MlflowException as error:
        if error.error_code != UNKNOWN:
            raise no_answer(home, error) from None
        raise _none_registered(home, model) from error
    with tempfile.TemporaryDirectory() as folder:
        try:
            local = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/{found.version}", dst_path=folder))
        except Exception as error:  # Of MLflow, or of the client of whatever store the files are in.
            if isinstance(error, FileNotFoundError) or "No such artifact" in str(error):
                raise _files_gone(number, str(found.source)) from error
            why = without_userinfo(said_by(error))
            raise NoAnswerError(
                f"the files of version {number} could not be fetched from {found.source}: {why}"
            ) from None
        descriptions = list(local.rglob(DESCRIPTION))
        if len(descriptions) != 1:
            raise _files_gone(number, str(found.source))
        yield descriptions[0].parent, number


def _files_gone(version: str, place: str) -> AsdError:
    return AsdError(
        f"the files of version {version} are not where the registry says ({place}): they were deleted, or a drive is "
        "not mounted. Restore mlartifacts from a backup, or `asd promote` another version. If no version has its files "
        "any more, move mlflow.db out of the home: `asd retrain` then begins a new registry"
    )


def _none_registered(home: Home, model: str) -> AsdError:
    return AsdError(f"no registered detector {model!r} in {home.registry_name}; `asd retrain` makes one")
