"""Compute embeddings of spectrograms with a trained encoder, of waveforms with a frozen one."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from asdcore.encoder.frozen import AnyEncoder, FrozenEncoder, Sound, checked
from asdcore.errors import AsdError
from asdcore.features.spectrogram import Spectrogram

Embedded = tuple[NDArray[np.float32], NDArray[np.float32]]
"""h and z"""


def embeddings(encoder: AnyEncoder, spectrograms: Iterable[Spectrogram], device: torch.device) -> Iterable[Embedded]:
    """h and z of each (n_mels, n_frames) log-mel spectrogram, dB, with the encoder's normalisation.

    Raises:
        AsdError: the encoder is a frozen one.
    """
    if isinstance(encoder, FrozenEncoder):
        raise AsdError(f"the encoder {encoder.architecture} embeds waveforms, not spectrograms")
    normalised = (torch.from_numpy(np.ascontiguousarray(encoder.normalisation(values))) for values in spectrograms)
    for h, z in encoder.embed(normalised, device):
        yield h.numpy(), z.numpy()


def embedding(
    encoder: AnyEncoder, sound: Callable[[], Sound], spectrogram: Spectrogram, device: torch.device
) -> Embedded:
    """h and z of one clip: of its spectrogram, or with a frozen encoder of its sound; z is h then.

    Raises:
        BadRecording: a frozen encoder has no embedding of it.
    """
    if isinstance(encoder, FrozenEncoder):
        vector = checked(encoder.to(device), sound())
        return vector, vector
    return next(iter(embeddings(encoder, [spectrogram], device)))
