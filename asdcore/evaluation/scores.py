"""Scores of test recordings: by any systems, from the stores of their vectors, or by a detector that has heard them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.torch import load_file

from asdcore.baselines.autoencoder import AutoencoderModel
from asdcore.detector import Detector
from asdcore.evaluation.systems import DETECTOR, DetectorSystem, System, VectorSystem, detector_system
from asdcore.features.store import Store
from asdcore.heard import Heard
from asdcore.normality.base import read_model
from asdcore.normality.calibration import Calibration
from asdcore.normality.machine import MachineModel, upper_quartile
from asdcore.recordings.clips import recording_of

CHALLENGE_RATE = 0.1
"""False-alarm rate of the decisions in the challenge's files."""
DESCRIBED = ["recording", "path", "machine", "section", "domain", "label", "attributes", "session", "session_heard"]
Groups = Mapping[str, Sequence[str]]
"""machine: the session of each training clip, as the models were fitted with"""


def scores_of_systems(
    test: pd.DataFrame,
    systems: Sequence[System],
    stores: Mapping[str, Path],
    models: Mapping[str, Mapping[str, Path]],
    groups: Groups,
    false_alarm_rate: float,
    own_rates: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Score test recordings with every system.

    Args:
        test: one row per clip, see `asdcore.recordings.clips.cut`, with the column ``session_heard``, see
            `asdcore.monitoring.outcomes`.
        systems: in the order of the result.
        stores: source (see `VectorSystem`): folder of the store that has it; ``original`` for autoencoders.
        models: system: machine: file of the fitted model.
        groups: the training clips that are left out together.
        false_alarm_rate: of the verdicts.
        own_rates: of the verdicts on machines that have a rate of their own.

    Returns:
        One row per test recording and system: `DESCRIBED`, system, score (higher is more anomalous; of a recording that
        was cut the upper quartile over its clips, see `MachineModel.judge`), decision (Int64, at `CHALLENGE_RATE`,
        missing for systems that take none), and verdict at the machine's rate (missing for those that know no
        p-value).
    """
    of_machine = {}  # The clips of a recording follow each other.
    for machine, clips in test.groupby("machine"):
        recordings = clips["recording"].map(recording_of)
        rows = clips[DESCRIBED].assign(recording=recordings).drop_duplicates("recording")
        counts = recordings.groupby(recordings, sort=False).size().tolist()
        of_machine[str(machine)] = rows, clips["recording"].tolist(), counts
    rates = {machine: (own_rates or {}).get(machine, false_alarm_rate) for machine in of_machine}
    tables = [
        rows.assign(
            system=system.name,
            **_scores(
                system, clips, counts, stores, models[system.name][machine], groups.get(machine, ()), rates[machine]
            ),
        )
        for system in systems
        for machine, (rows, clips, counts) in of_machine.items()
    ]
    if not tables:
        return pd.DataFrame(columns=[*DESCRIBED, "system", "score", "decision", "verdict"])
    return pd.concat(tables, ignore_index=True).astype({"decision": "Int64"})


def scores_of_heard(detector: Detector, heard: Sequence[Heard], described: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What a machine's metrics are computed from, without stores of features.

    Args:
        detector: that has heard them.
        heard: recordings that could be scored.
        described: one row for each of them, such as machine, section, domain, label.

    Returns:
        system: the described rows with score; of the detector with verdict, p_value and triggered_by, too. The
        detector first, and, if it has several scorers, each of them alone, by the names that a retraining gives them.
    """
    verdicts = {name: [one.verdict[name] for one in heard] for name in ("score", "verdict", "p_value", "triggered_by")}
    scorers = detector_system(detector.settings.normality).scorers
    alone = {}
    for scorer, system in scorers if len(scorers) > 1 else ():
        models = [detector.machines[one.machine].models[scorer] for one in heard]
        scores = [
            upper_quartile(model.distance((one.vectors or {})[scorer]))
            for model, one in zip(models, heard, strict=True)
        ]
        alone[system.name] = described.assign(score=scores)
    return {DETECTOR: described.assign(**verdicts), **alone}


def _scores(
    system: System,
    clips: Sequence[str],
    counts: Sequence[int],
    stores: Mapping[str, Path],
    model: Path,
    groups: Sequence[str],
    rate: float,
) -> dict[str, Any]:
    """Score, decision and verdict of each recording; the first has the first ``counts[0]`` of ``clips``, and so on."""
    ends = np.cumsum(counts)[:-1]
    if isinstance(system, DetectorSystem):
        vectors = {scorer: np.split(_vectors(part, clips, stores), ends) for scorer, part in system.scorers}
        verdicts = _verdicts(MachineModel.read(model), vectors, rate)
        decisions = [int(p_value <= CHALLENGE_RATE) for p_value in verdicts["p_value"]]
        return {"score": verdicts["score"], "decision": decisions, "verdict": verdicts["verdict"]}
    if isinstance(system, VectorSystem):
        fitted = read_model(model)
        rows = _vectors(system, clips, stores)
        if fitted.left_out_ is None:
            scores = [upper_quartile(of_recording) for of_recording in np.split(fitted.distance(rows), ends)]
            return {"score": scores, "decision": None, "verdict": None}
        machine = MachineModel({system.name: fitted}, groups=groups or None)
        verdicts = _verdicts(machine, {system.name: np.split(rows, ends)}, rate)
        challenge = Calibration().fit(fitted.left_out_).decision(verdicts["score"], CHALLENGE_RATE).astype(int)
        return {"score": verdicts["score"], "decision": challenge, "verdict": verdicts["verdict"]}
    store = Store(stores["original"])
    autoencoder = AutoencoderModel.from_tensors(load_file(model))
    originals = (store.read(clip, "original") for clip in clips)
    of_clips = [autoencoder.score(each, system.score, per_frame_mean=system.per_frame_mean) for each in originals]
    scores = [upper_quartile(of_recording) for of_recording in np.split(np.array(of_clips), ends)]
    decided = None if system.per_frame_mean else [int(score > autoencoder.thresholds[system.score]) for score in scores]
    return {"score": scores, "decision": decided, "verdict": None}


def _verdicts(
    machine: MachineModel, vectors: Mapping[str, Sequence[NDArray[np.float32]]], rate: float
) -> dict[str, list[Any]]:
    """The verdict columns; ``vectors``: scorer: (m, p) of each recording."""
    recordings = [dict(zip(vectors, parts, strict=True)) for parts in zip(*vectors.values(), strict=True)]
    verdicts = [machine.judge(recording, rate).verdict for recording in recordings]
    return {name: [verdict[name] for verdict in verdicts] for name in ("score", "p_value", "verdict")}


def _vectors(system: VectorSystem, clips: Sequence[str], stores: Mapping[str, Path]) -> NDArray[np.float32]:
    store = Store(stores[system.source])
    return np.stack([store.read(clip, system.column) for clip in clips])
