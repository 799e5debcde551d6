"""The systems that can be compared: their names and requirements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from asdcore.baselines.autoencoder import Score
from asdcore.errors import AsdError
from asdcore.normality.base import NormalityModel, model_class
from asdcore.normality.gaussian import LedoitWolfCovariance, MaximumLikelihood, TiedCovariance
from asdcore.normality.neighbours import NearestNeighbours
from asdcore.normality.references import KMeansCosine, LocalDensity
from asdcore.normality.robust import RobustCovariance
from asdcore.normality.scorers import build_scorers
from asdcore.registry import ENCODERS, NORMALITY_MODELS, SCORERS
from asdcore.settings import TWO_BRANCH, NormalitySettings, TrainingSettings

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
    encoder: str = ""
    """in the registry, without adapters; empty: that of the settings"""

    @property
    def needs_encoder(self) -> bool:
        return self.column in ("h", "z")

    def training(self, settings: TrainingSettings) -> TrainingSettings:
        """The settings of its encoder, given those of the run."""
        if self.of_paper:
            encoder = settings.encoder if settings.trains else "resnet18"
            return settings.model_copy(update={"loss": "nt_xent", "encoder": encoder, "adapter_rank": 0})
        if self.encoder in TWO_BRANCH:
            # Trained for the comparison, even if the settings name the weights of another encoder.
            return settings.model_copy(update={"encoder": self.encoder, "source": None, "adapter_rank": 0})
        # As it is: adapters are those of the encoder of the settings.
        return settings.model_copy(update={"encoder": self.encoder, "adapter_rank": 0}) if self.encoder else settings

    @property
    def source(self) -> str:
        """Which of the stores has its vectors."""
        if not self.needs_encoder:
            return self.column
        return f"{'paper' if self.of_paper else self.encoder} {self.column}".strip()


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


def single_systems(systems: Sequence[NormalitySystem]) -> list[VectorSystem]:
    """These systems and, of a detector, those of its scorers; each once."""
    single: dict[str, VectorSystem] = {}
    for system in systems:
        parts = [part for _, part in system.scorers] if isinstance(system, DetectorSystem) else [system]
        single |= {part.name: part for part in parts}
    return list(single.values())


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
        VectorSystem("wilkinghoff-2024", "h", KMeansCosine(), encoder="two_branch"),
        VectorSystem("wilkinghoff-2025", "h", LocalDensity(), encoder="two_branch"),
        VectorSystem("multi-resolution", "h", KMeansCosine(), encoder="multi_resolution"),
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
    """The systems of these names, in their order, each once. ``ENCODER:SYSTEM`` is a system with another encoder.

    Raises:
        AsdError: an unknown name, listing the known ones; or no name at all.
    """
    known = every_system(settings)
    for name in names:
        if (system := _by_encoder(name, known)) is not None:
            known[name] = system
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise AsdError(
            f"no system {', '.join(unknown) or 'named'}; there are {', '.join(known)}, and ENCODER:SYSTEM for one of "
            f"these with another encoder ({', '.join(ENCODERS.names())})"
        )
    return [known[name] for name in dict.fromkeys(names)]


def _by_encoder(name: str, known: Mapping[str, System]) -> NormalitySystem | None:
    """The system that ``ENCODER:SYSTEM`` names: a known one, with another encoder than that of the settings."""
    encoder, _, rest = name.partition(":")
    system = known.get(rest)
    if encoder not in ENCODERS or isinstance(system, AutoencoderSystem | None) or not system.needs_encoder:
        return None
    if isinstance(system, DetectorSystem):
        parts = tuple((scorer, _of_encoder(part, encoder)) for scorer, part in system.scorers)
        return replace(system, name=name, scorers=parts)
    return None if system.of_paper else _of_encoder(system, encoder)


def _of_encoder(system: VectorSystem, encoder: str) -> VectorSystem:
    return replace(system, name=f"{encoder}:{system.name}", encoder=encoder) if system.needs_encoder else system


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
