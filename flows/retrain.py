"""The flow `retrain`: from recordings to a registered detector."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import flow

from asdcore.errors import AsdError
from asdcore.home import Home, digest_of, sweep_partial
from asdcore.recordings.catalog import Catalog, require_training, training_recordings
from asdcore.settings import Settings
from flows.features import features
from flows.ingest import ingest
from tasks.detector import detector_folder
from tasks.evaluation import evaluation, publish, report_text
from tasks.features import feature_store
from tasks.normality import normality_models, read_model
from tasks.registry import registered_version
from tasks.representation import encoder_and_vectors, training_key
from tasks.tracking import retraining_run
from tasks.warn import warn


@flow(name="retrain")
def retrain(
    recordings: Path | None = None,
    machines: list[str] | None = None,
    settings: Settings = Settings(),
    home: Path | None = None,
) -> dict[str, Any]:
    """Ingest, features, training, normality models, detector, evaluation, registry: only what is not done yet.

    Args:
        recordings: ingest these first, and train on the machines that are there; default: all that was ingested.
        machines: train on these machines only.
        settings: see `Settings`; `Settings.preset("demo")` is minutes on two CPU cores.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Returns:
        version, run, official_scores, and where table, figures and detector are.
    """
    place = Home.at(home) if home else Home.default()
    with place.lock(warn):
        sweep_partial(place.root)
        if recordings is not None:
            found = ingest(recordings, settings.recordings, place.root)["machines"]
            machines = machines or found
        chosen = Catalog(place.recordings).of_machines(machines)
        if chosen.empty:
            raise AsdError(f"there is no recording in {place.root}; give --recordings, or `asd ingest` some first")
        require_training(chosen, settings.recordings.minimum_training_recordings)
        features(settings, machines, place.root)
        # Recordings that could not be read any more have left the table.
        chosen = Catalog(place.recordings).of_machines(machines)
        require_training(chosen, settings.recordings.minimum_training_recordings)
        return _train_to_register(place, chosen, settings)


def _train_to_register(home: Home, chosen: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    store = feature_store(home, settings)
    digest = digest_of(*(" ".join(map(str, row)) for row in chosen[IDENTITY].itertuples(index=False)))
    key = digest_of(training_key(store, chosen, settings.training), settings.normality.digest(), digest)
    run = retraining_run(home, key, f"retrain {datetime.now().astimezone():%Y-%m-%d %H:%M}")
    encoder, vectors = encoder_and_vectors(home, store, chosen, settings.training, run)
    models = normality_models(home, vectors, chosen, settings.normality)
    simulated = chosen["attributes"].str.contains('"simulated"')
    about = {
        "data": digest,
        "recordings": len(chosen),
        "training_recordings": len(training_recordings(chosen)),
        "simulated": int(simulated.sum()),
    }
    system = next(iter(models))
    detector = detector_folder(home, settings, encoder, models[system], about)
    result = evaluation(home, chosen, vectors, models, encoder, settings.normality, bool(simulated.any()))
    values = result["values"]
    table = pd.read_parquet(home.root / values["table"]) if values["table"] else None
    report = report_text(table, notes(models), bool(simulated.any()))
    score = values["official_scores"].get(system)
    kind = "simulated" if simulated.all() else "partly simulated" if simulated.any() else ""
    tags = {
        "system": system,
        "score": "" if score is None else f"{score:.2f}",
        "data": " ".join(filter(None, [f"{about['training_recordings']} normal recordings", kind, digest])),
        "machines": ", ".join(models[system]),
    }
    version = registered_version(home, run, detector, encoder=encoder, evaluation=result, report=report, tags=tags)
    publish(report)
    return values | {"version": version, "run": run, "system": system, "detector": str(detector), "report": report}


IDENTITY = ["recording", "machine", "section", "domain", "split", "label"]


def notes(models: dict[str, dict[str, Path]]) -> list[str]:
    """One sentence for each system whose normality models are not what was asked for."""
    said = []
    for system, of_machines in models.items():
        fallen = {machine: read_model(path).report_.note for machine, path in of_machines.items()}
        for note in dict.fromkeys(filter(None, fallen.values())):
            machines = ", ".join(machine for machine, own in fallen.items() if own == note)
            said.append(f"{system}, {machines}: {note}")
    return said
