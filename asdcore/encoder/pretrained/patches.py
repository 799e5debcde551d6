"""The encoder of CED and Dasheng: a transformer on patches of a spectrogram, with positions in time and frequency."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asdcore.encoder.pretrained.blocks import Block


class BandNorm(nn.Module):
    """Batch normalisation of each mel band by the statistics of the training: (n_mels, frames) to the same."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_mels))
        self.bias = nn.Parameter(torch.zeros(n_mels))
        self.register_buffer("running_mean", torch.zeros(n_mels))
        self.register_buffer("running_var", torch.ones(n_mels))

    def forward(self, spectrogram: Tensor) -> Tensor:
        normalised = F.batch_norm(spectrogram[None], self.running_mean, self.running_var, self.weight, self.bias)
        return normalised[0]


class PatchTransformer(nn.Module):
    """(n_mels, frames), dB, to (tokens, width): the last hidden states of all windows.

    A spectrogram longer than the table of positions is cut into windows of its length. The last one is padded with the
    mean of the training, and the tokens of the padding are left out.

    Args:
        n_mels: bands of the spectrogram.
        frames: that the table of positions covers.
        patch: bands and frames of a patch.
        width: values of a token.
        depth: blocks.
        heads: of each attention.
    """

    def __init__(self, n_mels: int, frames: int, patch: tuple[int, int], width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.n_mels, self.frames, self.patch = n_mels, frames, patch
        self.init_bn = BandNorm(n_mels)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, width, kernel_size=patch, stride=patch)})
        self.time_pos_embed = nn.Parameter(torch.zeros(1, width, 1, frames // patch[1]))
        self.freq_pos_embed = nn.Parameter(torch.zeros(1, width, n_mels // patch[0], 1))
        self.blocks = nn.Sequential(*(Block(width, heads, 4 * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, spectrogram: Tensor) -> Tensor:
        windows = self.init_bn(spectrogram).split(self.frames, dim=1)
        shortest = self.frames if len(windows) > 1 else 0
        tokens = [self._tokens(window, shortest) for window in windows if window.shape[1] >= self.patch[1]]
        return torch.cat(tokens)

    def _tokens(self, window: Tensor, shortest: int) -> Tensor:
        with_sound = window.shape[1] // self.patch[1]
        padded = F.pad(window, (0, max(0, shortest - window.shape[1])))
        x = self.patch_embed["proj"](padded[None, None])
        x = x + self.time_pos_embed[..., : x.shape[-1]] + self.freq_pos_embed
        hidden = self.norm(self.blocks(x.flatten(2).transpose(1, 2)))
        in_time = hidden[0].unflatten(0, (x.shape[2], x.shape[3]))[:, :with_sound]
        tokens: Tensor = in_time.flatten(0, 1)
        return tokens
