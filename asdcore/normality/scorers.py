"""Scorers: what a machine is judged by, a feature of each recording and a normality model of it.

A scorer is a subclass of `Scorer` with a ``name``, `feature` and `model`:

    class PeakScorer(Scorer):
        name = "peak"

        def feature(self, spectrogram, embedding):
            return spectrogram.max(axis=1)

        def model(self):
            return StandardisedNeighbours()

Registered in the entry point group ``asd.scorers`` (see `asdcore.registry`) it can be named in the settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.explanation.profile import Trait
from asdcore.features.spectrogram import Spectrogram
from asdcore.features.statistics import mean_and_deviation, mean_change, mean_spectrum
from asdcore.normality.base import NormalityModel, build_model
from asdcore.normality.gaussian import LedoitWolfCovariance, TiedCovariance
from asdcore.normality.neighbours import StandardisedNeighbours
from asdcore.registry import SCORERS
from asdcore.settings import NormalitySettings

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Embedding:
    """What the encoder makes of a recording."""

    h: Vector
    """(h_size,), the output of the encoder"""
    z: Vector
    """(z_size,), that of the projection head"""


class Scorer:
    """A feature of a recording, and what is normal for it.

    Args:
        settings: see `NormalitySettings`.
    """

    name: ClassVar[str]
    """in the registry"""
    needs_encoder: ClassVar[bool] = False
    """whether `feature` is given an embedding"""
    traits: ClassVar[tuple[Trait, ...]] = ()
    """what of an explanation shows what it finds, the trait that it measures first; none: it cannot be located in the
    spectrum"""

    def __init__(self, settings: NormalitySettings) -> None:
        self.settings = settings

    @property
    def column(self) -> str:
        """The name that the feature is stored by."""
        return self.name

    def feature(self, spectrogram: Spectrogram, embedding: Embedding | None) -> Vector:
        """(p,) from a log-mel spectrogram (n_mels, n_frames), dB, and its embedding if the scorer needs it."""
        raise NotImplementedError

    def model(self) -> NormalityModel:
        """The unfitted normality model of the feature."""
        raise NotImplementedError


class EmbeddingScorer(Scorer):
    """h or z of the encoder, by the normality model that the settings name."""

    name: ClassVar[str] = "embedding"
    needs_encoder: ClassVar[bool] = True

    @property
    def column(self) -> str:
        return self.settings.layer

    def feature(self, spectrogram: Spectrogram, embedding: Embedding | None) -> Vector:
        if embedding is None:
            raise AsdError("the scorer embedding needs the embedding of a recording, which only an encoder makes")
        return embedding.h if self.settings.layer == "h" else embedding.z

    def model(self) -> NormalityModel:
        return build_model(self.settings)


class SpectrumScorer(Scorer):
    """The mean spectrum: how loud each band is."""

    name: ClassVar[str] = "spectrum"
    traits: ClassVar[tuple[Trait, ...]] = ("level",)

    @property
    def column(self) -> str:
        return "mean"

    def feature(self, spectrogram: Spectrogram, embedding: Embedding | None) -> Vector:
        return mean_spectrum(spectrogram)

    def model(self) -> NormalityModel:
        return LedoitWolfCovariance()


class ChangeScorer(Scorer):
    """The mean change from frame to frame: how steady each band is."""

    name: ClassVar[str] = "change"
    traits: ClassVar[tuple[Trait, ...]] = ("change", "swing", "peak", "dip")

    def feature(self, spectrogram: Spectrogram, embedding: Embedding | None) -> Vector:
        return mean_change(spectrogram)

    def model(self) -> NormalityModel:
        return StandardisedNeighbours()


class SpectrumDeviationScorer(Scorer):
    """Mean and standard deviation over time of each band in one vector."""

    name: ClassVar[str] = "spectrum_deviation"
    traits: ClassVar[tuple[Trait, ...]] = ("level", "swing", "peak", "dip")

    @property
    def column(self) -> str:
        return "mean_and_deviation"

    def feature(self, spectrogram: Spectrogram, embedding: Embedding | None) -> Vector:
        return mean_and_deviation(spectrogram)

    def model(self) -> NormalityModel:
        return TiedCovariance()


def build_scorers(settings: NormalitySettings) -> dict[str, Scorer]:
    """The scorers that the settings name, in their order.

    Raises:
        AsdError: the package that adds one cannot be loaded.
    """
    return {name: SCORERS.get(name)(settings) for name in settings.scorers}


def features_of(scorers: Sequence[Scorer], spectrogram: Spectrogram, embedding: Embedding | None) -> dict[str, Vector]:
    """The feature of one recording by the name of each scorer: (p,)."""
    return {scorer.name: scorer.feature(spectrogram, embedding) for scorer in scorers}
