"""Systems that are compared: fitted on the same recordings, each with what it needs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from asdcore.evaluation.systems import (
    AutoencoderSystem,
    DetectorSystem,
    NormalitySystem,
    System,
    VectorSystem,
    single_systems,
)
from asdcore.settings import TWO_BRANCH, Settings, TrainingSettings
from asdcore.storage.files import digest_of
from asdcore.storage.home import Home
from tasks.baselines import autoencoders, two_branch
from tasks.encoder import embeddings_of, trained_encoder, untrained_encoder
from tasks.features import complete_features, feature_store, originals_artifact, scorer_statistics
from tasks.normality import Models, Stores, normality_models, stores_of
from tasks.stage import ELSEWHERE, Artifact, each_of
from tasks.tracking import client, log_encoder, tracked_run


@dataclass(frozen=True)
class Fitted:
    """Systems that were fitted on the same recordings."""

    stores: Stores
    models: Models
    encoder: Artifact | None
    """that of the settings, or of the last system where none has it"""
    encoders: dict[str, Artifact]
    """system: its encoder, if it has one"""
    originals: dict[str, Artifact]
    """system: the store of the spectrograms that it takes"""


def vector_systems(systems: Sequence[System]) -> list[NormalitySystem]:
    """Those that have normality models, or are one."""
    return [system for system in systems if not isinstance(system, AutoencoderSystem)]


def embedding_systems(systems: Sequence[System]) -> list[VectorSystem]:
    """The single systems that need an encoder."""
    return [system for system in single_systems(vector_systems(systems)) if system.needs_encoder]


def with_all_features(clips: pd.DataFrame, systems: Sequence[System], settings: Settings) -> pd.DataFrame:
    """Compute the spectrograms that these systems need, see `complete_features`."""
    if vector_systems(systems):
        clips = complete_features(clips, settings, variants=_variants(systems, settings))
    if len(vector_systems(systems)) < len(systems):
        clips = complete_features(clips, _of_baseline(settings), variants=False)
    return clips


def fitted_systems(
    home: Home, clips: pd.DataFrame, systems: Sequence[System], settings: Settings, run: str, key: str
) -> Fitted:
    """Fit systems on the normal training clips; their spectrograms are there, see `with_all_features`.

    What does not depend on each other is done at once on a cluster, see `tasks.cluster.on_cluster`: the trainings of
    different encoders, the models of all machines.

    Args:
        home: the current one.
        clips: one row per clip.
        systems: to be fitted.
        settings: of all of them.
        run: of MLflow, for the metrics of trainings; empty: nothing is logged.
        key: what makes two comparisons the same.
    """
    stores: Stores = {}
    models: Models = {}
    encoder = None
    encoders: dict[str, Artifact] = {}
    originals: dict[str, Artifact] = {}
    vector = vector_systems(systems)
    network = [system for system in systems if isinstance(system, AutoencoderSystem)]
    if vector:
        spectrograms = feature_store(settings, variants=_variants(systems, settings))
        encoder, encoders, stores = _embeddings(home, spectrograms, clips, settings, vector, run, key)
        originals |= {system.name: originals_artifact(spectrograms) for system in vector}
        statistics = scorer_statistics(clips, originals_artifact(spectrograms), settings)
        stores |= stores_of(statistics)
        models |= normality_models(stores, clips, vector)
    if network:
        stores["original"] = feature_store(_of_baseline(settings), variants=False)
        fitted = autoencoders(stores["original"], clips, settings.autoencoder)
        models |= {system.name: fitted for system in network}
        originals |= {system.name: stores["original"] for system in network}
    return Fitted(stores, models, encoder, encoders, originals)


def _of_baseline(settings: Settings) -> Settings:
    return settings.model_copy(update={"mel": settings.autoencoder.mel})


def _variants(systems: Sequence[System], settings: Settings) -> bool:
    return any(system.training(settings.training).trains for system in embedding_systems(systems))


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
    for system in embedding_systems(systems):
        needed.setdefault(system.training(settings.training), []).append(system)
    main = settings.training if settings.training in needed else next(reversed(needed), None)
    plan = sorted(needed, key=lambda training: training == main)
    # Several trainings in one run would mix their metrics by epoch.
    runs = dict.fromkeys(plan, run)
    apart = [training for training in plan if run and training.trains and training != main]
    for training in apart:
        name = f"encoder of {needed[training][0].name}"
        runs[training] = tracked_run(home, "encoder", digest_of(key, training.digest()), name)

    def embedded(training: TrainingSettings) -> tuple[Artifact, Artifact]:
        network, own = None, training
        if training.encoder in TWO_BRANCH and training.source is None:
            network = two_branch(recordings, training, settings)
            own = training.model_copy(update={"source": str(network.path)})
        # A worker may have no way to the MLflow store: the history that the file has is logged afterwards.
        its_run = "" if ELSEWHERE.get() else runs[training]
        trained = trained_encoder(spectrograms, recordings, own, settings, untrained_encoder(own), its_run)
        if network:
            trained = replace(trained, facts=network.facts)
        return trained, embeddings_of(spectrograms, trained, recordings, own, settings)

    encoder, encoders, stores = None, dict[str, Artifact](), Stores()
    for training, (trained, embeddings) in zip(plan, each_of(embedded, plan, "encoders"), strict=True):
        encoder = trained
        stores |= {system.source: embeddings for system in needed[training]}
        encoders |= {system.name: encoder for system in needed[training]}
    for training in apart:
        log_encoder(home, runs[training], encoders[needed[training][0].name].path)
        client(home).set_terminated(runs[training])
    for whole in systems:
        parts = [part.name for _, part in whole.scorers] if isinstance(whole, DetectorSystem) else []
        for part in parts:
            if part in encoders:
                encoders[whole.name] = encoders[part]
    return encoder, encoders, stores
