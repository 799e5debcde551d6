"""The flow `benchmark`: any systems on the same recordings, side by side."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pandas as pd
from prefect import flow

from asdcore.errors import AsdError
from asdcore.evaluation.challenges import DEFAULT_RULE, YEAR, challenge_of
from asdcore.evaluation.systems import (
    AutoencoderSystem,
    DetectorSystem,
    NormalitySystem,
    VectorSystem,
    single_systems,
    systems_named,
)
from asdcore.recordings.catalog import Catalog
from asdcore.settings import TWO_BRANCH, Settings, TrainingSettings
from asdcore.storage.files import digest_of
from asdcore.storage.home import Home
from flows.failures import completed, failed
from flows.retrain import ingested_machines, trainable, usable_clips
from tasks.baselines import autoencoders, two_branch
from tasks.costs import costs
from tasks.datasets import log_recordings
from tasks.encoder import embeddings_of, encoder_note, trained_encoder, untrained_encoder
from tasks.evaluation import Evaluation, any_simulated, evaluation, publish, report_text
from tasks.features import complete_features, feature_store, originals_artifact, scorer_statistics
from tasks.normality import Models, Stores, fallback_notes, fit_metrics, fit_table, normality_models, stores_of
from tasks.recordings import data_digest
from tasks.run_names import add_to_run_name, counted, run_name
from tasks.stage import Artifact
from tasks.tracking import benchmark_key, client, describe, log_encoder, log_evaluation, tracked_run
from tasks.warn import warn

PAPER_TABLE = ["paper-ml", "paper-elliptic", "baseline-mse", "baseline-mahalanobis", "spectrum"]


class Benchmarked(Evaluation):
    """An evaluation of systems side by side."""

    run: str
    """of MLflow"""
    report: str
    """Markdown"""
    costs: list[dict[str, object]]
    """see `tasks.costs`"""


@flow(name="benchmark", flow_run_name=run_name, on_failure=[failed], on_completion=[completed])
def benchmark(
    recordings: Path | None = None,
    systems: list[str] = PAPER_TABLE,
    machines: list[str] | None = None,
    settings: Settings = Settings(),
    published: bool = False,
    home: Path | None = None,
    year: int = YEAR,
) -> Benchmarked:
    """Fit every system on the normal training recordings, score the test recordings, compare.

    Args:
        recordings: ingest these first, and compare on the machines that are there; default: all that was ingested.
        systems: names; the first is the one that the others are compared with.
        machines: only these machines.
        settings: see `Settings`; what only some systems need is computed for those only.
        published: add the paper's metrics of the machines whose test recordings are the development set's.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.
        year: of the challenge whose rule gives the official score.

    Returns:
        run, official_scores, report, and where scores, tables and plots are.
    """
    rule = challenge_of(year).rule
    if published and rule != DEFAULT_RULE:
        raise AsdError(f"the published metrics are by the rule of {YEAR}, which that of {year} is not: leave one out")
    place = Home.at(home) if home else Home.default()
    chosen_systems = systems_named(systems, settings.normality)
    vector = [system for system in chosen_systems if not isinstance(system, AutoencoderSystem)]
    network = [system for system in chosen_systems if isinstance(system, AutoencoderSystem)]
    embedded = [system for system in single_systems(vector) if system.needs_encoder]
    with_variants = any(system.training(settings.training).trains for system in embedded)
    baseline = settings.model_copy(update={"mel": settings.autoencoder.mel})
    with place.lock(warn):
        place.sweep()
        found = ingested_machines(place, recordings, settings) if recordings else machines
        clips = usable_clips(Catalog(place.recordings), recordings, machines or found, settings, held_out=0.0)
        if vector:
            clips = complete_features(clips, settings, variants=with_variants)
        if network:
            clips = complete_features(clips, baseline, variants=False)
        clips = trainable(clips, settings)
        key = benchmark_key(systems, settings, data_digest(clips), published, rule.text)
        run = tracked_run(place, "benchmark", key, f"benchmark {datetime.now().astimezone():%Y-%m-%d %H:%M}")
        add_to_run_name(f", {counted(len(systems), 'system')} on {counted(clips['machine'].nunique(), 'machine')}")
        log_recordings(place, run, clips, recordings)
        stores: Stores = {}
        models: Models = {}
        encoder = None
        encoders: dict[str, Artifact] = {}
        originals: dict[str, Artifact] = {}
        if vector:
            spectrograms = feature_store(settings, variants=with_variants)
            encoder, encoders, stores = _embeddings(place, spectrograms, clips, settings, vector, run, key)
            originals |= {system.name: originals_artifact(spectrograms) for system in vector}
            statistics = scorer_statistics(clips, originals_artifact(spectrograms), settings)
            stores |= stores_of(statistics)
            models |= normality_models(stores, clips, vector)
        if network:
            stores["original"] = feature_store(baseline, variants=False)
            fitted = autoencoders(stores["original"], clips, settings.autoencoder)
            models |= {system.name: fitted for system in network}
            originals |= {system.name: stores["original"] for system in network}
        rate = settings.normality.false_alarm_rate
        result = evaluation(clips, chosen_systems, stores, models, rate, encoder, published, rule=rule)
        notes = fallback_notes({system.name: models[system.name] for system in vector})
        used = dict.fromkeys(system.training(settings.training) for system in embedded if not system.of_paper)
        notes = [*map(encoder_note, used), *notes]
        if published:
            notes.append(
                "Published metrics are shown for machines whose test recordings are those of the development set of "
                "2023: 50 of each domain and label with its file names. The name of a machine is not enough."
            )
        if rule != DEFAULT_RULE:
            notes.append(f"Official score: that of DCASE {year}, {rule.text}.")
        fits = fit_metrics({system.name: models[system.name] for system in vector})
        report = report_text(result, notes, any_simulated(clips))
        report += f"\n\n### Normality models\n\n{fit_table(fits)}\n" if fits else ""
        file = str(encoder.path) if encoder else None
        log_evaluation(place.registry, run, settings, file, result["plots"], result["table"], report, fits)
        best = sorted(result["official_scores"].items(), key=lambda pair: -pair[1])
        verdict = ", ".join(f"{name} {mean:.2f}" for name, mean in best) or "There are no labelled test recordings"
        described = [f"{rule.mean.capitalize()} means: {verdict}.", "", *(f"- {line}" for line in result["outcomes"])]
        describe(place, run, "\n".join(described))
        publish("benchmark-report", report, verdict)
        cost = costs(chosen_systems, models, encoders, originals, clips, settings)
        return {**result, "run": run, "report": report, "costs": cost}


def _embeddings(
    home: Home,
    spectrograms: Artifact,
    recordings: pd.DataFrame,
    settings: Settings,
    systems: Sequence[NormalitySystem],
    run: str,
    key: str,
) -> tuple[Artifact | None, dict[str, Artifact], Stores]:
    """The encoder of the settings, or of the last system where none has it; those of all systems; the embeddings by
    source.
    """
    needed: dict[TrainingSettings, list[VectorSystem]] = {}
    for system in single_systems(systems):
        if system.needs_encoder:
            needed.setdefault(system.training(settings.training), []).append(system)
    main = settings.training if settings.training in needed else next(reversed(needed), None)
    encoder, encoders, stores = None, dict[str, Artifact](), Stores()
    for training, own in sorted(needed.items(), key=lambda pair: pair[0] == main):
        # Several trainings in one run would mix their metrics by epoch.
        apart = training.trains and training != main
        its_run = run
        if apart:
            its_run = tracked_run(home, "encoder", digest_of(key, training.digest()), f"encoder of {own[0].name}")
        network = None
        if training.encoder in TWO_BRANCH and training.source is None:
            network = two_branch(recordings, training, settings)
            training = training.model_copy(update={"source": str(network.path)})
        base = untrained_encoder(training)
        encoder = trained_encoder(spectrograms, recordings, training, settings, base, its_run)
        if network:
            encoder = replace(encoder, facts=network.facts)
        embeddings = embeddings_of(spectrograms, encoder, recordings, training, settings)
        stores |= {system.source: embeddings for system in own}
        encoders |= {system.name: encoder for system in own}
        if apart:
            log_encoder(home, its_run, encoder.path)
            client(home).set_terminated(its_run)
    for whole in systems:
        parts = [part.name for _, part in whole.scorers] if isinstance(whole, DetectorSystem) else []
        for part in parts:
            if part in encoders:
                encoders[whole.name] = encoders[part]
    return encoder, encoders, stores
