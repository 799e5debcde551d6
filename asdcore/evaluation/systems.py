"""The systems that can be compared: their names and requirements."""

from dataclasses import dataclass

from asdcore.baselines.autoencoder import Score
from asdcore.errors import AsdError
from asdcore.normality.base import NormalityModel, model_class
from asdcore.normality.gaussian import LedoitWolfCovariance, MaximumLikelihood, TiedCovariance
from asdcore.normality.neighbours import NearestNeighbours
from asdcore.normality.robust import RobustCovariance
from asdcore.normality.scorers import build_scorers
from asdcore.registry import NORMALITY_MODELS, SCORERS
from asdcore.settings import NormalitySettings

SPECTRA = {"spectrum": "mean", "spectrum-deviation": "mean_and_deviation"}
DETECTOR = "detector"
"""the system of a detector's verdicts"""


@dataclass(frozen=True)
class VectorSystem:
    """A normality model of a vector of each recording. ``name`` is for reports."""

    name: str
    column: str
    """of the store: h or z of the encoder, or a statistic of the spectrogram, see `Scorer.column`"""
    model: NormalityModel
    of_paper: bool = False
    """by an encoder trained with the paper's loss, regardless of the settings"""

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
class DetectorSystem:
    """The fused score of the scorers: the detector's model of each machine."""

    name: str
    scorers: tuple[tuple[str, VectorSystem], ...]
    """name of the scorer, and the system of the scorer alone"""
    of_paper = False

    @property
    def needs_encoder(self) -> bool:
        return any(system.needs_encoder for _, system in self.scorers)


NormalitySystem = VectorSystem | DetectorSystem
System = NormalitySystem | AutoencoderSystem


def every_system(settings: NormalitySettings) -> dict[str, System]:
    """All systems by name."""

    def normality(estimator: str, layer: str) -> NormalityModel:
        # A copy that is validated: layer and estimator are known names.
        changed = NormalitySettings.model_validate({**settings.model_dump(), "estimator": estimator, "layer": layer})
        model = model_class(estimator).of(changed)
        # Cross-fitting costs elliptic five more fits of minutes each: only if it makes the decisions.
        if isinstance(model, RobustCovariance) and settings.estimator != estimator:
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
        systems.append(VectorSystem(name, column, LedoitWolfCovariance()))
        systems.append(VectorSystem(f"{name}-ml", column, MaximumLikelihood()))
        systems.append(VectorSystem(f"{name}-tied", column, TiedCovariance()))
        systems.append(VectorSystem(f"{name}-nearest", column, NearestNeighbours()))
    for estimator in dict.fromkeys([*NORMALITY_MODELS.built_in, settings.estimator]):
        systems += [VectorSystem(f"{estimator}-{layer}", layer, normality(estimator, layer)) for layer in ("z", "h")]
    named = tuple(dict.fromkeys([*settings.scorers, *SCORERS.built_in]))
    every_scorer = settings.model_copy(update={"scorers": named})
    systems += [system for _, system in detector_system(every_scorer).scorers]
    return {system.name: system for system in [*systems, detector_system(settings)]}


def detector_system(settings: NormalitySettings) -> DetectorSystem:
    """The normality models that a detector has for each machine, one for each scorer."""
    names = {"embedding": f"{settings.estimator}-{settings.layer}", "spectrum_deviation": "spectrum-deviation-tied"}
    scorers = {
        name: VectorSystem(names.get(name, name), scorer.column, scorer.model())
        for name, scorer in build_scorers(settings).items()
    }
    return DetectorSystem(DETECTOR, tuple(scorers.items()))


def systems_named(names: list[str], settings: NormalitySettings) -> list[System]:
    """The systems of these names, in their order, each once.

    Raises:
        AsdError: an unknown name, listing the known ones; or no name at all.
    """
    known = every_system(settings)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise AsdError(f"no system {', '.join(unknown) or 'named'}; there are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def reported_systems(settings: NormalitySettings, trained: bool = True) -> list[NormalitySystem]:
    """The systems that a retraining reports: the detector, its scorers, the embedding alone, the paper's estimators of
    it, and the simplest spectrum statistic.

    The paper's estimators are left out where the encoder was not ``trained`` on the recordings: they say something of
    the paper's network, and a covariance of the many values of the base encoder is expensive.
    """
    known = every_system(settings)
    scorers = [system.name for _, system in detector_system(settings).scorers]
    first = [DETECTOR] if len(scorers) > 1 else []
    embedding = f"{settings.estimator}-{settings.layer}"
    of_paper = [f"{estimator}-{settings.layer}" for estimator in ("ml", "elliptic")] if trained else []
    names = [*first, *scorers, embedding, *of_paper, "spectrum"]
    return [system for name in dict.fromkeys(names) if not isinstance(system := known[name], AutoencoderSystem)]
