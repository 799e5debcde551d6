"""The normality stage: one task a machine and system."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prefect import task

from asdcore.features.store import Store
from asdcore.home import Home, digest_of, whole_file
from asdcore.normality.models import NormalityModel, model_from_arrays
from asdcore.progress import progress
from asdcore.recordings.catalog import training_recordings
from tasks.caching import CACHED, Result, claim, code_version, run_cached
from tasks.systems import Model, VectorSystem

Stores = dict[str, Path]
"""column: folder of the store that has it"""
Models = dict[str, dict[str, Path]]
"""system: machine: file of the fitted model"""


@task(name="fit normality model", **CACHED)
def fit_normality(
    key: str, home: Home, vectors: Path, machine: str, system: VectorSystem, recordings: Sequence[tuple[str, str]]
) -> Result:
    """Fit one machine's model on the vectors of its normal training recordings: (digest, domain) pairs."""
    store = Store(vectors)
    X = np.stack([store.read(recording, system.column) for recording, _ in recordings])
    model = system.model.fit(X, domains=[domain for _, domain in recordings])
    path = home.runs / "normality" / f"{key}.npz"
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **model.to_arrays())
    return {"files": claim(home, path), "values": {"machine": machine, "system": system.name}}


def normality_models(home: Home, stores: Stores, recordings: pd.DataFrame, systems: Sequence[VectorSystem]) -> Models:
    """The fitted models of these systems; equal ones are fitted once, whatever they are called."""
    training = training_recordings(recordings)
    code = code_version("normality")
    plan = [(system, machine) for system in systems for machine in sorted(set(recordings["machine"]))]
    made: Models = {system.name: {} for system in systems}
    for system, machine in progress(plan, "normality models"):
        rows = training.loc[training["machine"] == machine, ["recording", "domain"]]
        own = sorted(rows.itertuples(index=False, name=None))
        vectors = stores[system.column]
        parameters = repr((type(system.model).__name__, sorted(system.model.get_params().items())))
        key = digest_of(
            vectors.parent.name, vectors.name, code, system.column, parameters, *(" ".join(pair) for pair in own)
        )
        work: dict[str, Any] = {"vectors": vectors, "machine": machine, "system": system, "recordings": own}
        run_cached(fit_normality, key=key, home=home, **work)
        made[system.name][machine] = home.runs / "normality" / f"{key}.npz"
    return made


def fit_figures(models: Models) -> dict[str, float]:
    """n, p, rank, condition number and n / p of every Mahalanobis model: ``normality/<system>/<machine>/<figure>``."""
    figures: dict[str, float] = {}
    for system, of_machines in models.items():
        for machine, path in of_machines.items():
            model = read_model(path)
            if isinstance(model, NormalityModel):
                report = model.report_
                own = {"n": report.n, "p": report.p, "rank": report.rank, "condition": report.condition}
                for name, value in {**own, "n over p": report.n_over_p}.items():
                    figures[f"normality/{system}/{machine}/{name}"] = float(value)
    return figures


def fit_table(figures: dict[str, float]) -> str:
    """`fit_figures` as a Markdown table."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in figures.items():
        _, system, machine, figure = name.split("/")
        rows.setdefault((system, machine), {})[figure] = value
    lines = [
        "| system | machine | n | p | rank | condition | n/p |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (system, machine), own in rows.items():
        counts = " | ".join(f"{own[name]:.0f}" for name in ("n", "p", "rank"))
        lines.append(f"| {system} | {machine} | {counts} | {own['condition']:.2g} | {own['n over p']:.2f} |")
    return "\n".join(lines)


def fallback_notes(models: Models) -> list[str]:
    """One sentence for each system whose normality models are not what was asked for."""
    said = []
    for system, of_machines in models.items():
        fitted = {machine: read_model(path) for machine, path in of_machines.items()}
        notes = {m: model.report_.note for m, model in fitted.items() if isinstance(model, NormalityModel)}
        for note in dict.fromkeys(filter(None, notes.values())):
            machines = ", ".join(machine for machine, own in notes.items() if own == note)
            said.append(f"{system}, {machines}: {note}")
    return said


def read_model(path: Path) -> Model:
    """The fitted model that a file holds."""
    with np.load(path, allow_pickle=False) as arrays:
        return model_from_arrays(dict(arrays))
