"""The base encoder: small, pretrained on random machines (`asdcore.encoder.pretrain`), and used without any training.

It is the beginning of a ResNet-18 of half the width, its stem and first stage. Averages and maxima are taken over time
alone: at which frequency something sounds is kept. See docs/evidence/base_encoder.md.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from asdcore.encoder.network import Block, Encoder, TrainedEncoder, conv
from asdcore.settings import BASE

WEIGHTS = Path(__file__).with_name("base.safetensors")
"""made by `asd pretrain`"""
WIDTH = 32
N_MELS = 128


class BaseEncoder(Encoder):
    """Stem and first stage of a ResNet-18 of half the width; h is the average and the maximum of its output over time.

    It has no projection head: z is h.

    >>> h, z = BaseEncoder()(torch.zeros(2, 1, 128, 50))
    >>> h.shape
    torch.Size([2, 2048])
    """

    architecture = BASE

    def __init__(self) -> None:
        size = 2 * WIDTH * N_MELS // 4
        super().__init__(size, size)
        self.layers = nn.Sequential(
            conv(1, WIDTH, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Block(WIDTH, WIDTH, 1, 1), Block(WIDTH, WIDTH, 1, 1)
        )
        self.head = nn.Identity()

    def hidden(self, x: Tensor) -> Tensor:
        """Pooled over time: (n, h_size), the averages, then the maxima, channel by channel, from low to high bands."""
        return pooled(self.layers(x))


def base_encoder(z_size: int) -> BaseEncoder:
    """Its network with random weights; ``z_size`` is ignored, since z is h."""
    return BaseEncoder()


def load_base() -> TrainedEncoder:
    """The base encoder with the weights that come with the package.

    >>> load_base().encoder.architecture
    'base'
    """
    return TrainedEncoder.load(WEIGHTS)


def pooled(x: Tensor) -> Tensor:
    """Average and maximum over time, side by side: (n, channels, bands, n_frames) to (n, 2 * channels * bands)."""
    return torch.cat([x.mean(dim=3), x.amax(dim=3)], dim=1).flatten(1)
