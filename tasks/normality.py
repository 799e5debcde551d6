"""The normality stage: one task a machine and system."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prefect import task

from asdcore.features.store import Store
from asdcore.home import Home, digest_of, whole_file
from asdcore.normality.doubts import doubts
from asdcore.normality.machine import Eye, MachineModel
from asdcore.normality.models import NormalityModel, model_from_arrays
from asdcore.normality.profile import Profile
from asdcore.progress import progress
from asdcore.recordings.catalog import training_recordings
from asdcore.settings import Settings
from tasks.caching import CACHED, Result, claim, code_version, run_cached
from tasks.systems import BothSystem, Model, NormalitySystem, VectorSystem

Stores = dict[str, Path]
"""column: folder of the store that has it"""
Models = dict[str, dict[str, Path]]
"""system: machine: file of the fitted model"""
MACHINES = "machines"
"""folder of the files that hold both models of a machine"""


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


@task(name="join both eyes", **CACHED)
def join_eyes(key: str, home: Home, machine: str, embedding: Path, spectrum: Path) -> Result:
    """One machine's two normality models, calibrated on the same recordings, as one file."""
    files: dict[Eye, Path] = {"embedding": embedding, "spectrum": spectrum}
    read = {eye: read_model(file) for eye, file in files.items()}
    fitted = {eye: model for eye, model in read.items() if isinstance(model, NormalityModel)}
    path = home.runs / MACHINES / f"{key}.npz"
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **MachineModel(fitted).to_arrays())
    return {"files": claim(home, path), "values": {"machine": machine}}


def normality_models(
    home: Home, stores: Stores, recordings: pd.DataFrame, systems: Sequence[NormalitySystem]
) -> Models:
    """The fitted models of these systems and of what they consist of; equal ones are fitted once."""
    single: dict[str, VectorSystem] = {}
    for system in systems:
        parts = (system.embedding, system.spectrum) if isinstance(system, BothSystem) else (system,)
        single |= {part.name: part for part in parts}
    fitted = _fitted(home, stores, recordings, list(single.values()))
    joined = {
        system.name: _joined(home, fitted[system.embedding.name], fitted[system.spectrum.name])
        for system in systems
        if isinstance(system, BothSystem)
    }
    return fitted | joined


def _joined(home: Home, embedding: dict[str, Path], spectrum: dict[str, Path]) -> dict[str, Path]:
    code = code_version("normality")
    made = {}
    for machine in embedding:
        key = digest_of(code, embedding[machine].stem, spectrum[machine].stem)
        paths: dict[str, Any] = {"embedding": embedding[machine], "spectrum": spectrum[machine]}
        run_cached(join_eyes, key=key, home=home, machine=machine, **paths)
        made[machine] = home.runs / MACHINES / f"{key}.npz"
    return made


def _fitted(home: Home, stores: Stores, recordings: pd.DataFrame, systems: Sequence[VectorSystem]) -> Models:
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


def enrolment_doubts(averages: Path, recordings: pd.DataFrame, settings: Settings) -> list[str]:
    """What speaks against these recordings being the normal sound of one machine; see `doubts`."""
    training = training_recordings(recordings)
    store = Store(averages)
    statistics = np.stack([store.read(recording, "mean_and_deviation") for recording in training["recording"]])
    frames = training["seconds"] * settings.recordings.sample_rate / settings.mel.hop_length
    return doubts(statistics, training["domain"].tolist(), frames.tolist())


@task(name="fit profile", **CACHED)
def fit_profile(
    key: str, home: Home, store: Path, machine: str, settings: Settings, recordings: Sequence[tuple[str, str]]
) -> Result:
    """Learn what one machine's spectra usually look like, from its training recordings: (digest, domain) pairs."""
    spectrograms = Store(store)
    values = (spectrograms.read(recording, "original") for recording, _ in recordings)
    domains = [domain for _, domain in recordings]
    profile = Profile.fit(values, domains, settings.mel, settings.recordings.sample_rate)
    path = home.runs / "profiles" / f"{key}.npz"
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **profile.to_arrays())
    return {"files": claim(home, path), "values": {"machine": machine}}


def profiles(home: Home, store: Path, recordings: pd.DataFrame, settings: Settings) -> dict[str, Path]:
    """The profile of each machine, to explain its recordings with: name: npz file."""
    made = {}
    for machine, own in training_recordings(recordings).groupby("machine"):
        pairs = sorted(own[["recording", "domain"]].itertuples(index=False, name=None))
        key = digest_of(store.name, code_version("normality/profile.py"), *(" ".join(pair) for pair in pairs))
        work: dict[str, Any] = {"store": store, "machine": machine, "settings": settings, "recordings": pairs}
        run_cached(fit_profile, key=key, home=home, **work)
        made[str(machine)] = home.runs / "profiles" / f"{key}.npz"
    return made


def fit_figures(models: Models) -> dict[str, float]:
    """n, p, rank, condition number and n / p of every Mahalanobis model: ``normality/<system>/<machine>/<figure>``."""
    figures: dict[str, float] = {}
    for system, machine, model in _covariances(models):
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
    machines: dict[tuple[str, str], list[str]] = {}
    for system, machine, model in _covariances(models):
        if model.report_.note:
            machines.setdefault((system, model.report_.note), []).append(machine)
    return [f"{system}, {', '.join(own)}: {note}" for (system, note), own in machines.items()]


def read_model(path: Path) -> Model:
    """The fitted model that a file holds."""
    with np.load(path, allow_pickle=False) as arrays:
        return model_from_arrays(dict(arrays))


def read_machine(path: Path, profile: Path | None = None) -> MachineModel:
    """The two fitted models of a machine that a file holds, and the profile that another one does."""
    with np.load(path, allow_pickle=False) as arrays:
        machine = MachineModel.from_arrays(dict(arrays))
    if profile is not None:
        with np.load(profile, allow_pickle=False) as arrays:
            machine.profile = Profile.from_arrays(dict(arrays))
    return machine


def _covariances(models: Models) -> Iterator[tuple[str, str, NormalityModel]]:
    """system, machine, model of each file that holds one model."""
    for system, of_machines in models.items():
        for machine, path in of_machines.items():
            model = None if path.parent.name == MACHINES else read_model(path)
            if isinstance(model, NormalityModel):
                yield system, machine, model
