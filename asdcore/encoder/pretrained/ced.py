"""CED (Dinkel et al. 2023, arXiv:2308.11957): audio taggers of 5.5 to 86 million weights, taught by an ensemble.

Written after the paper and its implementations, https://github.com/RicherMans/CED and
https://github.com/jimbozhang/hf_transformers_custom_model_ced (Apache 2.0); published as ``mispeech/ced-tiny``,
``-mini``, ``-small`` and ``-base`` (Apache 2.0).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asdcore.encoder.pretrained.base import HOP_LENGTH, PretrainedEncoder
from asdcore.encoder.pretrained.checkpoint import PublishedModel
from asdcore.encoder.pretrained.front_ends import decibel_spectrogram
from asdcore.encoder.pretrained.patches import PatchTransformer

_PATCH = 16


class CED(PretrainedEncoder):
    """The mean of CED's tokens, which its classifier sees.

    A clip of more than 10.12 s is cut into windows of that length. Unlike in the reference, the tokens of padding do
    not count, and a last window that is whole is not left out.

    Args:
        source: see `PretrainedEncoder`.
    """

    model_type = "ced"
    shortest = (_PATCH - 1) * HOP_LENGTH

    model: PatchTransformer

    def read(self, published: PublishedModel) -> nn.Module:
        """See `PretrainedEncoder.read`."""
        model = transformer_of(published)
        published.load_into(
            model,
            published=lambda name: f"encoder.{name}",
            ignored=lambda key: key.startswith("outputlayer.") or key.endswith(".num_batches_tracked"),
        )
        return model

    def embedding(self, waveform: NDArray[np.float32]) -> Tensor:
        """See `PretrainedEncoder.embedding`."""
        tokens: Tensor = self.model(self.on_device(decibel_spectrogram(waveform, self.model.n_mels)))
        return tokens.mean(0)


def transformer_of(published: PublishedModel) -> PatchTransformer:
    """The architecture that a configuration describes, without weights (on the device ``meta``).

    Raises:
        AsdError: it is not that of a CED.
    """
    published.check(patch_size=_PATCH, patch_stride=_PATCH, mlp_ratio=4.0, qkv_bias=True)
    width = published.number("embed_dim", 768)
    with torch.device("meta"):
        return PatchTransformer(
            published.number("n_mels", 64),
            published.number("target_length", 1012),
            (_PATCH, _PATCH),
            width,
            published.number("depth", 12),
            published.heads("num_heads", 12, width),
        )
