"""Pretraining of the base encoder, on random machines and without a single recording.

The task is the one that it will have: a few normal recordings of a machine never heard before are known, and a faulty
recording has to be farther from them than another normal one. Each step has episodes of such machines.

The loss is that of the second stage of the network, which is then discarded, as a projection head is: the stage that
carries the loss loses what the loss does not need.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from asdcore.datasets.random_faults import FAULTS
from asdcore.datasets.random_machines import CPU, RandomMachines
from asdcore.datasets.signals import SAMPLE_RATE, Draw
from asdcore.encoder.base import WIDTH, BaseEncoder, pooled
from asdcore.encoder.network import Block, TrainedEncoder
from asdcore.features.normalisation import Normalisation
from asdcore.features.spectrogram import spectrogram
from asdcore.progress import progress
from asdcore.settings import MelSettings

EPISODES = 8
"""machines in a step"""
KNOWN, NORMAL, FAULTY = 8, 4, 6
"""recordings in an episode: normal ones that are known, normal ones to judge, faulty ones to judge"""
NORMALS, FAULTS_OF_A_KIND = 14, 4
"""recordings of each machine"""
BATCH = 16
"""machines that are simulated at a time"""
LEARNING_RATE = 1e-3
WARMUP_STEPS = 100
_KINDS = [None] * NORMALS + [kind for kind in FAULTS for _ in range(FAULTS_OF_A_KIND)]
VARIANCE_FLOOR = 0.05
"""fraction of the mean variance that is added to that of each value"""


def pretrain(steps: int = 1500, seed: int = 0, machines: int = 400, device: torch.device = CPU) -> TrainedEncoder:
    """Make a base encoder. The same arguments give the same weights on the same device.

    Args:
        steps: of `EPISODES` episodes each.
        seed: of machines, weights and episodes.
        machines: to draw episodes from.
        device: to train on.
    """
    return trained(random_spectrograms(machines, seed), steps, seed, device)


def trained(clips: NDArray[np.float16], steps: int, seed: int, device: torch.device = CPU) -> TrainedEncoder:
    """Train a base encoder on `random_spectrograms`; see `pretrain`."""
    machines = len(clips)
    normal = clips[:, :NORMALS].reshape(-1, *clips.shape[2:])
    normalisation = Normalisation.fit(clip.astype(np.float32) for clip in normal)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = BaseEncoder()
        second_stage = nn.Sequential(Block(WIDTH, 2 * WIDTH, 2, 1), Block(2 * WIDTH, 2 * WIDTH, 1, 1))
    network = nn.Sequential(encoder.layers, second_stage).to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-3)
    draw = Draw(seed, CPU)
    for step in progress(range(steps), "pretrain"):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * _rate(step, steps)
        chosen = clips[_episodes(machines, draw)].reshape(-1, 1, *clips.shape[2:])
        x = torch.from_numpy(normalisation(chosen.astype(np.float32))).to(device, memory_format=torch.channels_last)
        loss = episode_loss(pooled(network(x)).view(EPISODES, KNOWN + NORMAL + FAULTY, -1))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return TrainedEncoder(encoder.cpu().eval(), normalisation, [])


def random_spectrograms(machines: int, seed: int) -> NDArray[np.float16]:
    """(machines, recordings, n_mels, n_frames) dB: `NORMALS` of each machine, then `FAULTS_OF_A_KIND` of each fault."""
    drawn = RandomMachines(machines, seed)
    starts = range(0, machines, BATCH)
    return np.concatenate([_batch(drawn, first) for first in progress(starts, "random machines")])


def batch_of(machines: int, seed: int, first: int, state: Tensor) -> NDArray[np.float16]:
    """The rows of `random_spectrograms` from ``first`` on, up to `BATCH`; ``state``: of `batch_states`."""
    drawn = RandomMachines(machines, seed)
    drawn.state = state
    return _batch(drawn, first)


def batch_states(machines: int, seed: int) -> Iterator[tuple[int, Tensor]]:
    """The first machine of each batch of `random_spectrograms`, and the state of the random numbers there.

    They are one sequence, which a published encoder depends on. To know where a batch begins, what comes before is
    drawn, but not computed: a twentieth of the work.
    """
    drawn = RandomMachines(machines, seed)
    for first in range(0, machines, BATCH):
        yield first, drawn.state
        for kind in _KINDS:
            drawn.skip(first, min(first + BATCH, machines), kind)


def _batch(drawn: RandomMachines, first: int) -> NDArray[np.float16]:
    batch = [drawn.recordings(first, min(first + BATCH, drawn.count), kind) for kind in _KINDS]
    sounds = torch.stack(batch, dim=1).numpy()
    exact = [[spectrogram(one, SAMPLE_RATE, MelSettings()) for one in of] for of in sounds]
    return np.array(exact, np.float16)


def episode_loss(embeddings: Tensor) -> Tensor:
    """How much nearer to the known normal recordings faulty ones are than normal ones.

    The distance is that of the normality model ``standardised_knn``, with a smooth minimum.

    Args:
        embeddings: (episodes, KNOWN + NORMAL + FAULTY, p), in this order.
    """
    known, queries = embeddings[:, :KNOWN], embeddings[:, KNOWN:]
    variance = known.var(dim=1, keepdim=True, correction=0)
    scale = (variance + VARIANCE_FLOOR * variance.mean(dim=2, keepdim=True) + 1e-6).rsqrt()
    middle = known.mean(dim=1, keepdim=True)
    squared = torch.cdist((queries - middle) * scale, (known - middle) * scale).square() / embeddings.shape[2]
    distance = -torch.logsumexp(-8 * torch.log(squared + 1e-6), dim=2) / 8
    normal, faulty = distance[:, :NORMAL, None], distance[:, None, NORMAL:]
    return functional.softplus(4 * (normal - faulty) + 1).mean()


def _episodes(machines: int, draw: Draw) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which machine, (EPISODES, 1), and which of its recordings, (EPISODES, KNOWN + NORMAL + FAULTY)."""
    machine = draw.integers(machines, EPISODES, 1)
    normal = draw.permutations(NORMALS, EPISODES)[:, : KNOWN + NORMAL]
    faulty = NORMALS + draw.integers(len(FAULTS) * FAULTS_OF_A_KIND, EPISODES, FAULTY)
    return machine.numpy(), torch.cat([normal, faulty], dim=1).numpy()


def _rate(step: int, steps: int) -> float:
    """Of the learning rate: it rises in the first steps, and falls to a hundredth by a cosine."""
    fall = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
    return min(1.0, (step + 1) / WARMUP_STEPS) * fall
