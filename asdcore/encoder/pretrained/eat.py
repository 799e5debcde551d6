"""EAT, the Efficient Audio Transformer (Chen et al. 2024, arXiv:2401.03497): 88 million weights, or 309 million.

Written after the paper, https://github.com/cwx-worst-one/EAT (MIT) and data2vec 2.0, which it builds on; published as
``worstchan/EAT-base_epoch30_pretrain``, ``-base_epoch30_finetune_AS2M``, ``-large_epoch20_pretrain`` (MIT).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asdcore.encoder.pretrained.base import PretrainedEncoder
from asdcore.encoder.pretrained.blocks import Block
from asdcore.encoder.pretrained.checkpoint import PublishedModel
from asdcore.encoder.pretrained.front_ends import KALDI_WINDOW, kaldi_spectrogram

_PATCH = 16
_MEAN, _STD = -4.268, 4.569
"""of AudioSet's spectrograms"""
_WINDOW = 1024
"""frames, of the clips that it was trained on: 10.24 s"""
_MULTIPLE = 128
"""Frames: a window is padded to a multiple, which gives the lengths that the authors recommend: 1024 for clips of 10 s,
512 for 5 s, 128 for 1 s."""


class EATTransformer(nn.Module):
    """(frames, n_mels), normalised, to (1 + tokens, width); the first is the class token.

    Args:
        n_mels: bands of the spectrogram.
        rows: patches in time that the table of positions covers.
        width: values of a token.
        depth: blocks.
        heads: of each attention.
    """

    def __init__(self, n_mels: int, rows: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.n_mels = n_mels
        self.window = min(_WINDOW, rows * _PATCH)
        self.local_encoder = nn.ModuleDict({"proj": nn.Conv2d(1, width, kernel_size=_PATCH, stride=_PATCH)})
        positions = nn.Parameter(torch.zeros(1, rows * (n_mels // _PATCH), width))
        self.fixed_positional_encoder = nn.ParameterDict({"positions": positions})
        self.extra_tokens = nn.Parameter(torch.zeros(1, 1, width))
        self.pre_norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.Sequential(*(Block(width, heads, 4 * width, norm_first=False) for _ in range(depth)))

    def forward(self, spectrogram: Tensor) -> Tensor:
        patches = self.local_encoder["proj"](spectrogram[None, None]).flatten(2).transpose(1, 2)
        placed = patches + self.fixed_positional_encoder["positions"][:, : patches.shape[1]]
        tokens: Tensor = self.blocks(self.pre_norm(torch.cat([self.extra_tokens, placed], dim=1)))
        return tokens[0]


class EAT(PretrainedEncoder):
    """EAT's class token, which its authors recommend over the mean of its tokens.

    A clip of more than 10.24 s is cut into windows of that length; each counts as much as it is long.

    Args:
        source: see `PretrainedEncoder`.
    """

    model_type = "eat"
    shortest = KALDI_WINDOW

    model: EATTransformer

    def read(self, published: PublishedModel) -> nn.Module:
        """See `PretrainedEncoder.read`."""
        model = transformer_of(published)
        published.load_into(
            model,
            published=lambda name: f"model.{name}",
            ignored=lambda key: key.startswith(("model.head.", "model.fc_norm.")),
        )
        return model

    def embedding(self, waveform: NDArray[np.float32]) -> Tensor:
        """See `PretrainedEncoder.embedding`."""
        spectrogram = kaldi_spectrogram(waveform - waveform.mean(), self.model.n_mels, "hanning")
        total = torch.zeros(())
        for first in range(0, len(spectrogram), self.model.window):
            window = spectrogram[first : first + self.model.window]
            padding = min(-len(window) % _MULTIPLE, self.model.window - len(window))
            # Padded before it is normalised, as in the reference.
            padded = np.pad(window, ((0, padding), (0, 0)))
            tokens: Tensor = self.model(self.on_device((padded - np.float32(_MEAN)) / np.float32(2 * _STD)))
            total = total + tokens[0].cpu() * (len(window) / len(spectrogram))
        return total


def transformer_of(published: PublishedModel) -> EATTransformer:
    """The architecture that a configuration describes, without weights (on the device ``meta``).

    Raises:
        AsdError: it is not that of an EAT.
    """
    published.check(
        patch_size=_PATCH, stride=_PATCH, in_chans=1, mlp_ratio=4.0, qkv_bias=True, norm_eps=1e-6, norm_affine=True,
        layer_norm_first=False, fixed_positions=True,
    )  # fmt: skip
    width = published.number("embed_dim", 768)
    with torch.device("meta"):
        return EATTransformer(
            published.number("mel_bins", 128),
            published.number("max_length", 768),
            width,
            published.number("depth", 12),
            published.heads("num_heads", 12, width),
        )
