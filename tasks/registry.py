"""The registry stage: log the detector with its metrics as an MLflow model, register it, choose the champion."""

import json
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType
from prefect.runtime import flow_run

import asdcore
from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.monitoring.reliability import reliability_of
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.paths import on_disk
from asdcore.settings import Settings
from asdcore.storage.home import Home
from tasks.code import code_of_function
from tasks.metrics import scores_of_run
from tasks.mlflow_store import UNKNOWN, asked
from tasks.registered import CHAMPION, DESCRIPTION, NAME, load_detector, registered_model
from tasks.stage import Facts, stage
from tasks.tracking import client, describe, flat

CHALLENGER = "challenger"
PROMOTED, REPLACED = "promoted", "replaced"
"""Tags of a version: when and why it became the champion, and which one it replaced."""
LINEAGE = ("recordings", "settings", "code", "parent", "prefect_run")
"""Tags of a version: the digests of what it was made from, the champion of that time, and the flow run that made it."""
INPUTS = ("path", "waveform", "sample_rate", "machine")
"""The columns of what the model is served; see `tasks.served_detector`."""
MOST_CHARACTERS = 4000
"""of a tag; MLflow takes 5,000"""
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


def _is_still_registered(values: Facts) -> bool:
    """Whether the version of a cached result is there, with its files.

    Raises:
        NoAnswerError: not known; registering the detector again would make a second version.
    """
    home, version = Home.current(), values["version"]
    try:
        found = client(home).get_model_version(NAME, version)
    except MlflowException as error:
        if error.error_code != UNKNOWN:
            raise
        return False
    files = asked(home, lambda: mlflow.artifacts.list_artifacts(artifact_uri=f"models:/{NAME}/{version}"))
    return bool(found.run_id == values["run"] and files)


@stage(
    None,
    uncounted=("detector", "tags"),
    still_true=_is_still_registered,
    retries=3,
    retry_delay_seconds=[2, 10, 30],
)
def register_detector(out: Path, registry: str, run: str, detector: str, digest: str, tags: dict[str, str]) -> Facts:
    """Log the detector in a folder as a model of the run and register it.

    ``registry``: name of the store. ``digest``: what the detector is known by; registered already, it is not registered
    again.
    """
    home = Home.current()
    for name, value in tags.items():
        client(home).set_tag(run, f"asd.{name}", value)
    return {"version": _register(home, run, Path(detector), tags), "run": run}


def registered_version(home: Home, run: str, detector: Path, tags: dict[str, str]) -> str:
    """The registered version of a detector."""
    artifact = register_detector(home.registry, run, str(detector), detector.name, tags)
    return str(artifact.facts["version"])


def lineage(recordings: str, settings: Settings) -> dict[str, str]:
    """The tags of a version that say where it comes from. ``recordings``: their digest."""
    return {
        "recordings": recordings,
        "settings": settings.digest(),
        "code": f"asd {asdcore.__version__} {code_of_function(Detector)}",
        "prefect_run": str(flow_run.id or ""),
    }


def _register(home: Home, run: str, detector: Path, tags: dict[str, str]) -> str:
    store = client(home)
    with mlflow.start_run(run_id=run), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logged = mlflow.pyfunc.log_model(
            name="detector",
            python_model=str(Path(__file__).with_name("served_detector.py")),
            # A path would be read as a URI, in which ? and % mean something else.
            artifacts={"detector": detector.absolute().as_uri()},
            code_paths=[str(Path(asdcore.__file__).parent)],
            signature=signature(),
            input_example=input_example(home, detector),
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in NEEDED_TO_SCORE],
        )
    if registered_model(home) is None:
        store.create_registered_model(
            NAME, description="Anomaly scores of machine recordings; higher is more anomalous"
        )
    registered = str(store.create_model_version(NAME, logged.model_uri, run, model_id=logged.model_id).version)
    # As `mlflow.register_model` does it: the page of the logged model names its version.
    versions = json.dumps([{"name": NAME, "version": int(registered)}])
    store.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": versions})
    for name, value in tags.items():
        store.set_model_version_tag(NAME, registered, name, value)
    return registered


def input_example(home: Home, detector: Path) -> pd.DataFrame | None:
    """A recording to try the model with, as a path, which has to be readable where it is tried; None: there is none."""
    machines = json.loads((detector / DESCRIPTION).read_text(encoding="utf-8"))["machines"]
    known = Catalog(home.recordings).recordings
    known = known[known["machine"].isin(machines)]
    known = known[known["path"].map(lambda path: on_disk(Path(path)).is_file())]
    # A test recording, if there is one: the model has not learned it.
    return known.sort_values("split", kind="stable")[["path", "machine"]].head(1) if len(known) else None


def describe_version(home: Home, version: str, text: str) -> None:
    """Set the description of a version, of its logged model and of its run: how it did, in Markdown."""
    store = client(home)
    found = store.update_model_version(NAME, version, description=text)
    # MLflow's SQL store keeps the id of the logged model only as the source of the version.
    model = found.model_id or str(found.source).removeprefix("models:/")
    if model.startswith("m-"):
        store.set_logged_model_tags(model, {"mlflow.note.content": text})
    if found.run_id:
        describe(home, found.run_id, text)


def signature() -> ModelSignature:
    """The columns that the model takes and gives; see `tasks.served_detector`."""
    # Of any type: MLflow would refuse a whole request if one row lacked a value that another one has.
    inputs = Schema([ColSpec(AnyType(), name, required=False) for name in INPUTS])  # type: ignore[no-untyped-call]
    outputs = Schema(
        [
            ColSpec(DataType.string, "machine"),
            *(ColSpec(DataType.double, name) for name in ("score", "p_value")),
            ColSpec(DataType.string, "verdict"),
            ColSpec(DataType.double, "decision"),
            *(ColSpec(DataType.string, text) for text in ("triggered_by", "reason")),
        ]
    )
    return ModelSignature(inputs=inputs, outputs=outputs)


def version_description(home: Home, version: str) -> str:
    """What `describe_version` has said of a version; empty: nothing."""
    return client(home).get_model_version(NAME, version).description or ""


def version_facts(home: Home, version: str) -> dict[str, str]:
    """What a version was made from and how well it did, by name, for two of them to be compared.

    Raises:
        AsdError: there is no such version.
    """
    detector, registered = load_detector(home, version)
    found = client(home).get_model_version(NAME, registered)
    facts = {name: str(found.tags[name]) for name in LINEAGE if name in found.tags}
    facts |= {f"setting {name}": str(value) for name, value in flat(detector.settings.model_dump(mode="json"))}
    for machine in sorted(detector.machines):
        reliability = reliability_of(detector, machine)
        domains = ", ".join(f"{n} {domain}" for domain, n in reliability.domains.items()) if reliability else "unknown"
        facts[f"{machine}: normal training recordings"] = domains
    metrics = client(home).get_run(found.run_id).data.metrics if found.run_id else {}
    scores = scores_of_run(metrics, found.tags.get("system", ""))
    return facts | {f"score {name}": f"{value:.2f}" for name, value in scores.items()}


def set_challenger(home: Home, version: str) -> None:
    """Let the alias challenger name a version."""
    client(home).set_registered_model_alias(NAME, CHALLENGER, version)


def set_champion(home: Home, version: str, why: str, replaced: str | None = None) -> None:
    """Let the alias champion name a version, and keep with it when, why and which one it replaced.

    ``replaced``: what `rolled_back` would go back to; default: the champion that there is.

    Raises:
        AsdError: there is no such version, or the registry does not answer.
    """
    store, before = client(home), champion_version(home)
    try:
        known = store.get_model_version(NAME, version)
    except MlflowException as error:
        if error.error_code != UNKNOWN:
            raise
        raise AsdError(f"no registered version {version!r} in {home.registry_name}; `asd models` lists them") from error
    tags = {PROMOTED: f"{datetime.now(UTC).isoformat(timespec='seconds')} {why}"}
    if before != version:
        tags[REPLACED] = before if replaced is None else replaced
    for name, value in tags.items():
        store.set_model_version_tag(NAME, version, name, value[:MOST_CHARACTERS])
    # The last step, and one that happens or does not: a kill before it leaves the old champion in its place.
    store.set_registered_model_alias(NAME, CHAMPION, version)
    if CHALLENGER in known.aliases:
        store.delete_registered_model_alias(NAME, CHALLENGER)


def rolled_back(home: Home, who: str) -> tuple[str, str]:
    """Make the version champion that the champion replaced; the old and the new one.

    Raises:
        AsdError: there is no champion, or it replaced none.
    """
    version = champion_version(home)
    replaced = client(home).get_model_version(NAME, version).tags.get(REPLACED, "") if version else ""
    if not replaced:
        what = f"version {version} has replaced no other one" if version else "there is no champion"
        raise AsdError(f"nothing to roll back to: {what}; `asd promote VERSION` takes any version")
    # The origin of this version is not changed, so that repeated rollbacks continue backwards.
    earlier = client(home).get_model_version(NAME, replaced).tags.get(REPLACED, "")
    set_champion(home, replaced, f"rolled back from version {version} by {who}", earlier)
    return version, replaced


def was_champion(home: Home, version: str) -> bool:
    """Whether a version has ever been the champion."""
    return PROMOTED in client(home).get_model_version(NAME, version).tags


def champion_version(home: Home) -> str:
    """The version that the alias champion names; empty if there is none.

    Raises:
        AsdError: the registry does not answer: only a definite answer means that there is none.
    """
    model = registered_model(home)
    return str(model.aliases.get(CHAMPION, "")) if model else ""
