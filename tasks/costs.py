"""The cost stage: how long a system takes to fit and to score, and how large it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from asdcore.encoder.frozen import load_encoder
from asdcore.evaluation.cost import megabytes, score_milliseconds
from asdcore.evaluation.systems import DetectorSystem, System
from asdcore.features.store import Store
from asdcore.settings import Settings
from tasks.normality import Models
from tasks.stage import SECONDS, Artifact, Facts, stage

TIMED = 9
"""recordings, of which the first one is not counted"""
COLUMNS = ["system", "fit_seconds", "score_milliseconds", "megabytes"]


@stage(None)
def scoring_cost(
    out: Path,
    machine: str,
    system: System,
    model: Artifact,
    encoder: Artifact | None,
    spectrograms: Artifact,
    clips: Sequence[tuple[str, str]],
    settings: Settings,
) -> Facts:
    """Time the score of each of some clips, (name, path) pairs, by the model of one machine."""
    loaded = load_encoder(encoder.path) if encoder else None
    store = Store(spectrograms.path)
    timed = [(name, Path(path), store.read(name, "original")) for name, path in clips]
    return {
        "score_milliseconds": round(score_milliseconds(system, model.path, loaded, timed, settings), 3),
        "megabytes": round(megabytes(model.path, encoder.path if encoder else None, loaded), 3),
    }


def costs(
    systems: Sequence[System],
    models: Models,
    encoders: Mapping[str, Artifact],
    spectrograms: Mapping[str, Artifact],
    recordings: pd.DataFrame,
    settings: Settings,
) -> list[dict[str, object]]:
    """One row per system, `COLUMNS`: the time of all fits, and the cost of a score on the machine with the most tests.

    Args:
        systems: that were compared.
        models: system: machine: its fitted model.
        encoders: system: its encoder, if it has one.
        spectrograms: system: the store of the originals that it takes.
        recordings: one row per clip.
        settings: of all systems.
    """
    test = recordings[recordings["split"] == "test"]
    if test.empty:
        return []
    machine = str(test["machine"].value_counts().index[0])
    clips = sorted(zip(*(test.loc[test["machine"] == machine, name] for name in ("recording", "path")), strict=True))
    rows: list[dict[str, object]] = []
    for system in systems:
        encoder = encoders.get(system.name)
        done = scoring_cost(
            machine, system, models[system.name][machine], encoder, spectrograms[system.name], clips[:TIMED], settings
        )
        parts = [part.name for _, part in system.scorers] if isinstance(system, DetectorSystem) else []
        fitted = [artifact for name in (system.name, *parts) for artifact in models[name].values()]
        seconds = sum(artifact.facts.get(SECONDS, 0.0) for artifact in [*fitted, *([encoder] if encoder else [])])
        sizes = {name: done.facts[name] for name in COLUMNS[2:]}
        rows.append({"system": system.name, "fit_seconds": round(seconds, 3), **sizes})
    return rows
