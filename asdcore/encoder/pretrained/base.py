"""What the published models have in common: reading the folder, and preparing the waveform."""

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asdcore.encoder.adapters import Adapters, Layers, merge
from asdcore.encoder.frozen import FrozenEncoder
from asdcore.encoder.pretrained.checkpoint import PublishedModel
from asdcore.errors import AsdError

SAMPLE_RATE = 16_000
"""Hz, of all of these models"""
HOP_LENGTH = 160
"""samples, of all of these models: 100 frames per second"""


class PretrainedEncoder(FrozenEncoder):
    """A published model: a clip's waveform, resampled to 16 kHz, to one embedding (d,).

    Subclasses define `read` and `embedding`.

    Args:
        source: the folder with ``config.json`` and ``model.safetensors``.

    Raises:
        AsdError: they are not there, damaged, or of another model; with the remedy.
    """

    model_type: ClassVar[str]
    """in ``config.json``"""
    also_read: ClassVar[tuple[str, ...]] = ()
    """other files of the folder"""
    shortest: ClassVar[int]
    """samples at 16 kHz; a shorter clip is padded with silence"""
    adaptable: ClassVar[Layers] = {"qkv": (True, False, True)}
    """the layers of queries and values, see `asdcore.encoder.adapters`"""

    def __init__(self, source: Path | None = None) -> None:
        super().__init__(source)
        published = self._published(source)
        self.model = self.read(published).eval().requires_grad_(False)
        self.digest = published.digest(self.also_read)
        self.revision = published.revision
        self._device = torch.device("cpu")

    @classmethod
    def _published(cls, source: Path | None) -> PublishedModel:
        if source is None:
            raise AsdError(f"the encoder {cls.__name__} needs source: the folder of the published model")
        return PublishedModel.find(source, cls.model_type)

    @classmethod
    def check(cls, source: Path | None) -> None:
        """As `FrozenEncoder.check`, of the files alone: whether the weights fit shows when they are read."""
        cls._published(source)

    def read(self, published: PublishedModel) -> nn.Module:
        """The model with its weights, on the CPU.

        Raises:
            AsdError: they are not those of this architecture.
        """
        raise NotImplementedError

    def embedding(self, waveform: NDArray[np.float32]) -> Tensor:
        """(n,) at 16 kHz, at least `shortest`, full scale at 1, to (d,)."""
        raise NotImplementedError

    def embed(self, samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """(n,), full scale at 1, at ``sample_rate`` Hz to the embedding (d,)."""
        with torch.inference_mode():
            embedding: NDArray[np.float32] = self.embedding(self.prepared(samples, sample_rate)).cpu().numpy()
        return embedding

    def prepared(self, samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """What `embedding` takes: at 16 kHz, and not too short."""
        waveform = np.asarray(samples, np.float32)
        if sample_rate != SAMPLE_RATE:
            waveform = soxr.resample(waveform, sample_rate, SAMPLE_RATE).astype(np.float32)
        missing = self.shortest - len(waveform)
        return np.pad(waveform, (0, missing)) if missing > 0 else waveform

    def adapt(self, adapters: Adapters) -> None:
        """Embed with these adapters from now on, at the cost of the model without them.

        Raises:
            AsdError: it has some already, or they are of another model.
        """
        if self.adapters:
            raise AsdError(f"{self.source}: this encoder has adapters already")
        merge(self.model, self.adaptable, adapters)
        self.adapters = adapters

    def on_device(self, values: NDArray[np.float32]) -> Tensor:
        """An input of the model."""
        return torch.from_numpy(values).to(self._device)

    def to(self, device: torch.device) -> Self:
        """Embed on this device from now on."""
        self.model.to(device)
        self._device = device
        return self
