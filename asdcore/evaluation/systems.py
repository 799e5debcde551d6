"""The systems that can be compared: their names, and what each of them needs."""

from dataclasses import dataclass

from asdcore.baselines.autoencoder import Score
from asdcore.errors import AsdError
from asdcore.features.statistics import EYE
from asdcore.normality.models import ESTIMATORS, NormalityModel
from asdcore.normality.neighbours import NeighbourModel
from asdcore.settings import NormalitySettings

Model = NormalityModel | NeighbourModel

SPECTRA = {"spectrum": "mean", "spectrum-deviation": "mean_and_deviation"}
SPECTRUM_SCORER = "spectrum-deviation-tied"
"""the system that is a detector's second scorer"""


@dataclass(frozen=True)
class VectorSystem:
    """A normality model of a vector of each recording. ``name`` is for reports."""

    name: str
    column: str
    """h or z of the encoder, or mean or mean_and_deviation of the spectrogram over time"""
    model: Model
    of_paper: bool = False
    """by an encoder trained with the paper's loss, whatever the settings say"""

    @property
    def needs_encoder(self) -> bool:
        return self.column in ("h", "z")

    @property
    def source(self) -> str:
        """Which of the stores has its vectors."""
        return f"paper {self.column}" if self.of_paper else self.column


@dataclass(frozen=True)
class AutoencoderSystem:
    """The official baseline with one of its two scores."""

    name: str
    score: Score
    per_frame_mean: bool = False


@dataclass(frozen=True)
class BothSystem:
    """The fused p-values of two: what the detector holds of each machine."""

    name: str
    embedding: VectorSystem
    spectrum: VectorSystem
    needs_encoder, of_paper = True, False


NormalitySystem = VectorSystem | BothSystem
System = NormalitySystem | AutoencoderSystem


def every_system(settings: NormalitySettings) -> dict[str, System]:
    """All systems by name."""

    def normality(estimator: str, layer: str) -> NormalityModel:
        model = NormalityModel.of(settings.model_copy(update={"estimator": estimator, "layer": layer}))
        # Cross-fitting costs elliptic five more fits, of minutes each: only where decisions are wanted of it.
        if estimator == "elliptic" and settings.estimator != "elliptic":
            model.set_params(folds=0)
        return model

    systems: list[System] = [
        VectorSystem("paper-ml", "z", normality("ml", "z"), of_paper=True),
        VectorSystem("paper-elliptic", "z", normality("elliptic", "z"), of_paper=True),
        AutoencoderSystem("baseline-mse", "mse"),
        AutoencoderSystem("baseline-mahalanobis", "mahalanobis"),
        AutoencoderSystem("baseline-mahalanobis-frames", "mahalanobis", per_frame_mean=True),
    ]
    for name, column in SPECTRA.items():
        systems.append(VectorSystem(name, column, NormalityModel("ledoit_wolf")))
        systems.append(VectorSystem(f"{name}-ml", column, NormalityModel("ml")))
        systems.append(VectorSystem(f"{name}-tied", column, NormalityModel("tied")))
        systems.append(VectorSystem(f"{name}-nearest", column, NeighbourModel()))
    for estimator in ESTIMATORS:
        systems += [VectorSystem(f"{estimator}-{layer}", layer, normality(estimator, layer)) for layer in ("z", "h")]
    both = detector_system(settings)
    return {system.name: system for system in [*systems, both]}


def detector_system(settings: NormalitySettings) -> BothSystem:
    """The two normality models that a detector has for each machine, whichever its ``scorers`` setting uses."""
    model = NormalityModel.of(settings)
    embedding = VectorSystem(f"{settings.estimator}-{settings.layer}", settings.layer, model)
    return BothSystem("both", embedding, VectorSystem(SPECTRUM_SCORER, EYE, NormalityModel("tied")))


def systems_named(names: list[str], settings: NormalitySettings) -> list[System]:
    """The systems of these names, in their order, each once.

    Raises:
        AsdError: a name that is none, listing those there are; or no name at all.
    """
    known = every_system(settings)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise AsdError(f"no system {', '.join(unknown) or 'named'}; there are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def reported_systems(settings: NormalitySettings) -> list[NormalitySystem]:
    """What a retraining reports: first what the detector judges by, then its scorers, the paper's estimators, and last
    the plainest spectrum statistic.
    """
    known = every_system(settings)
    embedding = f"{settings.estimator}-{settings.layer}"
    first = {"both": "both", "embedding": embedding, "spectrum": SPECTRUM_SCORER}[settings.scorers]
    names = [first, embedding, SPECTRUM_SCORER, f"ml-{settings.layer}", f"elliptic-{settings.layer}", "spectrum"]
    return [system for name in dict.fromkeys(names) if not isinstance(system := known[name], AutoencoderSystem)]
