"""The normality stage: one task a machine and system."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prefect import task

from asdcore.encoder.metrics import collapse
from asdcore.evaluation.systems import DetectorSystem, NormalitySystem, VectorSystem
from asdcore.explanation.profile import Profile
from asdcore.features.store import Store
from asdcore.monitoring.enrolment_checks import enrolment_checks
from asdcore.monitoring.reliability import Reliability, reliability_report
from asdcore.normality.base import NormalityModel, model_from_arrays
from asdcore.normality.gaussian import GaussianModel
from asdcore.normality.machine import MachineModel, Vectors
from asdcore.plots.reliability import qq_plot
from asdcore.progress import progress
from asdcore.recordings.catalog import training_recordings
from asdcore.settings import NormalitySettings, Settings
from asdcore.storage.files import atomic_write, digest_of
from asdcore.storage.home import Home
from tasks.stage import CACHED, Result, claim, code_version, run_cached

Stores = dict[str, Path]
"""source: folder of the store that has it, see `VectorSystem`"""
Models = dict[str, dict[str, Path]]
"""system: machine: file of the fitted model"""
MACHINES = "machines"
"""folder of the files that hold all models of a machine"""


@task(name="fit normality model", **CACHED)
def fit_normality(
    key: str, home: Home, vectors: Path, machine: str, system: VectorSystem, recordings: Sequence[tuple[str, str]]
) -> Result:
    """Fit one machine's model on the vectors of its normal training recordings: (digest, domain) pairs."""
    store = Store(vectors)
    X = np.stack([store.read(recording, system.column) for recording, _ in recordings])
    model = system.model.fit(X, domains=[domain for _, domain in recordings])
    path = home.runs / "normality" / f"{key}.npz"
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **model.to_arrays())
    return {"files": claim(home, path), "values": {"machine": machine, "system": system.name}}


@task(name="join scorers", **CACHED)
def join_scorers(key: str, home: Home, machine: str, models: Sequence[tuple[str, Path]]) -> Result:
    """One machine's normality models, (scorer, file) pairs, fused and calibrated, as one file."""
    fitted = {scorer: read_model(file) for scorer, file in models}
    path = home.runs / MACHINES / f"{key}.npz"
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **MachineModel(fitted).to_arrays())
    return {"files": claim(home, path), "values": {"machine": machine}}


def normality_models(
    home: Home, stores: Stores, recordings: pd.DataFrame, systems: Sequence[NormalitySystem]
) -> Models:
    """The fitted models of these systems and of what they consist of; equal ones are fitted once."""
    single: dict[str, VectorSystem] = {}
    for system in systems:
        parts = [part for _, part in system.scorers] if isinstance(system, DetectorSystem) else [system]
        single |= {part.name: part for part in parts}
    fitted = _fitted(home, stores, recordings, list(single.values()))
    joined = {system.name: _joined(home, fitted, system) for system in systems if isinstance(system, DetectorSystem)}
    return fitted | joined


def _joined(home: Home, fitted: Models, system: DetectorSystem) -> dict[str, Path]:
    code = code_version("normality")
    made = {}
    for machine in fitted[system.scorers[0][1].name]:
        models = [(scorer, fitted[part.name][machine]) for scorer, part in system.scorers]
        key = digest_of(code, *(f"{scorer} {path.stem}" for scorer, path in models))
        run_cached(join_scorers, key=key, home=home, machine=machine, models=models)
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
        vectors = stores[system.source]
        parameters = repr((type(system.model).__name__, sorted(system.model.get_params().items())))
        key = digest_of(
            vectors.parent.name, vectors.name, code, system.column, parameters, *(" ".join(pair) for pair in own)
        )
        work: dict[str, Any] = {"vectors": vectors, "machine": machine, "system": system, "recordings": own}
        run_cached(fit_normality, key=key, home=home, **work)
        made[system.name][machine] = home.runs / "normality" / f"{key}.npz"
    return made


def failed_enrolment_checks(averages: Path, recordings: pd.DataFrame, settings: Settings) -> list[str]:
    """What speaks against these recordings being the normal sound of one machine; see `failed_checks`."""
    training = training_recordings(recordings)
    store = Store(averages)
    statistics = np.stack([store.read(recording, "mean_and_deviation") for recording in training["recording"]])
    frames = training["seconds"] * settings.recordings.sample_rate / settings.mel.hop_length
    return enrolment_checks(statistics, training["domain"].tolist(), frames.tolist())


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
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **profile.to_arrays())
    return {"files": claim(home, path), "values": {"machine": machine}}


def profiles(home: Home, store: Path, recordings: pd.DataFrame, settings: Settings) -> dict[str, Path]:
    """The profile of each machine, to explain its recordings with: name: npz file."""
    made = {}
    for machine, own in training_recordings(recordings).groupby("machine"):
        pairs = sorted(own[["recording", "domain"]].itertuples(index=False, name=None))
        key = digest_of(store.name, code_version("explanation/profile.py"), *(" ".join(pair) for pair in pairs))
        work: dict[str, Any] = {"store": store, "machine": machine, "settings": settings, "recordings": pairs}
        run_cached(fit_profile, key=key, home=home, **work)
        made[str(machine)] = home.runs / "profiles" / f"{key}.npz"
    return made


@task(name="reliability report", **CACHED)
def report_reliability(
    key: str,
    home: Home,
    machine: str,
    model: Path,
    stores: Stores,
    system: DetectorSystem,
    training: Sequence[tuple[str, str]],
    test: Sequence[tuple[str, str]],
    settings: NormalitySettings,
    of_training: Sequence[str],
) -> Result:
    """How far to trust one machine: its report as JSON, and the figure. Recordings are (digest, domain) pairs."""
    fitted = read_machine(model)

    def vectors(pairs: Sequence[tuple[str, str]]) -> Vectors:
        parts = dict(system.scorers)
        open_stores = {scorer: Store(stores[part.source]) for scorer, part in parts.items()}
        return {
            scorer: np.stack([open_stores[scorer].read(recording, part.column) for recording, _ in pairs])
            for scorer, part in parts.items()
        }

    report = reliability_report(
        fitted,
        vectors(training),
        [domain for _, domain in training],
        settings.false_alarm_rate,
        vectors(test) if test else None,
        [domain for _, domain in test],
        of_training,
    )
    text, figure = (home.runs / "reliability" / key / name for name in ("reliability.json", "reliability.png"))
    with atomic_write(text) as temporary:
        temporary.write_text(json.dumps(report.to_json(), indent=2, allow_nan=False), encoding="utf-8")
    with atomic_write(figure) as temporary:
        qq_plot(fitted, machine).savefig(temporary, format="png", dpi=110)
    return {"files": claim(home, text, figure), "values": {"machine": machine, "rating": report.rating}}


def reliability_reports(
    home: Home,
    stores: Stores,
    recordings: pd.DataFrame,
    system: DetectorSystem,
    machines: dict[str, Path],
    settings: NormalitySettings,
    history: Sequence[Mapping[str, float]],
) -> dict[str, Path]:
    """The folder of the reliability report of each machine (name: npz file): ``reliability.json``, ``reliability.png``.

    ``history``: of the encoder's training; a collapse is said.
    """
    said = collapse(history)
    normal = recordings[recordings["label"] == "normal"]
    made = {}
    for machine, model in progress(sorted(machines.items()), "reliability reports"):
        own = normal[normal["machine"] == machine]
        pairs = {
            split: sorted(own.loc[own["split"] == split, ["recording", "domain"]].itertuples(index=False, name=None))
            for split in ("train", "test")
        }
        code = code_version("normality", "monitoring", "plots/reliability.py")
        judged = f"{settings.scorers} {settings.false_alarm_rate} {' '.join(said)}"
        key = digest_of(code, model.stem, judged, *(" ".join(pair) for pair in [*pairs["train"], *pairs["test"]]))
        work: dict[str, Any] = {"machine": machine, "model": model, "stores": stores, "system": system}
        work |= {"training": pairs["train"], "test": pairs["test"], "settings": settings, "of_training": said}
        run_cached(report_reliability, key=key, home=home, **work)
        made[machine] = home.runs / "reliability" / key
    return made


def reliability_text(reports: dict[str, Path]) -> str:
    """The sentences of reliability reports (name: folder) in Markdown."""
    read = {machine: read_reliability(folder) for machine, folder in reports.items()}
    return "\n".join(f"- **{machine}**: {' '.join(own.sentences)}" for machine, own in read.items())


def reliability_metrics(reports: dict[str, Path]) -> dict[str, float]:
    """The figures of reliability reports (name: folder) by name: ``reliability/<machine>/<figure>``."""
    figures: dict[str, float] = {}
    for machine, folder in reports.items():
        own = read_reliability(folder)
        figures[f"reliability/{machine}/collect"] = float(own.collect)
        for what, achieved in (("left out", own.left_out["all"]), ("test", own.test.get("all"))):
            if achieved is not None:
                rate = achieved.alarms / achieved.recordings
                named = {"false alarm rate": rate, "low": achieved.low, "high": achieved.high}
                figures |= {f"reliability/{machine}/{what} {name}": value for name, value in named.items()}
    return figures


def read_reliability(folder: Path) -> Reliability:
    """The reliability report in a folder of `reliability_reports`."""
    return Reliability.from_json(json.loads((folder / "reliability.json").read_text(encoding="utf-8")))


def fit_metrics(models: Models) -> dict[str, float]:
    """n, p, rank, condition number and n / p of every Mahalanobis model: ``normality/<system>/<machine>/<figure>``."""
    figures: dict[str, float] = {}
    for system, machine, model in _covariances(models):
        report = model.report_
        own = {"n": report.n, "p": report.p, "rank": report.rank, "condition": report.condition}
        for name, value in {**own, "n over p": report.n_over_p}.items():
            figures[f"normality/{system}/{machine}/{name}"] = float(value)
    return figures


def fit_table(figures: dict[str, float]) -> str:
    """`fit_metrics` as a Markdown table."""
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


def read_model(path: Path) -> NormalityModel:
    """The fitted model that a file holds."""
    with np.load(path, allow_pickle=False) as arrays:
        return model_from_arrays(dict(arrays))


def read_machine(path: Path, profile: Path | None = None) -> MachineModel:
    """The fitted models of a machine that a file holds, and the profile that another one does."""
    with np.load(path, allow_pickle=False) as arrays:
        machine = MachineModel.from_arrays(dict(arrays))
    if profile is not None:
        with np.load(profile, allow_pickle=False) as arrays:
            machine.profile = Profile.from_arrays(dict(arrays))
    return machine


def _covariances(models: Models) -> Iterator[tuple[str, str, GaussianModel]]:
    """system, machine, model of each file that holds one model."""
    for system, of_machines in models.items():
        for machine, path in of_machines.items():
            model = None if path.parent.name == MACHINES else read_model(path)
            if isinstance(model, GaussianModel):
                yield system, machine, model
