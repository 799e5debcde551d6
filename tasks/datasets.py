"""The recordings of an MLflow run as its datasets: digest, counts, and where they came from."""

import json
from pathlib import Path

import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.types import ColSpec, DataType, Schema

from asdcore.recordings.clips import recording_count
from asdcore.recordings.sessions import groups_of
from asdcore.recordings.training import HELD_OUT, training_recordings
from asdcore.storage.home import Home
from asdcore.storage.s3 import s3_address
from tasks.recordings import data_digest
from tasks.tracking import client

COLUMNS = ("recording", "path", "machine", "section", "domain", "split", "label", "session")


def log_recordings(home: Home, run: str, clips: pd.DataFrame, place: Path | str | None) -> None:
    """Log what a run is trained, judged and tested on; logged already, it is not logged again.

    Args:
        home: of the table of recordings.
        run: of MLflow.
        clips: see `asdcore.recordings.clips.cut`.
        place: where the recordings are; None: the table of recordings, of whatever place.
    """
    parts = {
        "training": training_recordings(clips),
        "held out": clips[clips["split"] == HELD_OUT],
        "test": clips[clips["split"] == "test"],
    }
    source = str(home.recordings) if place is None else s3_address(place) or str(Path(place).resolve())
    inputs = [
        DatasetInput(_dataset(rows, source), [InputTag("mlflow.data.context", context)])
        for context, rows in parts.items()
        if len(rows)
    ]
    client(home).log_inputs(run, inputs)


def _dataset(clips: pd.DataFrame, source: str) -> Dataset:
    counts = {str(machine): recording_count(rows) for machine, rows in clips.groupby("machine")}
    sessions = {str(machine): len(set(groups_of(rows))) for machine, rows in clips.groupby("machine")}
    profile = {"num_rows": sum(counts.values()), "clips": len(clips), "recordings": counts, "sessions": sessions}
    columns = Schema([ColSpec(DataType.string, name) for name in COLUMNS])
    return Dataset(
        name=Path(source).name or source,
        digest=data_digest(clips),
        source_type="s3" if s3_address(source) else "local",
        source=json.dumps({"uri": source}),
        schema=json.dumps({"mlflow_colspec": columns.to_dict()}),
        profile=json.dumps(profile),
    )
