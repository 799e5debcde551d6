"""The normality stage: one task per machine and system."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from asdcore.evaluation.systems import DetectorSystem, NormalitySystem, single_systems
from asdcore.features.store import Store
from asdcore.normality.base import NormalityModel, read_model, write_arrays
from asdcore.normality.gaussian import GaussianModel
from asdcore.normality.machine import MachineModel
from asdcore.recordings.formats import Formats
from asdcore.recordings.sessions import groups_of
from asdcore.recordings.training import training_recordings
from tasks.stage import Artifact, stage

Stores = dict[str, Artifact]
"""source: the store that has it, see `VectorSystem`"""
Models = dict[str, dict[str, Artifact]]
"""system: machine: fitted model"""
Rows = Sequence[tuple[str, str, str]]
"""(name, domain, group) of clips; those of one group are left out together, see `groups_of`"""


def stores_of(statistics: Artifact | None, embeddings: Artifact | None = None) -> Stores:
    """The stores by source."""
    stores: Stores = dict.fromkeys(("h", "z"), embeddings) if embeddings else {}
    if statistics is not None:
        stores |= dict.fromkeys(Store(statistics.path).columns, statistics)
    return stores


@stage("runs/normality/{key}.npz", uncounted=("machine",))
def fit_normality(
    out: Path, machine: str, vectors: Artifact, column: str, model: NormalityModel, recordings: Rows
) -> None:
    """Fit one machine's model on the vectors of its normal training recordings."""
    store = Store(vectors.path)
    clips, domains, groups = zip(*recordings, strict=True)
    X = np.stack([store.read(clip, column) for clip in clips])
    write_arrays(out, model.fit(X, domains=domains, groups=groups).to_arrays())


@stage("runs/machines/{key}.npz", uncounted=("machine",))
def join_scorers(
    out: Path,
    machine: str,
    models: Sequence[tuple[str, Artifact]],
    recordings: Rows,
    clip_seconds: float,
    formats: Formats | None,
) -> None:
    """One machine's normality models, (scorer, model) pairs, fused and calibrated."""
    fitted = {scorer: read_model(model.path) for scorer, model in models}
    clips, _, groups = zip(*recordings, strict=True)
    joined = MachineModel(fitted, groups=groups, clips=clips, clip_seconds=clip_seconds, formats=formats)
    write_arrays(out, joined.to_arrays())


def normality_models(stores: Stores, recordings: pd.DataFrame, systems: Sequence[NormalitySystem]) -> Models:
    """The fitted models of these systems and of what they consist of; equal ones are fitted once."""
    single = single_systems(systems)
    models: Models = {system.name: {} for system in single}
    rows = training_rows(recordings)
    clip_seconds = recordings.groupby("machine")["clip_seconds"].first()
    formats = {str(machine): Formats.of(own) for machine, own in training_recordings(recordings).groupby("machine")}
    plan = [(part, machine) for part in single for machine in rows]
    inputs = [
        {
            "machine": machine,
            "vectors": stores[part.source],
            "column": part.column,
            "model": part.model,
            "recordings": rows[machine],
        }
        for part, machine in plan
    ]
    for (part, machine), fitted in zip(plan, fit_normality.map(inputs, 1, "normality models"), strict=True):
        models[part.name][machine] = fitted
    whole = list({system.name: system for system in systems if isinstance(system, DetectorSystem)}.values())
    models |= {system.name: {} for system in whole}
    joined = [(system, machine) for system in whole for machine in rows]
    inputs = [
        {
            "machine": machine,
            "models": [(scorer, models[of.name][machine]) for scorer, of in system.scorers],
            "recordings": rows[machine],
            "clip_seconds": float(clip_seconds[machine]),
            "formats": formats[machine],
        }
        for system, machine in joined
    ]
    for (system, machine), fitted in zip(joined, join_scorers.map(inputs, 1, "detectors"), strict=True):
        models[system.name][machine] = fitted
    return models


def training_rows(recordings: pd.DataFrame) -> dict[str, list[tuple[str, str, str]]]:
    """The normal training clips of each machine, sorted."""
    return {
        str(machine): sorted(zip(rows["recording"], rows["domain"], map(str, groups_of(rows)), strict=True))
        for machine, rows in training_recordings(recordings).groupby("machine")
    }


def fit_metrics(models: Models) -> dict[str, float]:
    """n, p, rank, condition number, n / p of Mahalanobis models: ``training/fit/<system>/<machine>/<metric>``."""
    metrics: dict[str, float] = {}
    for system, machine, model in _covariances(models):
        report = model.report_
        values = {"n": report.n, "p": report.p, "rank": report.rank, "condition": report.condition}
        for name, value in {**values, "n_over_p": report.n_over_p}.items():
            metrics[f"training/fit/{system}/{machine}/{name}"] = float(f"{value:.6g}")
    return metrics


def fit_table(metrics: Mapping[str, float]) -> str:
    """`fit_metrics` as a Markdown table."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in metrics.items():
        system, machine, metric = name.split("/")[-3:]
        rows.setdefault((system, machine), {})[metric] = value
    lines = [
        "| system | machine | n | p | rank | condition | n/p |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (system, machine), values in rows.items():
        counts = " | ".join(f"{values[name]:.0f}" for name in ("n", "p", "rank"))
        lines.append(f"| {system} | {machine} | {counts} | {values['condition']:.2g} | {values['n_over_p']:.2f} |")
    return "\n".join(lines)


def fallback_notes(models: Models) -> list[str]:
    """One sentence for each system whose normality models are not what was asked for."""
    machines: dict[tuple[str, str], list[str]] = {}
    for system, machine, model in _covariances(models):
        if model.report_.note:
            machines.setdefault((system, model.report_.note), []).append(machine)
    return [f"{system}, {', '.join(names)}: {note}" for (system, note), names in machines.items()]


def _covariances(models: Models) -> Iterator[tuple[str, str, GaussianModel]]:
    """system, machine, model of each artifact that is a single model."""
    for system, artifacts in models.items():
        for machine, artifact in artifacts.items():
            model = None if artifact.path.parent.name == "machines" else read_model(artifact.path)
            if isinstance(model, GaussianModel):
                yield system, machine, model
