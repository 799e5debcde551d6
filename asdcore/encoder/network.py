"""The encoder: a ResNet for one-channel spectrograms, and the projection head (paper 2.1).

The architecture is that of He et al. 2015 (Table 1, 18 and 50 layers) with one input channel; its output h is the
global average over frequency and time, so that a recording of any length has one embedding. The head is Linear, ReLU,
Linear as in SimCLR.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from asdcore.errors import AsdError
from asdcore.features.normalisation import Normalisation
from asdcore.registry import ENCODERS
from asdcore.settings import PRETRAINED, TrainingSettings
from asdcore.storage.files import atomic_write

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation, initialised as He et al. do."""
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """A residual block: two 3x3 convolutions, or with ``expansion`` 4 the bottleneck of 1x1, 3x3 and 1x1."""

    def __init__(self, inputs: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        outputs = width * expansion
        if expansion == 1:
            layers = [conv(inputs, width, 3, stride), nn.ReLU(), conv(width, outputs, 3)]
        else:
            layers = [
                conv(inputs, width, 1),
                nn.ReLU(),
                conv(width, width, 3, stride),
                nn.ReLU(),
                conv(width, outputs, 1),
            ]
        self.residual = nn.Sequential(*layers)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


class Encoder(nn.Module):
    """Base class of encoders: normalised spectrograms to embeddings. Subclasses define `hidden` and ``head``.

    To add one, register a function that makes it for a size of z in the entry point group ``asd.encoders``; see
    `asdcore.registry`.

    Args:
        h_size: values of h.
        z_size: values of z, the output of ``head``.
    """

    architecture = ""
    """its name in the registry"""
    head: nn.Module
    """h (n, h_size) to z (n, z_size)"""

    def __init__(self, h_size: int, z_size: int) -> None:
        super().__init__()
        self.h_size, self.z_size = h_size, z_size

    def hidden(self, x: Tensor) -> Tensor:
        """(n, 1, n_mels, n_frames), any number of frames, to h (n, h_size)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 1, n_mels, n_frames) to h (n, h_size) and z (n, z_size), before any normalisation."""
        h = self.hidden(x)
        return h, self.head(h)


class ResNet(Encoder):
    """A residual network.

    Args:
        architecture: ``resnet18`` (h: 512 values) or ``resnet50`` (2048).
        z_size: values of z.
    """

    def __init__(self, architecture: str = "resnet18", z_size: int = 128) -> None:
        expansion = 1 if architecture == "resnet18" else 4
        super().__init__(WIDTHS[-1] * expansion, z_size)
        layers: list[nn.Module] = [conv(1, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        inputs = 64
        for stage, (blocks, width) in enumerate(zip(BLOCKS[architecture], WIDTHS, strict=True)):
            for block in range(blocks):
                layers.append(Block(inputs, width, 2 if stage and not block else 1, expansion))
                inputs = width * expansion
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(inputs, inputs), nn.ReLU(), nn.Linear(inputs, z_size))

    def hidden(self, x: Tensor) -> Tensor:
        """The global average over frequency and time."""
        h: Tensor = self.layers(x).mean(dim=(2, 3))
        return h


def resnet18(z_size: int) -> ResNet:
    """h: 512 values."""
    return ResNet("resnet18", z_size)


def resnet50(z_size: int) -> ResNet:
    """h: 2048 values."""
    return ResNet("resnet50", z_size)


def build_encoder(name: str = "resnet18", z_size: int = 128) -> Encoder:
    """The untrained encoder of that name, its weights drawn from PyTorch's random state.

    Args:
        name: one of ``ENCODERS.names()``.
        z_size: values of z.

    Raises:
        AsdError: no such encoder, or the package that adds it cannot be loaded.
    """
    kind: Any = ENCODERS.get(name)
    if not getattr(kind, "trains", True):
        raise AsdError(f"encoder {name!r} is frozen and cannot be trained")
    encoder: Encoder = kind(z_size)
    encoder.architecture = name
    return encoder


def require_trained(settings: TrainingSettings) -> None:
    """Refuse an encoder of which nothing is trained.

    Raises:
        AsdError: with the remedy.
    """
    if not (settings.trains or settings.adapter_rank):
        adapters = ", and training.adapter_rank trains adapters for it" if settings.encoder in PRETRAINED else ""
        raise AsdError(f"the encoder {settings.encoder} is not trained; `--set training.encoder=resnet18` is{adapters}")


@dataclass
class TrainedEncoder:
    """An encoder, the normalisation that it was trained with, and the metrics of each epoch."""

    encoder: Encoder
    normalisation: Normalisation
    history: list[dict[str, float]]

    def save(self, path: Path) -> None:
        """Write one safetensors file atomically."""
        tensors = {name: tensor.contiguous() for name, tensor in self.encoder.state_dict().items()}
        tensors["normalisation.mean"] = torch.from_numpy(self.normalisation.mean)
        tensors["normalisation.deviation"] = torch.from_numpy(self.normalisation.deviation)
        about = {"architecture": self.encoder.architecture, "z_size": self.encoder.z_size, "history": self.history}
        with atomic_write(path) as temporary:
            # One entry: safetensors writes several in any order, but equal encoders must give equal files.
            save_file(tensors, temporary, {"about": json.dumps(about)})

    @classmethod
    def load(cls, path: Path) -> "TrainedEncoder":
        """Read what `save` wrote, on the CPU, ready to embed.

        Raises:
            AsdError: no such file, or it is damaged.
        """
        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()["about"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            mean, deviation = tensors.pop("normalisation.mean"), tensors.pop("normalisation.deviation")
            encoder = build_encoder(about["architecture"], about["z_size"])
            encoder.load_state_dict(tensors)
            history = about["history"]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise AsdError(f"{path}: cannot be read as an encoder ({error}). Delete it and retrain") from error
        return cls(encoder.eval(), Normalisation(mean.numpy(), deviation.numpy()), history)

    def embed(self, spectrograms: Iterable[Tensor], device: torch.device) -> Iterable[tuple[Tensor, Tensor]]:
        """h and z of each spectrogram, (n_mels, n_frames) normalised, each at full length.

        Computed one by one, because the last digits of an embedding depend on the batch size.
        """
        # One memory layout, as in training: the last bits of a convolution may depend on it.
        self.encoder.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        for spectrogram in spectrograms:
            # Not around the yield: the caller may train in between.
            with torch.inference_mode(), single_threaded():
                h, z = self.encoder(spectrogram[None, None].to(device, memory_format=torch.channels_last))
            yield h[0].cpu(), z[0].cpu()


@contextmanager
def single_threaded() -> Iterator[None]:
    """One thread for a single recording: several gain nothing, and cost ten times as much where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def choose_device(name: str) -> torch.device:
    """``auto``: the first available of cuda, mps, cpu.

    Raises:
        AsdError: the device is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_available in available.items() if is_available)
    if not available.get(name):
        raise AsdError(
            f"device={name}: not available here; use {', '.join(name for name in available if available[name])}"
        )
    return torch.device(name)
