"""The baselines stage: the official autoencoder of each machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import cpu_count

from asdcore.baselines.fitting import fit_machine
from asdcore.recordings.catalog import training_recordings
from asdcore.settings import AutoencoderSettings
from tasks.stage import Artifact, stage


@stage("runs/autoencoders/{key}.safetensors")
def train_autoencoder(
    out: Path, spectrograms: Artifact, training: Sequence[tuple[str, str]], settings: AutoencoderSettings
) -> None:
    """Train the baseline of one machine on its (recording, domain) pairs."""
    fit_machine(spectrograms.path, training, out, settings)


def autoencoders(
    spectrograms: Artifact, recordings: pd.DataFrame, settings: AutoencoderSettings
) -> dict[str, Artifact]:
    """The trained baseline of each machine."""
    inputs: dict[str, dict[str, Any]] = {}
    for machine, rows in training_recordings(recordings).groupby("machine"):
        pairs = sorted(rows[["recording", "domain"]].itertuples(index=False, name=None))
        inputs[str(machine)] = {"spectrograms": spectrograms, "training": pairs, "settings": settings}
    return dict(zip(inputs, train_autoencoder.map(list(inputs.values()), cpu_count()), strict=True))
