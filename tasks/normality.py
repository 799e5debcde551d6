"""The normality stage: one task a machine and system."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from prefect import task

from asdcore.baselines.spectrum import spectrum_model
from asdcore.features.store import Store
from asdcore.home import Home, digest_of, whole_file
from asdcore.normality.models import NormalityModel
from asdcore.progress import progress
from asdcore.recordings.catalog import training_recordings
from asdcore.settings import NormalitySettings
from tasks.caching import CACHED, Result, claim, code_version, run_cached


@dataclass(frozen=True)
class System:
    """What scores a recording: which vector of it, and the normality model of that. ``name`` is for reports."""

    name: str
    column: str
    model: NormalityModel


def systems(settings: NormalitySettings) -> list[System]:
    """The chosen system first, then those that it is compared with, the spectrum statistic last."""
    pairs = [(settings.estimator, settings.layer), ("ml", "z"), ("ml", "h"), ("elliptic", "z")]
    made = [
        System(f"{estimator}-{layer}", layer, NormalityModel.of(settings.model_copy(update={"estimator": estimator})))
        for estimator, layer in dict.fromkeys(pairs)
    ]
    return [*made, System("spectrum", "spectrum", spectrum_model())]


@task(name="fit normality model", **CACHED)
def fit_normality(
    key: str, home: Home, vectors: Path, machine: str, system: System, recordings: Sequence[str]
) -> Result:
    """Fit one machine's model on the vectors of its normal training recordings (digests)."""
    store = Store(vectors)
    model = system.model.fit(np.stack([store.read(recording, system.column) for recording in recordings]))
    path = home.runs / "normality" / f"{key}.npz"
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **model.to_arrays())
    report = asdict(model.report_)
    return {"files": claim(home, path), "values": {"machine": machine, "system": system.name, "report": report}}


def normality_models(
    home: Home, vectors: Path, recordings: pd.DataFrame, settings: NormalitySettings
) -> dict[str, dict[str, Path]]:
    """The fitted models of every system: system: machine: npz file."""
    training = training_recordings(recordings)
    machines = sorted(set(recordings["machine"]))
    code = code_version("normality", "baselines/spectrum.py")
    plan = [(system, machine) for system in systems(settings) for machine in machines]
    made: dict[str, dict[str, Path]] = {}
    for system, machine in progress(plan, "normality models"):
        own = sorted(training.loc[training["machine"] == machine, "recording"])
        parameters = sorted(system.model.get_params().items())
        key = digest_of(vectors.parent.name, code, system.column, repr(parameters), *own)
        run_cached(fit_normality, key=key, home=home, vectors=vectors, machine=machine, system=system, recordings=own)
        made.setdefault(system.name, {})[machine] = home.runs / "normality" / f"{key}.npz"
    return made


def read_model(path: Path) -> NormalityModel:
    """The fitted model that a file holds."""
    with np.load(path, allow_pickle=False) as arrays:
        return NormalityModel.from_arrays(dict(arrays))
