"""The pretraining stage: recordings of random machines in batches, and the base encoder that is trained on them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from asdcore.encoder.network import choose_device
from asdcore.encoder.pretrain import batch_of, batch_states, trained
from tasks.stage import Artifact, stage


@stage("runs/pretraining/{key}.npy")
def random_batch(out: Path, machines: int, seed: int, first: int, state: str) -> None:
    """The spectrograms of a batch of random machines, see `batch_of`. ``state``: as hexadecimal digits."""
    numbers = torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8)
    with out.open("wb") as file:
        np.save(file, batch_of(machines, seed, first, numbers), allow_pickle=False)


@stage("runs/pretraining/{key}.safetensors", uncounted=("device",))
def base_encoder(out: Path, batches: Sequence[Artifact], steps: int, seed: int, device: str) -> None:
    """Train a base encoder on all batches. One process: every step needs the weights of the one before."""
    clips = np.concatenate([np.load(batch.path, allow_pickle=False) for batch in batches])
    trained(clips, steps, seed, choose_device(device)).save(out)


def pretrained_encoder(steps: int, seed: int, machines: int, device: str) -> Artifact:
    """The base encoder of `asdcore.encoder.pretrain.pretrain`, to the last bit; its batches are made at once on a
    cluster.
    """
    inputs = (
        {"machines": machines, "seed": seed, "first": first, "state": state.numpy().tobytes().hex()}
        for first, state in batch_states(machines, seed)
    )
    return base_encoder(random_batch.map(inputs, 1), steps, seed, device)
