"""The flow `train`: the encoder alone."""

from datetime import datetime
from pathlib import Path
from typing import TypedDict

from prefect import flow

from asdcore.encoder.frozen import training_history
from asdcore.encoder.network import require_trained
from asdcore.errors import AsdError
from asdcore.recordings.catalog import Catalog
from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.retrain import usable_clips
from tasks.encoder import encoder_artifact, trained_encoder, training_key, untrained_encoder
from tasks.features import complete_features, feature_store
from tasks.run_names import run_name
from tasks.tracking import client, failed_if_it_fails, tracked_run
from tasks.warn import warn


class Trained(TypedDict):
    """A trained encoder."""

    encoder: str
    """file"""
    run: str
    """of MLflow"""
    metrics: dict[str, float]
    """of the last epoch"""


@flow(name="train", flow_run_name=run_name)
def train(
    machines: list[str] | None = None,
    settings: Settings = Settings(),
    warm_start: Path | None = None,
    home: Path | None = None,
) -> Trained:
    """Train the encoder on what is ingested, as `retrain` would: that finds it there, and does not train again.

    Args:
        machines: train on these machines only.
        settings: see `Settings`; each batch is split among ``training.processes``.
        warm_start: file of an encoder whose weights it begins with. `retrain` without it trains another one.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Returns:
        encoder, run, and metrics: those of the last epoch.

    Raises:
        AsdError: the settings name an encoder that is not trained, and no adapters; or adapters, which start from no
            other encoder.
    """
    require_trained(settings.training)
    if warm_start and settings.training.adapter_rank:
        raise AsdError(f"adapters are always trained from the start, not from {warm_start}: leave it out")
    place = Home.at(home) if home else Home.default()
    with place.lock(warn):
        place.sweep()
        clips = complete_features(usable_clips(Catalog(place.recordings), None, machines, settings), settings)
        store = feature_store(settings)
        first = encoder_artifact(warm_start) if warm_start else None
        base = untrained_encoder(settings.training)
        key = training_key(store, clips, settings.training, settings, base, first)
        run = tracked_run(place, "training", key, f"train {datetime.now().astimezone():%Y-%m-%d %H:%M}")
        with failed_if_it_fails(place, run):
            encoder = trained_encoder(store, clips, settings.training, settings, base, run, first)
        client(place).set_terminated(run)
    return {"encoder": str(encoder.path), "run": run, "metrics": training_history(encoder.path)[-1]}
