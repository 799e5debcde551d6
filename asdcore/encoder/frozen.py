"""Frozen encoders: waveforms to embeddings by a model that is used as it is; adapters may be trained for it.

To add one, write a class with `FrozenEncoder.embed` and register it in the entry point group ``asd.encoders``:

    class Loudness(FrozenEncoder):
        def embed(self, samples, sample_rate):
            return np.array([samples.std(), np.abs(samples).max()], np.float32)

A detector does not copy its weights: it stores where they are (`FrozenEncoder.source`) and their digest, and adapters.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from asdcore.encoder.adapters import Adapters
from asdcore.encoder.network import TrainedEncoder
from asdcore.errors import AsdError
from asdcore.recordings.audio import BadRecording, decode
from asdcore.recordings.clips import Clip, clip_named
from asdcore.registry import ENCODERS
from asdcore.settings import RecordingSettings
from asdcore.storage.files import atomic_write

_METADATA = "frozen"
OF_NO_FILE = Clip("")
"""samples that are of no recording"""


@dataclass(frozen=True)
class Sound:
    """A clip, as a frozen encoder is given it."""

    samples: NDArray[np.float32]
    """(n,), full scale at 1"""
    sample_rate: int
    """Hz"""
    clip: Clip = OF_NO_FILE
    """which one it is"""
    path: Path | None = None


def sound_of(name: str, path: Path, settings: RecordingSettings) -> Sound:
    """The clip of this name, decoded from the file of its recording.

    Raises:
        AsdError: the file is gone, or can no longer be used.
    """
    clip = clip_named(name)
    try:
        return Sound(decode(path, settings, clip).samples, settings.sample_rate, clip, path)
    except (OSError, BadRecording) as error:
        raise AsdError(
            f"{path}: an encoder that embeds waveforms needs the file, but it can no longer be used ({error}); bring "
            "it back, or `asd forget` it"
        ) from error


class FrozenEncoder:
    """Base class of encoders that are not trained: waveforms to embeddings. Subclasses define `embed`.

    It is given a whole clip at the sample rate of the settings; an encoder that needs another rate or length resamples
    and cuts it.

    Args:
        source: file or folder that it reads, such as the weights of a published model; None: it needs none.

    Raises:
        AsdError: it cannot be read, with the reason and the remedy.
    """

    architecture: str = ""
    """its name in the registry"""
    trains: ClassVar[bool] = False
    digest: str = ""
    """of what was read from the source; with other content it is another encoder"""
    revision: str = ""
    """of the published model; empty: unknown"""
    adapters: Adapters | None = None
    """which were trained for it"""

    def __init__(self, source: Path | None = None) -> None:
        self.source = source

    @classmethod
    def check(cls, source: Path | None) -> None:
        """Refuse, before any work starts, a source that cannot be read. Subclasses may check less to be faster.

        Raises:
            AsdError: as the class.
        """
        cls(source)

    def embed(self, samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """(n,), full scale at 1, at ``sample_rate`` Hz to the embedding (d,)."""
        raise NotImplementedError

    def embedding_of(self, sound: Sound) -> NDArray[np.float32]:
        """The embedding (d,) of a clip.

        Raises:
            BadRecording: there is none of this clip.
        """
        return self.embed(sound.samples, sound.sample_rate)

    def to(self, device: torch.device) -> Self:
        """Embed on this device from now on, if it makes a difference."""
        return self

    def same_as(self, digest: str) -> bool:
        """Whether this is the encoder that had this digest."""
        return self.digest == digest

    def adapt(self, adapters: Adapters) -> None:
        """Embed with these adapters from now on.

        Raises:
            AsdError: they are of another model, or this encoder can have none.
        """
        raise AsdError(f"the encoder {self.architecture} cannot be fine-tuned by adapters")

    @property
    def history(self) -> list[dict[str, float]]:
        """The metrics of the training, as of a `TrainedEncoder`: that of its adapters."""
        return [dict(epoch) for epoch in self.adapters.history] if self.adapters else []

    def save(self, path: Path) -> None:
        """Write a safetensors file atomically: name, source, digest and revision; its tensors are the adapters."""
        about: dict[str, Any] = {
            "architecture": self.architecture,
            "source": str(self.source) if self.source else None,
            "digest": self.digest,
            "revision": self.revision,
        }
        tensors = {}
        if self.adapters:
            about["adapters"] = {"rank": self.adapters.rank, "alpha": self.adapters.alpha, "history": self.history}
            tensors = dict(self.adapters.weights)
        with atomic_write(path) as temporary:
            save_file(tensors, temporary, {_METADATA: json.dumps(about)})


AnyEncoder = TrainedEncoder | FrozenEncoder


def build_frozen(name: str, source: str | Path | None) -> FrozenEncoder:
    """The frozen encoder of that name.

    Args:
        name: one of ``ENCODERS.names()``.
        source: what it reads, see `FrozenEncoder`.

    Raises:
        AsdError: the name is unknown or of an encoder that is trained, or the source cannot be read.
    """
    encoder = _frozen_class(name)(_place_of(source))
    encoder.architecture = name
    return encoder


def check_source(name: str, source: str | Path | None) -> None:
    """Refuse a source that the frozen encoder of that name cannot read, without reading all of it.

    Raises:
        AsdError: as `build_frozen`.
    """
    _frozen_class(name).check(_place_of(source))


def check_saved(path: Path) -> None:
    """Refuse what `FrozenEncoder.save` wrote if its source is gone, without reading all of it.

    Raises:
        AsdError: as `load_encoder`; a source whose content has changed goes unnoticed.
    """
    if about := _about_frozen(path):
        check_source(about["architecture"], about["source"])


def _frozen_class(name: str) -> type[FrozenEncoder]:
    kind = ENCODERS.get(name)
    if not (isinstance(kind, type) and issubclass(kind, FrozenEncoder)):
        raise AsdError(f"encoder {name!r} is not a frozen one: it is trained")
    return kind


def _place_of(source: str | Path | None) -> Path | None:
    return Path(source).expanduser().resolve() if source else None


def training_history(path: Path) -> list[dict[str, float]]:
    """The metrics of each epoch of an encoder that was saved; of a frozen one, which is not loaded, of its adapters.

    Raises:
        AsdError: no such file, or it is damaged.
    """
    if about := _about_frozen(path):
        return list(about.get("adapters", {}).get("history", []))
    return TrainedEncoder.load(path).history


def load_encoder(path: Path) -> AnyEncoder:
    """Read what `TrainedEncoder.save` or `FrozenEncoder.save` wrote, on the CPU, ready to embed.

    Raises:
        AsdError: no such file, or it is damaged; or the source of a frozen encoder is gone or has changed.
    """
    about = _about_frozen(path)
    if not about:
        return TrainedEncoder.load(path)
    encoder = build_frozen(about["architecture"], about["source"])
    if not encoder.same_as(about["digest"]):
        raise AsdError(
            f"{encoder.source}: its content is no longer that of the encoder {encoder.architecture!r} of {path} "
            f"(digest {about['digest'][:16]}, now {encoder.digest[:16]}): put the former content back, or retrain"
        )
    if "adapters" in about:
        encoder.adapt(Adapters(load_file(path), **about["adapters"]))
    return encoder


def _about_frozen(path: Path) -> dict[str, Any]:
    """What `FrozenEncoder.save` wrote; nothing if it is of another encoder, or cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):
        return {}
    return json.loads(metadata[_METADATA]) if _METADATA in metadata else {}


def checked(encoder: FrozenEncoder, sound: Sound) -> NDArray[np.float32]:
    """`FrozenEncoder.embedding_of`, as float32.

    Raises:
        BadRecording: there is none, or it has a value that is not finite.
        AsdError: it is no vector.
    """
    vector = np.asarray(encoder.embedding_of(sound), dtype=np.float32)
    if vector.ndim != 1 or not vector.size:
        raise AsdError(f"encoder {encoder.architecture!r} gives an array of shape {vector.shape}, not (d,)")
    if not np.isfinite(vector).all():
        raise BadRecording(f"encoder {encoder.architecture!r} gives an embedding that is not finite")
    return vector
