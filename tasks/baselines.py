"""The baselines stage: the official autoencoder of each machine, and the two-branch network of all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import cpu_count

from asdcore.baselines.discrimination import CLASS, read_waveforms
from asdcore.baselines.fitting import fit_machine
from asdcore.baselines.two_branch import WINDOWS
from asdcore.baselines.two_branch_training import train_two_branch as train
from asdcore.encoder.network import choose_device
from asdcore.recordings.training import training_recordings
from asdcore.settings import AutoencoderSettings, RecordingSettings, Settings, TrainingSettings, TwoBranchSettings
from asdcore.storage.files import digest_of
from tasks.stage import Artifact, scratch_folder, stage
from tasks.warn import warn


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


@stage("runs/two_branch/{key}.safetensors", uncounted=("paths", "device"))
def train_two_branch(
    out: Path,
    recordings: pd.DataFrame,
    network: str,
    settings: TwoBranchSettings,
    decoding: RecordingSettings,
    paths: Mapping[str, str],
    device: str,
) -> None:
    """Train a network of `WINDOWS` on these clips; resume after the last epoch of a training that was stopped.

    ``recordings``: columns ``recording`` and those of a class; ``paths``: clip: file of its recording.
    """
    files = [Path(paths[clip]) for clip in recordings["recording"]]
    data = read_waveforms(recordings, files, decoding, settings.seconds)
    fingerprint = digest_of(network, settings.digest(), decoding.digest(), *recordings["recording"])
    trained, history = train(
        data, WINDOWS[network], settings, choose_device(device), scratch_folder(), fingerprint, warn
    )
    trained.save(out, data.sample_rate, history)


def two_branch(recordings: pd.DataFrame, training: TrainingSettings, settings: Settings) -> Artifact:
    """The network that ``training.encoder`` names, trained on the normal training recordings of all machines."""
    rows = training_recordings(recordings).sort_values("recording", ignore_index=True)
    paths = dict(zip(rows["recording"], rows["path"], strict=True))
    columns = rows[["recording", *CLASS]]
    return train_two_branch(columns, training.encoder, settings.two_branch, settings.recordings, paths, training.device)
