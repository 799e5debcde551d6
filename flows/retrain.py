"""The flow `retrain`: from recordings to a registered detector."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import flow

from asdcore.encoder.network import TrainedEncoder
from asdcore.errors import AsdError
from asdcore.evaluation.systems import detector_system, reported_systems
from asdcore.recordings.catalog import Catalog, hold_out, require_training, training_recordings
from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.features import features
from flows.ingest import ingest
from flows.register import keep_for_registration, registered
from tasks.baselines import spectra
from tasks.detector import detector_folder, first_encoder
from tasks.encoder import encoder_and_embeddings, training_key
from tasks.evaluation import any_simulated, evaluation, read_tables, report_text
from tasks.features import feature_store
from tasks.normality import (
    fallback_notes,
    fit_metrics,
    fit_table,
    normality_models,
    profiles,
    read_reliability,
    reliability_metrics,
    reliability_reports,
    reliability_text,
)
from tasks.recordings import data_digest
from tasks.registry import lineage
from tasks.tracking import failed_if_it_fails, retraining_key, tracked_run
from tasks.warn import warn


@flow(name="retrain")
def retrain(
    recordings: Path | None = None,
    machines: list[str] | None = None,
    settings: Settings = Settings(),
    warm_start: bool = False,
    home: Path | None = None,
) -> dict[str, Any]:
    """Ingest, features, training, normality models, detector, evaluation, registry: only what is not done yet.

    Args:
        recordings: ingest these first, and train on the machines that are there; default: all that was ingested.
        machines: train on these machines only.
        settings: see `Settings`; `Settings.preset("demo")` is minutes on two CPU cores.
        warm_start: begin the training with the champion's encoder, if there is a champion with one of that size.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Returns:
        version, run, official_scores, and where table, figures and detector are.
    """
    place = Home.at(home) if home else Home.default()
    with place.lock(warn):
        place.sweep()
        chosen = usable_recordings(place, recordings, machines, settings)
        features(settings, sorted(set(chosen["machine"])), place.root)
        # Recordings that could not be read any more have left the table.
        chosen = usable_recordings(place, None, sorted(set(chosen["machine"])), settings)
        chosen = hold_out(chosen, settings.gate.held_out_fraction)
        return _train_to_register(place, chosen, settings, warm_start)


def usable_recordings(home: Home, place: Path | None, machines: list[str] | None, settings: Settings) -> pd.DataFrame:
    """The recordings to work on: of ``machines``, or of those found at ``place`` after its ingest, or all there are.

    Raises:
        AsdError: none, or a machine with too few normal training recordings.
    """
    if place is not None:
        found = ingest(place, settings.recordings, home=home.root)
        for file, reason in list(found["quarantined"].items())[:10]:
            warn(f"quarantined: {file}: {reason}")
        if len(found["quarantined"]) > 10:
            warn(f"quarantined: {len(found['quarantined']) - 10} more; `asd ingest` of the same place lists them")
        machines = machines or found["machines"]
    chosen = Catalog(home.recordings).of_machines(machines)
    if chosen.empty:
        raise AsdError(f"there is no recording in {home.name}; give --recordings, or `asd ingest` some first")
    require_training(chosen, settings.recordings.minimum_training_recordings)
    if place is not None and place.is_dir():
        elsewhere = chosen[~chosen["path"].map(lambda path: Path(path).is_relative_to(place.resolve()))]
        for machine, own in elsewhere.groupby("machine"):
            warn(f"{machine}: {len(own)} recordings that were ingested from other places are used, too")
    return chosen


def _train_to_register(home: Home, chosen: pd.DataFrame, settings: Settings, warm: bool) -> dict[str, Any]:
    store, data = feature_store(home, settings), data_digest(chosen)
    first = first_encoder(home, data, settings) if warm else None
    key = retraining_key(training_key(store, chosen, settings.training, first), settings.normality, data)
    run = tracked_run(home, "retraining", key, f"retrain {datetime.now().astimezone():%Y-%m-%d %H:%M}")
    with failed_if_it_fails(home, run):
        return _tracked(home, chosen, settings, store, data, run, first)


def _tracked(
    home: Home, chosen: pd.DataFrame, settings: Settings, store: Path, data: str, run: str, first: Path | None
) -> dict[str, Any]:
    encoder, embeddings = encoder_and_embeddings(home, store, chosen, settings.training, run, first)
    averages = spectra(home, store, chosen)
    stores = {"h": embeddings, "z": embeddings, **dict.fromkeys(("mean", "mean_and_deviation", "change"), averages)}
    systems, both = reported_systems(settings.normality), detector_system(settings.normality)
    models = normality_models(home, stores, chosen, [*systems, both])
    simulated = any_simulated(chosen)
    normal = len(training_recordings(chosen))
    history = TrainedEncoder.load(encoder).history
    reliability = reliability_reports(home, stores, chosen, both, models[both.name], settings.normality, history)
    about: dict[str, Any] = {"data": data, "recordings": len(chosen), "training_recordings": normal}
    about |= {
        "simulated": simulated,
        "reliability": {name: read_reliability(path).to_json() for name, path in reliability.items()},
    }
    about |= {"warm_start": first.stem} if first else {}
    chosen_system = systems[0].name
    usual = profiles(home, store, chosen, settings)
    detector = detector_folder(home, settings, encoder, models[both.name], usual, about)
    result = evaluation(home, chosen, systems, stores, models, encoder)
    fits = fit_metrics(models) | reliability_metrics(reliability)
    report = report_text(*read_tables(home, result), fallback_notes(models), simulated)
    report += f"\n\n### Reliability\n\n{reliability_text(reliability)}"
    report += f"\n\n### Normality models\n\n{fit_table(fit_metrics(models))}\n"
    score = result["values"]["official_scores"].get(chosen_system)
    tags = {
        "system": chosen_system,
        "score": "" if score is None else f"{score:.2f}",
        "data": " ".join([f"{normal} normal recordings", *(["simulated"] if simulated else []), data]),
        "machines": ", ".join(models[chosen_system]),
        **lineage(data, settings),
    }
    made = {"encoder": encoder, "detector": detector, "reliability": reliability, "evaluation": result}
    keep_for_registration(home, run, made | {"report": report, "fits": fits, "tags": tags})
    return registered(home, run)
