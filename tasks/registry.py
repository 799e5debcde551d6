"""The registry stage: log the detector with its figures as an MLflow model, register it, look it up."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array
from prefect import task

import asdcore
from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.home import Home, digest_of
from tasks.caching import CACHED, Result, code_version, run_cached
from tasks.tracking import client

NAME = "asd-detector"
CHAMPION = "champion"
NEEDED_TO_SCORE = (
    "filelock",
    "librosa",
    "mlflow",
    "numpy",
    "pandas",
    "pydantic",
    "rich",
    "safetensors",
    "scikit-learn",
    "soundfile",
    "soxr",
    "torch",
)


@task(name="register detector", retries=3, retry_delay_seconds=[2, 10, 30], **CACHED)
def register_detector(key: str, home: Home, run: str, detector: Path, tags: dict[str, str], promote: bool) -> Result:
    """Log the detector as a model of the run, register it and make it the champion where ``promote`` says so."""
    for name, value in tags.items():
        client(home).set_tag(run, f"asd.{name}", value)
    return {"files": {}, "values": {"version": _register(home, run, detector, tags, promote)}}


def registered_version(home: Home, run: str, detector: Path, tags: dict[str, str], *, promote: bool = True) -> str:
    """The registered version of a detector; what is registered already is not registered again, nor promoted again."""
    key = digest_of(home.mlflow_uri, run, detector.name, code_version("detector.py", "normality"))

    def registered(result: Result) -> bool:
        return _is_registered(home, result["values"]["version"], run)

    work: dict[str, Any] = {"run": run, "detector": detector, "tags": tags, "promote": promote}
    return str(run_cached(register_detector, home=home, still_true=registered, key=key, **work)["values"]["version"])


def _register(home: Home, run: str, detector: Path, tags: dict[str, str], promote: bool) -> str:
    store = client(home)
    with mlflow.start_run(run_id=run), warnings.catch_warnings():
        # MLflow would like an input example: a path that is there when the model is loaded. There is none.
        warnings.simplefilter("ignore")
        logged = mlflow.pyfunc.log_model(
            name="detector",
            python_model=str(Path(__file__).with_name("served_detector.py")),
            artifacts={"detector": str(detector)},
            code_paths=[str(Path(asdcore.__file__).parent)],
            signature=signature(),
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in NEEDED_TO_SCORE],
        )
    if not store.search_registered_models(f"name = '{NAME}'"):
        store.create_registered_model(
            NAME, description="Anomaly scores of machine recordings; higher is more anomalous"
        )
    registered = str(store.create_model_version(NAME, logged.model_uri, run, model_id=logged.model_id).version)
    for name, value in tags.items():
        store.set_model_version_tag(NAME, registered, name, value)
    if promote:
        store.set_registered_model_alias(NAME, CHAMPION, registered)
    return registered


def signature() -> ModelSignature:
    """The columns that the model takes and gives; see `tasks.served_detector`."""
    inputs = Schema(
        [
            ColSpec(DataType.string, "path", required=False),
            ColSpec(Array(DataType.double), "waveform", required=False),
            ColSpec(DataType.long, "sample_rate", required=False),
            ColSpec(DataType.string, "machine", required=False),
        ]
    )
    outputs = Schema(
        [
            ColSpec(DataType.string, "machine"),
            *(ColSpec(DataType.double, figure) for figure in ("score", "p_value", "extrapolated", "decision")),
            *(ColSpec(DataType.string, text) for text in ("seen_by", "reason")),
        ]
    )
    return ModelSignature(inputs=inputs, outputs=outputs)


def _is_registered(home: Home, registered: str, run: str) -> bool:
    try:
        known = client(home).get_model_version(NAME, registered).run_id == run
        return known and bool(mlflow.artifacts.list_artifacts(artifact_uri=f"models:/{NAME}/{registered}"))
    except (MlflowException, OSError):
        return False


def registered_models(home: Home) -> list[dict[str, str | None]]:
    """One row a registered version, newest first: version, alias, score, date, data, machines, run."""
    store = client(home)
    aliases: dict[str, list[str]] = {}
    try:
        for alias, registered in store.get_registered_model(NAME).aliases.items():
            aliases.setdefault(str(registered), []).append(alias)
    except MlflowException:
        return []
    rows = []
    for found in store.search_model_versions(f"name = '{NAME}'", order_by=["version_number DESC"]):
        date = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).astimezone()
        rows.append(
            {
                "version": str(found.version),
                "alias": ", ".join(sorted(aliases.get(str(found.version), []))),
                "score": found.tags.get("score", ""),
                "date": f"{date:%Y-%m-%d %H:%M}",
                "data": found.tags.get("data", ""),
                "machines": found.tags.get("machines", ""),
                "run": found.run_id,
            }
        )
    return rows


def load_detector(home: Home, model: str = CHAMPION) -> tuple[Detector, str]:
    """The registered detector of an alias or version, and its version.

    Raises:
        AsdError: there is none.
    """
    with registered_folder(home, model) as (folder, registered):
        return Detector.load(folder), registered


@contextmanager
def registered_folder(home: Home, model: str) -> Iterator[tuple[Path, str]]:
    """A copy of the registered detector of an alias or version, as long as the block lasts, and its version.

    Raises:
        AsdError: there is none.
    """
    store = client(home)
    try:
        if model.isdigit():
            found = store.get_model_version(NAME, model)
        else:
            found = store.get_model_version_by_alias(NAME, model)
    except MlflowException as error:
        raise AsdError(f"no registered detector {model!r} in {home.mlflow_uri}; `asd retrain` makes one") from error
    with tempfile.TemporaryDirectory() as folder:
        try:
            local = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/{found.version}", dst_path=folder))
            (description,) = local.rglob("detector.json")
        except (MlflowException, OSError, ValueError) as error:
            raise AsdError(
                f"the files of version {found.version} are not where the registry says ({found.source}): they were "
                "deleted, or the home was moved. `asd retrain` registers the detector again"
            ) from error
        yield description.parent, str(found.version)


def champion_version(home: Home) -> str:
    """The version that the alias champion names; empty if there is none."""
    try:
        return str(client(home).get_model_version_by_alias(NAME, CHAMPION).version)
    except MlflowException:
        return ""
