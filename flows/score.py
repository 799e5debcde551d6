"""The flow `score`: anomaly scores of recordings by a registered detector."""

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow

from asdcore.home import Home
from tasks.scoring import score_recordings


@flow(name="score")
def score(
    recordings: list[Path], machine: str | None = None, model: str = "champion", home: Path | None = None
) -> dict[str, Any]:
    """Score audio files, or all below a folder.

    Args:
        recordings: files or folders.
        machine: the machine that all of them are of; default: each one's folder names it.
        model: alias or version in the registry.
        home: where the registry and the scores are; default ``ASD_HOME`` or ``.asd``.

    Returns:
        version of the detector, path of the table of scores (Parquet), and how many could and could not be scored.
    """
    place = Home.at(home) if home else Home.default()
    name = f"score-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:4]}.parquet"
    return score_recordings(place, [Path(path) for path in recordings], machine, model, place.scores / name)
