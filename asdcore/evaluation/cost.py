"""What a system costs: the time of one score, and the size of the files that it needs."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from asdcore.baselines.autoencoder import AutoencoderModel
from asdcore.encoder.embedding import embedding
from asdcore.encoder.frozen import AnyEncoder, FrozenEncoder, sound_of
from asdcore.encoder.network import choose_device
from asdcore.evaluation.systems import DetectorSystem, System, VectorSystem
from asdcore.features.spectrogram import Spectrogram
from asdcore.features.statistics import time_statistics
from asdcore.normality.base import read_model
from asdcore.normality.machine import MachineModel
from asdcore.normality.scorers import Vector, build_scorers, features_of
from asdcore.settings import Settings

Timed = tuple[str, Path, Spectrogram]
"""A clip: name, file, spectrogram."""


def score_milliseconds(
    system: System, model: Path, encoder: AnyEncoder | None, clips: Sequence[Timed], settings: Settings
) -> float:
    """The median time that the score of one clip takes from its spectrogram (of a frozen encoder: from its file).

    Args:
        system: what is timed, on the CPU.
        model: file of its fitted model of one machine.
        encoder: None if the system needs none.
        clips: of this machine; the first one is not counted.
        settings: which the system was made with.
    """
    score = _scoring(system, model, encoder, settings)
    taken = []
    for clip in clips:
        start = time.perf_counter()
        score(clip)
        taken.append(1000 * (time.perf_counter() - start))
    return float(np.median(taken[1:] or taken))


def megabytes(model: Path, encoder: Path | None, loaded: AnyEncoder | None) -> float:
    """The size of the files that the system reads for one machine: its model and its encoder."""
    files = [model, *([encoder] if encoder else [])]
    if isinstance(loaded, FrozenEncoder) and loaded.source:
        source = loaded.source
        files += [file for file in source.rglob("*") if file.is_file()] if source.is_dir() else [source]
    return sum(file.stat().st_size for file in files) / 1e6


def _scoring(system: System, model: Path, encoder: AnyEncoder | None, settings: Settings) -> Callable[[Timed], object]:
    if isinstance(system, DetectorSystem):
        machine = MachineModel.read(model)
        return lambda clip: machine.judge(
            {name: _vector(part, encoder, clip, settings)[None] for name, part in system.scorers}, 0.01
        )
    if isinstance(system, VectorSystem):
        fitted = read_model(model)
        return lambda clip: fitted.distance(_vector(system, encoder, clip, settings)[None])
    autoencoder = AutoencoderModel.from_tensors(load_file(model))
    return lambda clip: autoencoder.score(clip[2], system.score, per_frame_mean=system.per_frame_mean)


def _vector(system: VectorSystem, encoder: AnyEncoder | None, clip: Timed, settings: Settings) -> Vector:
    name, path, spectrogram = clip
    if system.needs_encoder and encoder is not None:
        h, z = embedding(encoder, lambda: sound_of(name, path, settings.recordings), spectrogram, choose_device("cpu"))
        return h if system.column == "h" else z
    statistics = time_statistics(spectrogram)
    if system.column in statistics:
        return statistics[system.column]
    scorers = [one for one in build_scorers(settings.normality).values() if one.column == system.column]
    return features_of(scorers, spectrogram, None)[scorers[0].name]
