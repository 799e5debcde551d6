"""Extension points: encoders, losses, normality models and scorers by name, built in or added by other packages.

A package adds one by an entry point in its ``pyproject.toml``:

    [project.entry-points."asd.normality_models"]
    median = "my_package.median:MedianModel"

Nothing is imported before `Registry.get`: names are known without loading what they stand for.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from asdcore.errors import AsdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from asdcore.encoder.frozen import FrozenEncoder
    from asdcore.encoder.losses import Loss
    from asdcore.encoder.network import Encoder
    from asdcore.normality.base import NormalityModel
    from asdcore.normality.scorers import Scorer

T = TypeVar("T")


class Registry(Generic[T]):
    """Named extension points of one kind.

    Args:
        kind: what they are, for messages.
        group: of the entry points that add to the built-in ones. A built-in name cannot be taken by a package.
        built_in: name: ``module:attribute``.

    >>> NORMALITY_MODELS.names()[:2]
    ['ml', 'elliptic']
    >>> LOSSES.get("nt_xent").__name__
    'NTXent'
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str]) -> None:
        self.kind, self.group, self.built_in = kind, group, dict(built_in)

    def names(self) -> list[str]:
        """The built-in names, then those of installed packages, sorted. Imports nothing."""
        added = {point.name for point in entry_points(group=self.group)}
        return [*self.built_in, *sorted(added - self.built_in.keys())]

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self.names()

    def get(self, name: str) -> T:
        """What a name stands for.

        Raises:
            AsdError: no such name, listing those there are; two packages with the same name; or a package whose entry
                point cannot be loaded.
        """
        if name in self.built_in:
            module, attribute = self.built_in[name].split(":")
            return cast("T", getattr(import_module(module), attribute))
        points = {_package(point): point for point in entry_points(group=self.group, name=name)}
        if not points:
            raise AsdError(f"{self.kind} {name!r} is none of {', '.join(self.names())}")
        if len(points) > 1:
            raise AsdError(f"{self.kind} {name!r} is offered by {' and '.join(sorted(points))}: uninstall one of them")
        ((package, point),) = points.items()
        try:
            return cast("T", point.load())
        except Exception as error:
            raise AsdError(
                f"{self.kind} {name!r} of the package {package} cannot be loaded ({point.value}: {error!r}): "
                "update or uninstall that package"
            ) from error

    def check(self, name: str) -> str:
        """``name``, for a validator of settings.

        Raises:
            ValueError: no such name, listing those there are.
        """
        if name not in self:
            raise ValueError(f"{self.kind} {name!r} is none of {', '.join(self.names())}")
        return name

    def schema(self, schema: dict[str, Any]) -> None:
        """Put the names into the JSON schema of a settings field, so that forms offer them."""
        target = schema["items"] if schema.get("type") == "array" else schema
        target["enum"] = self.names()


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"


ENCODERS: "Registry[Callable[[int], Encoder] | type[FrozenEncoder]]" = Registry(
    "encoder",
    "asd.encoders",
    {
        "base": "asdcore.encoder.base:base_encoder",
        "resnet18": "asdcore.encoder.network:resnet18",
        "resnet50": "asdcore.encoder.network:resnet50",
        "embeddings": "asdcore.encoder.precomputed:PrecomputedEmbeddings",
        "ast": "asdcore.encoder.pretrained.ast:AST",
        "ced": "asdcore.encoder.pretrained.ced:CED",
        "dasheng": "asdcore.encoder.pretrained.dasheng:Dasheng",
        "beats": "asdcore.encoder.pretrained.beats:BEATs",
        "eat": "asdcore.encoder.pretrained.eat:EAT",
        "two_branch": "asdcore.baselines.two_branch:TwoBranchEncoder",
        "multi_resolution": "asdcore.baselines.two_branch:TwoBranchEncoder",
    },
)
"""Each makes an untrained `Encoder` whose z has the given number of values, or is a `FrozenEncoder`."""

LOSSES: "Registry[type[Loss]]" = Registry(
    "loss",
    "asd.losses",
    {
        "nt_xent": "asdcore.encoder.losses:NTXent",
        "supervised_contrastive": "asdcore.encoder.losses:SupervisedContrastive",
        "discriminative": "asdcore.encoder.losses:Discriminative",
        "combined": "asdcore.encoder.losses:Combined",
    },
)

NORMALITY_MODELS: "Registry[type[NormalityModel]]" = Registry(
    "normality model",
    "asd.normality_models",
    {
        "ml": "asdcore.normality.gaussian:MaximumLikelihood",
        "elliptic": "asdcore.normality.robust:RobustCovariance",
        "ledoit_wolf": "asdcore.normality.gaussian:LedoitWolfCovariance",
        "tied": "asdcore.normality.gaussian:TiedCovariance",
        "knn": "asdcore.normality.neighbours:NearestNeighbours",
        "standardised_knn": "asdcore.normality.neighbours:StandardisedNeighbours",
        "kmeans_cosine": "asdcore.normality.references:KMeansCosine",
        "local_density": "asdcore.normality.references:LocalDensity",
        "smote_knn": "asdcore.normality.references:SmoteNeighbours",
        "memory_mixup": "asdcore.normality.memory_mixup:MemoryMixup",
    },
)

SCORERS: "Registry[type[Scorer]]" = Registry(
    "scorer",
    "asd.scorers",
    {
        "spectrum": "asdcore.normality.scorers:SpectrumScorer",
        "change": "asdcore.normality.scorers:ChangeScorer",
        "spectrum_deviation": "asdcore.normality.scorers:SpectrumDeviationScorer",
        "embedding": "asdcore.normality.scorers:EmbeddingScorer",
    },
)
