"""Dasheng (Dinkel et al. 2024, arXiv:2406.06992): a masked autoencoder of audio, of 86 million to 1.2 billion weights.

Written after the paper and its implementations, https://github.com/XiaoMi/dasheng and
https://github.com/jimbozhang/hf_transformers_custom_model_dasheng (Apache 2.0); published as ``mispeech/dasheng-base``,
``-0.6B`` and ``-1.2B`` (Apache 2.0).
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asdcore.encoder.pretrained.base import PretrainedEncoder
from asdcore.encoder.pretrained.checkpoint import PublishedModel
from asdcore.encoder.pretrained.front_ends import N_FFT, decibel_spectrogram
from asdcore.encoder.pretrained.patches import PatchTransformer

_PATCH = (64, 4)
"""all bands, 4 frames"""
_SIZES = {"dasheng-base": (768, 12, 12), "dasheng-0.6B": (1280, 32, 16), "dasheng-1.2B": (1536, 40, 24)}
"""width, depth, heads"""


class Dasheng(PretrainedEncoder):
    """The mean of Dasheng's tokens, 25 per second.

    A clip of more than 10.08 s is cut into windows of that length; the tokens of padding do not count, as in the
    reference.

    Args:
        source: see `PretrainedEncoder`.
    """

    model_type = "dasheng"
    shortest = N_FFT

    model: PatchTransformer

    def read(self, published: PublishedModel) -> nn.Module:
        """See `PretrainedEncoder.read`."""
        model = transformer_of(published)
        published.load_into(
            model,
            # The normalisation is the second of three layers there, between two that only swap axes.
            published=lambda name: f"encoder.{name.replace('init_bn.', 'init_bn.1.')}",
            ignored=lambda key: (
                key.startswith(("outputlayer.", "encoder.front_end.")) or key.endswith(".num_batches_tracked")
            ),
        )
        return model

    def embedding(self, waveform: NDArray[np.float32]) -> Tensor:
        """See `PretrainedEncoder.embedding`."""
        tokens: Tensor = self.model(self.on_device(decibel_spectrogram(waveform, self.model.n_mels)))
        return tokens.mean(0)


def transformer_of(published: PublishedModel) -> PatchTransformer:
    """The architecture that a configuration describes, without weights (on the device ``meta``).

    Raises:
        AsdError: it is not that of a Dasheng.
    """
    parts: Any = published.config.get("encoder_kwargs")
    sizes = parts if isinstance(parts, dict) else {}
    width, depth, heads = _SIZES.get(str(published.config.get("name")), _SIZES["dasheng-base"])
    width = published.number("embed_dim", width, sizes)
    with torch.device("meta"):
        return PatchTransformer(
            _PATCH[0],
            published.number("target_length", 1008, sizes),
            _PATCH,
            width,
            published.number("depth", depth, sizes),
            published.heads("num_heads", heads, width, sizes),
        )
