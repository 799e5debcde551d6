"""The scoring stage: a registered detector on audio files, as a table."""

from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact

from asdcore.detector import COLUMNS
from asdcore.errors import AsdError
from asdcore.home import Home, digest_of_file, whole_file
from asdcore.recordings.names import AUDIO_SUFFIXES
from tasks.registry import load_detector


@task(name="score recordings")
def score_recordings(
    home: Home, recordings: list[Path], machine: str | None, model: str, table: Path
) -> dict[str, Any]:
    """Score audio files and folders; write what `Detector.score` gives, the digest and the version to ``table``."""
    files = [file for place in recordings for file in _audio_files(place)]
    detector, version = load_detector(home, model)
    scores = detector.score(files, machine)
    scores.insert(1, "recording", [digest_of_file(file) if file.is_file() else "" for file in files])
    scores["detector"] = version
    with whole_file(table) as temporary:
        scores.to_parquet(temporary)
    shown = scores.sort_values("score", ascending=False).head(100)
    columns = shown[COLUMNS].astype(object)
    rows = {str(name): values.where(values.notna(), None).tolist() for name, values in columns.items()}
    create_table_artifact(key="scores", table=rows, description=f"Highest scores, detector version {version}; {table}")
    failed = int(scores["score"].isna().sum())
    return {"version": version, "table": str(table), "scored": len(scores) - failed, "failed": failed}


def _audio_files(place: Path) -> list[Path]:
    if not place.exists():
        raise AsdError(f"{place}: no such file or folder")
    if place.is_file():
        return [place]
    files = sorted(path for path in place.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    if not files:
        raise AsdError(f"{place}: no .wav or .flac file in this folder or below it")
    return files
