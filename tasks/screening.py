"""The screening stage: which training recordings of each machine to listen to first."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.evaluation.systems import DetectorSystem
from asdcore.features.store import Store
from asdcore.normality.base import NormalityModel
from asdcore.normality.neighbours import StandardisedNeighbours
from asdcore.normality.scorers import EmbeddingScorer
from asdcore.normality.screening import FEWEST, first_to_hear, screened
from asdcore.recordings.clips import recording_of
from tasks.normality import Rows, Stores, training_rows
from tasks.stage import Artifact, Facts, stage

MOST_CLIPS = 3000
"""of a machine; all pairs are compared several times"""
LISTED = 3
"""recordings of a machine that are named; there are more in the table of `asd screen`"""


@stage("runs/screening/{key}.csv", uncounted=("machine",))
def screen_training(out: Path, machine: str, stores: Stores, system: DetectorSystem, training: Rows) -> Facts:
    """Rank one machine's training recordings, the strangest first."""
    clips = [clip for clip, _, _ in training]
    vectors: dict[str, NDArray[np.float32]] = {}
    models: dict[str, NormalityModel] = {}
    for scorer, part in system.scorers:
        store = Store(stores[part.source].path)
        vectors[scorer] = np.stack([store.read(clip, part.column) for clip in clips])
        # The embedding's own model may need a refit for each recording; screening was measured with this one.
        models[scorer] = StandardisedNeighbours() if scorer == EmbeddingScorer.name else part.model
    try:
        table = screened(vectors, models, [recording_of(clip) for clip in clips])
    except AsdError as error:
        # A list to look at is no reason for a retraining to fail.
        out.write_text(f"{error}\n")
        return {"stand_out": 0}
    table.to_csv(out, index=False)
    first = table[table["stands_out"]].head(LISTED)
    return {
        "recordings": len(table),
        "stand_out": int(table["stands_out"].sum()),
        "sentence": first_to_hear(machine, table),
        "first": [[str(row.recording), str(row.found_by)] for row in first.itertuples()],
    }


class StandOut(TypedDict):
    """The training recordings of a machine that stand out."""

    machine: str
    sentence: str
    count: int
    first: list[list[str]]
    """path and what it was found by, of the strangest `LISTED`"""


def training_screened(stores: Stores, clips: pd.DataFrame, system: DetectorSystem) -> list[StandOut]:
    """The training recordings that stand out, of each machine where one does.

    Machines with fewer than `FEWEST` recordings or more than `MOST_CLIPS` clips are not screened.
    """
    path_of = dict(zip(clips["recording"].map(recording_of), clips["path"], strict=True))
    found: list[StandOut] = []
    for machine, rows in training_rows(clips).items():
        if len(rows) > MOST_CLIPS or len({recording_of(clip) for clip, _, _ in rows}) < FEWEST:
            continue
        sources = {part.source for _, part in system.scorers}
        own: dict[str, Artifact] = {source: stores[source] for source in sources}
        facts = screen_training(machine, own, system, rows).facts
        if facts["stand_out"]:
            first = [[str(path_of[recording]), str(found_by)] for recording, found_by in facts["first"]]
            found.append(
                {
                    "machine": machine,
                    "sentence": str(facts["sentence"]),
                    "count": int(facts["stand_out"]),
                    "first": first,
                }
            )
    return found


def listen_first(found: Sequence[StandOut]) -> list[str]:
    """Lines about the training recordings that stand out; none where nothing does."""
    lines: list[str] = []
    for own in found:
        lines.append(own["sentence"])
        lines += [f"  {path} ({found_by})" for path, found_by in own["first"]]
        if own["count"] > LISTED:
            lines.append(f"  and {own['count'] - LISTED} more")
    return lines
