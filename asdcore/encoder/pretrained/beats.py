"""BEATs (Chen et al. 2022, arXiv:2212.09058): a transformer taught by acoustic tokenizers, 90 million weights.

Written after the paper and https://github.com/microsoft/unilm/tree/master/beats (MIT), which publishes the models as
pickles (MIT): `convert_checkpoint` makes the folder that is read here. The gated relative positions are those of WavLM
(Chen et al. 2022, arXiv:2110.13900).
"""

import math
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from asdcore.encoder.adapters import Layers
from asdcore.encoder.pretrained.base import HOP_LENGTH, PretrainedEncoder
from asdcore.encoder.pretrained.checkpoint import PublishedModel
from asdcore.encoder.pretrained.front_ends import KALDI_WINDOW, kaldi_spectrogram

N_MELS = 128
_MEAN, _STD = 15.41663, 6.55582
"""of AudioSet's spectrograms"""
_INT16 = 2**15
_PATCH = 16
_WINDOW = 192 * _PATCH
"""Frames: 30.72 s. The model takes any length, but memory grows with its square."""


class PositionalConvolution(nn.Module):
    """What surrounds a token along the sequence: (1, width, tokens) to the same. Its kernel is weight-normalised."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(1, 1, kernel))
        self.weight_v = nn.Parameter(torch.zeros(width, width // groups, kernel))
        self.bias = nn.Parameter(torch.zeros(width))
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight_v.shape[2]
        weight = self.weight_g * self.weight_v / self.weight_v.norm(dim=(0, 1), keepdim=True)
        convolved = F.conv1d(x, weight, self.bias, padding=kernel // 2, groups=self.groups)
        return F.gelu(convolved[..., : x.shape[2]])


class GatedAttention(nn.Module):
    """Self-attention with relative positions that each token gates: (1, tokens, width) to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.grep_linear = nn.Linear(width // heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, heads, 1, 1))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """``bias``: (heads, tokens, tokens), of the relative positions."""
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        gates = self.grep_linear(query).unflatten(-1, (2, 4)).sum(-1).sigmoid()
        update, reset = gates.chunk(2, dim=-1)
        gated = (update * (reset * self.grep_a - 1.0) + 2.0) * bias
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=gated)
        mixed: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return mixed


class BEATsLayer(nn.Module):
    """Attention and a feed-forward network, each sum normalised: (1, tokens, width) to the same.

    ``residual``: what x is multiplied by before it is added to (DeepNorm; Wang et al. 2022, arXiv:2203.00555).
    """

    def __init__(self, width: int, heads: int, hidden: int, residual: float) -> None:
        super().__init__()
        self.self_attn = GatedAttention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.residual = residual

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(self.residual * x + self.self_attn(x, bias))
        y: Tensor = self.final_layer_norm(self.residual * x + self.fc2(F.gelu(self.fc1(x))))
        return y


class BEATsEncoder(nn.Module):
    """The layers on top of the patches: (1, tokens, width) to the same.

    Args:
        width: values of a token.
        depth: layers.
        heads: of each attention.
        hidden: values within a feed-forward network.
        convolution: kernel and groups of the positional convolution.
        buckets: of relative positions, and the distance from which on they share one.
        deep_norm: whether residual connections are scaled.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        convolution: tuple[int, int],
        buckets: tuple[int, int],
        deep_norm: bool,
    ) -> None:
        super().__init__()
        self.buckets = buckets
        self.pos_conv = nn.Sequential(PositionalConvolution(width, *convolution))
        self.layer_norm = nn.LayerNorm(width)
        self.relative_attention_bias = nn.Embedding(buckets[0], heads)
        residual = (2 * depth) ** 0.25 if deep_norm else 1.0
        self.layers = nn.ModuleList(BEATsLayer(width, heads, hidden, residual) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_norm(x + self.pos_conv(x.transpose(1, 2)).transpose(1, 2))
        places = bucket_of_distances(x.shape[1], *self.buckets).to(x.device)
        bias = self.relative_attention_bias(places).permute(2, 0, 1)
        for layer in self.layers:
            x = layer(x, bias)
        return x


class BEATsTransformer(nn.Module):
    """(frames, n_mels), normalised, to (tokens, width).

    Args:
        patch_width: values of a patch before they are projected to ``width``.
        width: values of a token.
        encoder: of these tokens.
    """

    def __init__(self, patch_width: int, width: int, encoder: BEATsEncoder) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(1, patch_width, kernel_size=_PATCH, stride=_PATCH, bias=False)
        self.layer_norm = nn.LayerNorm(patch_width)
        self.post_extract_proj = nn.Linear(patch_width, width) if patch_width != width else nn.Identity()
        self.encoder = encoder

    def forward(self, spectrogram: Tensor) -> Tensor:
        patches = self.patch_embedding(spectrogram[None, None]).flatten(2).transpose(1, 2)
        tokens: Tensor = self.encoder(self.post_extract_proj(self.layer_norm(patches)))
        return tokens[0]


def bucket_of_distances(tokens: int, buckets: int, farthest: int) -> Tensor:
    """(tokens, tokens): the bucket of each token's distance from each, as in T5 (Raffel et al. 2020).

    Half of the buckets are for each direction; half of those are for one distance each, the others for ranges that grow
    up to ``farthest``.
    """
    position = torch.arange(tokens)
    distance = position[None, :] - position[:, None]
    one_way = buckets // 2
    exact = one_way // 2
    # A distance of zero is exact; 1 avoids its logarithm.
    ratio = torch.log(distance.abs().clamp(min=1).float() / exact) / math.log(farthest / exact)
    far = (exact + (ratio * (one_way - exact)).long()).clamp(max=one_way - 1)
    return (distance > 0).long() * one_way + torch.where(distance.abs() < exact, distance.abs(), far)


class BEATs(PretrainedEncoder):
    """The mean of BEATs's tokens, over which its classifier averages.

    A clip of more than 30.72 s is cut into windows of that length.

    Args:
        source: see `PretrainedEncoder`; the folder that `convert_checkpoint` made.
    """

    model_type = "beats"
    adaptable: ClassVar[Layers] = {"q_proj": (True,), "v_proj": (True,)}
    shortest = (_PATCH - 1) * HOP_LENGTH + KALDI_WINDOW

    def read(self, published: PublishedModel) -> nn.Module:
        """See `PretrainedEncoder.read`."""
        model = transformer_of(published)
        published.load_into(model, published=_published_name, ignored=_is_ignored)
        return model

    def embedding(self, waveform: NDArray[np.float32]) -> Tensor:
        """See `PretrainedEncoder.embedding`."""
        spectrogram = kaldi_spectrogram(waveform * np.float32(_INT16), N_MELS, "povey")
        normalised = (spectrogram - np.float32(_MEAN)) / np.float32(2 * _STD)
        windows = (normalised[first : first + _WINDOW] for first in range(0, len(normalised), _WINDOW))
        tokens = [self.model(self.on_device(window)) for window in windows if len(window) >= _PATCH]
        return torch.cat(tokens).mean(0)


_SHARED = "encoder.relative_attention_bias.weight"
"""All layers have it; the files hold it with each."""


def _published_name(name: str) -> str:
    return "encoder.layers.0.self_attn.relative_attention_bias.weight" if name == _SHARED else name


def _is_ignored(key: str) -> bool:
    return key.startswith("predictor.") or key.endswith(".relative_attention_bias.weight")


def transformer_of(published: PublishedModel) -> BEATsTransformer:
    """The architecture that a configuration describes, without weights (on the device ``meta``).

    Raises:
        AsdError: it is not that of a BEATs.
    """
    published.check(
        input_patch_size=_PATCH, activation_fn="gelu", layer_norm_first=False, conv_bias=False,
        relative_position_embedding=True, gru_rel_pos=True,
    )  # fmt: skip
    width = published.number("encoder_embed_dim", 768)
    with torch.device("meta"):
        encoder = BEATsEncoder(
            width,
            published.number("encoder_layers", 12),
            published.heads("encoder_attention_heads", 12, width),
            published.number("encoder_ffn_embed_dim", 3072),
            (published.number("conv_pos", 128), published.heads("conv_pos_groups", 16, width)),
            (published.number("num_buckets", 320), published.number("max_distance", 1280)),
            bool(published.config.get("deep_norm", False)),
        )
        return BEATsTransformer(published.number("embed_dim", 512), width, encoder)
