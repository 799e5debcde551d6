"""The discriminative two-branch network of Wilkinghoff, as an encoder of waveforms.

Wilkinghoff, *Self-supervised learning for anomalous sound detection* (ICASSP 2024, arXiv:2312.09578) and its published
code, in TensorFlow: one branch takes the magnitude spectrum of the whole recording, the other its spectrogram. No
layer has a bias, so that the network cannot map everything to one point. Layers, strides, padding and initialisation
are those of the code; in one place its ReLU stands before the batch normalisation instead of after it, and here not.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from asdcore.baselines.exchange import exchanged_statistics
from asdcore.encoder.frozen import FrozenEncoder
from asdcore.encoder.network import single_threaded
from asdcore.errors import AsdError
from asdcore.storage.files import atomic_write, digest_of_file

SIZE = 128
"""values of the embedding of a branch"""
WINDOWS = {"two_branch": (1024,), "multi_resolution": (256, 1024, 4096)}
"""Network: samples of the STFT windows of its spectrogram branches; a hop is half a window. Three resolutions: Fujimura
et al. (ICASSP 2025, arXiv:2409.09332), sizes and hops as in the configuration of the first author's toolkit."""
_METADATA = "two_branch"


def batch_norm(channels: int, kind: type[nn.BatchNorm1d] | type[nn.BatchNorm2d]) -> nn.Module:
    """A batch normalisation with the constants of Keras."""
    return kind(channels, eps=1e-3, momentum=0.01)


class SamePadding(nn.Module):
    """A convolution without bias, padded as in TensorFlow: to ceil(length / stride) values in each dimension."""

    def __init__(self, convolution: nn.Conv1d | nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        nn.init.xavier_uniform_(convolution.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, ...) to (n, outputs, ...)."""
        padding: list[int] = []
        sizes = zip(x.shape[2:], self.convolution.kernel_size, self.convolution.stride, strict=True)
        for length, size, stride in reversed(list(sizes)):
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            padding += [total // 2, total - total // 2]
        convolved: Tensor = self.convolution(functional.pad(x, padding))
        return convolved


def conv1d(inputs: int, outputs: int, size: int, stride: int) -> nn.Module:
    return SamePadding(nn.Conv1d(inputs, outputs, size, stride, bias=False))


def conv2d(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Module:
    return SamePadding(nn.Conv2d(inputs, outputs, size, stride, bias=False))


def linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer


class SqueezeExcitation(nn.Module):
    """Weigh channels by a gate of their means (Hu et al. 2018), reduced to a sixteenth in between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            linear(channels, channels // 16), nn.ReLU(), linear(channels // 16, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, ...) to the same shape."""
        weights: Tensor = self.gate(x.flatten(2).mean(dim=2))
        return x * weights.reshape(*weights.shape, *[1] * (x.ndim - 2))


class Residual(nn.Module):
    """Two convolutions with squeeze-and-excitation beside a shortcut; with a stride both halve the image."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, normalise: bool = True) -> None:
        super().__init__()
        self.before = batch_norm(inputs, nn.BatchNorm2d) if normalise else nn.Identity()
        self.convolutions = nn.Sequential(
            nn.ReLU(),
            conv2d(inputs, outputs, 3, stride),
            batch_norm(outputs, nn.BatchNorm2d),
            nn.ReLU(),
            conv2d(outputs, outputs, 3),
            SqueezeExcitation(outputs),
        )
        self.shortcut = (
            nn.Identity() if stride == 1 else nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), conv2d(inputs, outputs, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, t, f) to (n, outputs, t, f), or half of t and f, rounded up."""
        x = self.before(x)
        added: Tensor = self.shortcut(x) + self.convolutions(x)
        return added


class SpectrumBranch(nn.Module):
    """The magnitude spectrum of all samples: three 1-d convolutions, five layers.

    Args:
        samples: of a waveform.
    """

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.bins = length = samples // 2
        layers: list[nn.Module] = []
        for inputs, size, stride in ((1, 256, 64), (128, 64, 32), (128, 16, 4)):
            layers += [conv1d(inputs, 128, size, stride), nn.ReLU(), SqueezeExcitation(128)]
            length = -(-length // stride)
        layers.append(nn.Flatten())
        for inputs in (128 * length, 128, 128, 128):
            layers += [linear(inputs, 128), batch_norm(128, nn.BatchNorm1d), nn.ReLU()]
        self.layers = nn.Sequential(*layers, linear(128, SIZE))

    def forward(self, waveforms: Tensor) -> Tensor:
        """(n, samples) to (n, SIZE)."""
        embedding: Tensor = self.layers(torch.fft.rfft(waveforms)[:, None, : self.bins].abs())
        return embedding


class SpectrogramBranch(nn.Module):
    """The magnitude spectrogram less its mean over time: eight residual blocks, the maximum over time.

    Args:
        window: samples of an STFT window (Hann); a hop is half of it.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.hop = window // 2
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.window: Tensor
        bands = window // 2 + 1
        self.bands = batch_norm(bands, nn.BatchNorm1d)
        blocks: list[nn.Module] = [Residual(16, 16, normalise=False), Residual(16, 16)]
        for inputs in (16, 32, 64):
            blocks += [Residual(inputs, 2 * inputs, stride=2), Residual(2 * inputs, 2 * inputs)]
        self.layers = nn.Sequential(
            conv2d(1, 16, 7, stride=2), batch_norm(16, nn.BatchNorm2d), nn.ReLU(), nn.MaxPool2d(3, 2), *blocks
        )
        left = (-(-bands // 2) - 3) // 2 + 1
        for _ in range(3):
            left = -(-left // 2)
        self.head = nn.Sequential(batch_norm(128 * left, nn.BatchNorm1d), linear(128 * left, SIZE))

    def forward(self, waveforms: Tensor, exchanged: Tensor | None = None) -> Tensor:
        """(n, samples) to (n, SIZE). ``exchanged``: (n,) bool, rows that get the statistics of another; None: none."""
        spectra = torch.stft(
            waveforms, len(self.window), self.hop, window=self.window, center=False, return_complex=True
        ).abs()
        if exchanged is not None:
            spectra = exchanged_statistics(spectra, exchanged)
        image = self.bands(spectra - spectra.mean(dim=2, keepdim=True)).transpose(1, 2)[:, None]
        embedding: Tensor = self.head(self.layers(image).amax(dim=2).flatten(1))
        return embedding


class TwoBranch(nn.Module):
    """Both branches; several windows make several spectrogram branches.

    Args:
        samples: of a waveform; at least five hops and a window of the longest spectrogram.
        windows: see `SpectrogramBranch`.

    Raises:
        AsdError: too few samples.
    """

    def __init__(self, samples: int, windows: Sequence[int] = WINDOWS["two_branch"]) -> None:
        super().__init__()
        if samples < (fewest := 3 * max(windows)):
            raise AsdError(f"{samples} samples: the network needs at least {fewest}; lengthen two_branch.seconds")
        self.samples, self.windows = samples, tuple(windows)
        self.spectrum = SpectrumBranch(samples)
        self.spectrograms = nn.ModuleList(SpectrogramBranch(window) for window in windows)

    @property
    def size(self) -> int:
        """Values of an embedding."""
        return SIZE * (1 + len(self.windows))

    def branches(self, waveforms: Tensor, exchanged: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, samples) to the embedding of the spectrum, (n, SIZE), and that of the spectrograms, the rest.

        ``exchanged``: see `SpectrogramBranch.forward`.
        """
        parts = [branch(waveforms, exchanged) for branch in self.spectrograms]
        return self.spectrum(waveforms), torch.cat(parts, dim=1)

    def forward(self, waveforms: Tensor) -> Tensor:
        """(n, samples) to (n, size)."""
        return torch.cat(self.branches(waveforms), dim=1)

    def save(self, path: Path, sample_rate: int, history: Sequence[dict[str, float]]) -> None:
        """Write a safetensors file, atomically; `TwoBranchEncoder` reads it."""
        about = {"samples": self.samples, "windows": self.windows, "sample_rate": sample_rate, "history": list(history)}
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        with atomic_write(path) as temporary:
            save_file(tensors, temporary, {_METADATA: json.dumps(about)})


def fitted(samples: NDArray[np.float32] | Tensor, length: int) -> Tensor:
    """A waveform (n,) repeated from its beginning, or cut, to (length,).

    >>> fitted(np.array([1, 2, 3], np.float32), 5).tolist()
    [1.0, 2.0, 3.0, 1.0, 2.0]
    """
    waveform = torch.as_tensor(samples)[:length]
    return waveform.repeat(-(-length // len(waveform)))[:length]


class TwoBranchEncoder(FrozenEncoder):
    """A trained `TwoBranch` as it comes out of `TwoBranch.save`.

    Args:
        source: that file.

    Raises:
        AsdError: it is missing or something else.
    """

    def __init__(self, source: Path | None = None) -> None:
        super().__init__(source)
        if source is None:
            raise AsdError("the two-branch network needs its weights: name the file that a benchmark has trained")
        try:
            with safe_open(source, "pt") as file:
                about = json.loads((file.metadata() or {})[_METADATA])
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dictionary
            self.network = TwoBranch(about["samples"], about["windows"])
            self.network.load_state_dict(weights)
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise AsdError(f"{source}: no two-branch network ({error}); `asd benchmark` trains one") from error
        self.network.eval()
        self.sample_rate: int = about["sample_rate"]
        self.digest = digest_of_file(source)
        self.device = torch.device("cpu")

    def embed(self, samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """(n,), full scale at 1, to the embedding of all branches, of length 1.

        Raises:
            AsdError: another rate than that of the training.
        """
        if sample_rate != self.sample_rate:
            raise AsdError(
                f"{self.source} was trained at {self.sample_rate} Hz, the recordings are read at {sample_rate} Hz: set "
                f"recordings.sample_rate={self.sample_rate}, or train another"
            )
        with torch.inference_mode(), single_threaded():
            waveform = fitted(samples, self.network.samples)[None].to(self.device)
            embedding: NDArray[np.float32] = functional.normalize(self.network(waveform), dim=1)[0].cpu().numpy()
        return embedding

    def to(self, device: torch.device) -> "TwoBranchEncoder":
        """Embed on this device from now on."""
        self.device = device
        self.network.to(device)
        return self
