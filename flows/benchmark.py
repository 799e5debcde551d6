"""The flow `benchmark`: any systems on the same recordings, side by side."""

from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import flow

from asdcore.evaluation.systems import AutoencoderSystem, systems_named
from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.retrain import usable_recordings
from tasks.baselines import autoencoders, spectra
from tasks.encoder import encoder_and_embeddings
from tasks.evaluation import any_simulated, evaluation, publish, read_tables, report_text
from tasks.features import complete_features, feature_store
from tasks.normality import Models, Stores, fallback_notes, fit_metrics, fit_table, normality_models
from tasks.recordings import data_digest
from tasks.tracking import benchmark_key, client, log_encoder, log_evaluation, tracked_run
from tasks.warn import warn

PAPER_TABLE = ["paper-ml", "paper-elliptic", "baseline-mse", "baseline-mahalanobis", "spectrum"]


@flow(name="benchmark")
def benchmark(
    recordings: Path | None = None,
    systems: list[str] = PAPER_TABLE,
    machines: list[str] | None = None,
    settings: Settings = Settings(),
    published: bool = False,
    home: Path | None = None,
) -> dict[str, Any]:
    """Fit every system on the normal training recordings, score the test recordings, compare.

    Args:
        recordings: ingest these first, and compare on the machines that are there; default: all that was ingested.
        systems: names; the first is the one that the others are compared with.
        machines: only these machines.
        settings: see `Settings`; what only some systems need is computed for those only.
        published: add the paper's own figures where machine names match.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Returns:
        run, official_scores, report, and where scores, tables and figures are.
    """
    place = Home.at(home) if home else Home.default()
    chosen_systems = systems_named(systems, settings.normality)
    vector = [system for system in chosen_systems if not isinstance(system, AutoencoderSystem)]
    network = [system for system in chosen_systems if isinstance(system, AutoencoderSystem)]
    with_encoder = any(system.needs_encoder for system in vector)
    baseline = settings.model_copy(update={"mel": settings.autoencoder.mel})
    with place.lock(warn):
        place.sweep()
        chosen = usable_recordings(place, recordings, machines, settings)
        names = sorted(set(chosen["machine"]))
        if vector:
            complete_features(place, chosen, settings, variants=with_encoder)
        if network:
            complete_features(place, chosen, baseline, variants=False)
        # Recordings that could not be read any more have left the table.
        chosen = usable_recordings(place, None, names, settings)
        key = benchmark_key(systems, settings, data_digest(chosen), published)
        run = tracked_run(place, "benchmark", key, f"benchmark {datetime.now().astimezone():%Y-%m-%d %H:%M}")
        stores: Stores = {}
        models: Models = {}
        encoder = None
        if vector:
            store = feature_store(place, settings, variants=with_encoder)
            needed = {system.of_paper for system in vector if system.needs_encoder}
            if True in needed:
                paper = settings.training.model_copy(update={"loss": "nt_xent"})
                # Two trainings in one run would mix their figures by epoch.
                two = False in needed and paper != settings.training
                alone = tracked_run(place, "encoder", key, "encoder of paper-ml") if two else run
                encoder, stores["paper z"] = encoder_and_embeddings(place, store, chosen, paper, alone)
                if two:
                    log_encoder(place, alone, encoder)
                    client(place).set_terminated(alone)
            if False in needed:
                encoder, embeddings = encoder_and_embeddings(place, store, chosen, settings.training, run)
                stores |= {"h": embeddings, "z": embeddings}
            averages = spectra(place, store, chosen)
            stores |= {**dict.fromkeys(("mean", "mean_and_deviation", "change"), averages)}
            models |= normality_models(place, stores, chosen, vector)
        if network:
            stores["original"] = feature_store(place, baseline, variants=False)
            files = autoencoders(place, stores["original"], chosen, settings.autoencoder)
            models |= {system.name: files for system in network}
        result = evaluation(place, chosen, chosen_systems, stores, models, encoder, published)
        notes = fallback_notes({system.name: models[system.name] for system in vector})
        fits = fit_metrics({system.name: models[system.name] for system in vector})
        report = report_text(*read_tables(place, result), notes, any_simulated(chosen))
        report += f"\n\n### Normality models\n\n{fit_table(fits)}\n" if fits else ""
        log_evaluation(place, run, settings, encoder, result, report, fits)
        publish("benchmark-report", report)
        return result["values"] | {"run": run, "report": report}
