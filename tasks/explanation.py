"""The explanation stage: what the spectra of each machine usually look like."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from asdcore.explanation.profile import Profile
from asdcore.features.store import Store
from asdcore.normality.base import write_arrays
from asdcore.settings import MelSettings, Settings
from tasks.features import originals_artifact
from tasks.normality import training_rows
from tasks.stage import Artifact, stage


@stage("runs/profiles/{key}.npz", uncounted=("machine",))
def fit_profile(
    out: Path,
    machine: str,
    originals: Artifact,
    mel: MelSettings,
    sample_rate: int,
    recordings: Sequence[tuple[str, str]],
) -> None:
    """Learn what one machine's spectra usually look like, from its training recordings."""
    store = Store(originals.path)
    spectrograms = (store.read(recording, "original") for recording, _ in recordings)
    profile = Profile.fit(spectrograms, [domain for _, domain in recordings], mel, sample_rate)
    write_arrays(out, profile.to_arrays())


def profiles(spectrograms: Artifact, recordings: pd.DataFrame, settings: Settings) -> dict[str, Artifact]:
    """The profile of each machine, used to explain its recordings."""
    originals, rate = originals_artifact(spectrograms), settings.recordings.sample_rate
    return {
        machine: fit_profile(machine, originals, settings.mel, rate, [(digest, domain) for digest, domain, _ in rows])
        for machine, rows in training_rows(recordings).items()
    }
