"""Scores of test recordings by any systems, from the stores of their vectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.torch import load_file

from asdcore.baselines.autoencoder import AutoencoderModel
from asdcore.evaluation.systems import AutoencoderSystem, DetectorSystem, System, VectorSystem
from asdcore.features.store import Store
from asdcore.normality.base import read_model
from asdcore.normality.calibration import Calibration
from asdcore.normality.machine import MachineModel

CHALLENGE_RATE = 0.1
"""False-alarm rate of the decisions in the challenge's files."""
DESCRIBED = ["recording", "path", "machine", "section", "domain", "label"]


def score_table(
    test: pd.DataFrame,
    systems: Sequence[System],
    stores: Mapping[str, Path],
    models: Mapping[str, Mapping[str, Path]],
) -> pd.DataFrame:
    """Score test recordings with every system.

    Args:
        test: rows of the table of recordings.
        systems: in the order of the result.
        stores: source (see `VectorSystem`): folder of the store that has it; ``original`` for autoencoders.
        models: system: machine: file of the fitted model.

    Returns:
        One row per test recording and system: `DESCRIBED`, system, score (higher is more anomalous), and decision
        (Int64, missing for systems that take none).
    """
    tables = [
        rows[DESCRIBED].assign(
            system=system.name, **_scores(system, rows["recording"], stores, models[system.name][str(machine)])
        )
        for system in systems
        for machine, rows in test.groupby("machine")
    ]
    if not tables:
        return pd.DataFrame(columns=[*DESCRIBED, "system", "score", "decision"])
    return pd.concat(tables, ignore_index=True).astype({"decision": "Int64"})


def _scores(system: System, recordings: "pd.Series[str]", stores: Mapping[str, Path], model: Path) -> dict[str, Any]:
    if isinstance(system, DetectorSystem):
        vectors = {scorer: _vectors(part, recordings, stores) for scorer, part in system.scorers}
        verdict = MachineModel.read(model).verdict(vectors, CHALLENGE_RATE)
        return {name: verdict[name].to_numpy() for name in ("score", "decision")}
    if isinstance(system, VectorSystem):
        fitted = read_model(model)
        distances = fitted.distance(_vectors(system, recordings, stores))
        left_out = fitted.left_out_
        decisions = None
        if left_out is not None:
            decisions = Calibration().fit(left_out).decision(distances, CHALLENGE_RATE).astype(int)
        return {"score": distances, "decision": decisions}
    return _autoencoder_scores(system, recordings, Store(stores["original"]), model)


def _autoencoder_scores(
    system: AutoencoderSystem, recordings: "pd.Series[str]", store: Store, model: Path
) -> dict[str, Any]:
    autoencoder = AutoencoderModel.from_tensors(load_file(model))
    originals = (store.read(recording, "original") for recording in recordings)
    scores = [autoencoder.score(each, system.score, per_frame_mean=system.per_frame_mean) for each in originals]
    decisions = [int(score > autoencoder.thresholds[system.score]) for score in scores]
    return {"score": scores, "decision": None if system.per_frame_mean else decisions}


def _vectors(system: VectorSystem, recordings: "pd.Series[str]", stores: Mapping[str, Path]) -> NDArray[np.float32]:
    store = Store(stores[system.source])
    return np.stack([store.read(recording, system.column) for recording in recordings])
