"""Compute embeddings of spectrograms with a trained encoder."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from asdcore.encoder.network import TrainedEncoder
from asdcore.features.spectrogram import Spectrogram


def embeddings(
    encoder: TrainedEncoder, spectrograms: Iterable[Spectrogram], device: torch.device
) -> Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """h and z of each (n_mels, n_frames) log-mel spectrogram, dB, with the encoder's normalisation."""
    normalised = (torch.from_numpy(np.ascontiguousarray(encoder.normalisation(values))) for values in spectrograms)
    for h, z in encoder.embed(normalised, device):
        yield h.numpy(), z.numpy()
