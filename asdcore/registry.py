"""Extension points: encoders, losses, normality models, scorers and simulated faults by name, built in or added.

A package adds one by an entry point in its ``pyproject.toml``:

    [project.entry-points."asd.normality_models"]
    median = "my_package.median:MedianModel"

A notebook adds one for itself, without a package: `Registry.register`.

Nothing is imported before `Registry.get`: names are known without loading what they stand for.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from asdcore.errors import AsdError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from asdcore.encoder.frozen import FrozenEncoder
    from asdcore.encoder.losses import Loss
    from asdcore.encoder.network import Encoder
    from asdcore.normality.base import NormalityModel
    from asdcore.normality.scorers import Scorer

T = TypeVar("T")
Added = TypeVar("Added")


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
        self._of_this_process: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[Added], Added]:
        """A decorator that adds a class or a function in this process only, as a notebook needs it.

        A cell that is run again replaces what it added before. Other processes do not know the name: commands, served
        detectors and trainings on several GPUs need a package with an entry point.

        Raises:
            AsdError: the name is built in, or of an installed package.

        >>> models = Registry("normality model", "asd.normality_models", {})
        >>> @models.register("mine")
        ... class Mine: ...
        >>> models.names(), models.get("mine").__name__
        (['mine'], 'Mine')
        """
        packages = sorted(_package(point) for point in entry_points(group=self.group, name=name))
        if name in self.built_in or packages:
            owner = "built in" if name in self.built_in else f"of the package {' and '.join(packages)}"
            raise AsdError(f"{self.kind} {name!r} is {owner}: choose another name")

        def add(what: Added) -> Added:
            self._of_this_process[name] = what
            return what

        return add

    def names(self) -> list[str]:
        """The built-in names, then those of installed packages and of this process, sorted. Imports nothing."""
        added = {point.name for point in entry_points(group=self.group)} | self._of_this_process.keys()
        return [*self.built_in, *sorted(added - self.built_in.keys())]

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self._of_this_process or name in self.names()

    def get(self, name: str) -> T:
        """What a name stands for.

        Raises:
            AsdError: no such name, listing those there are; two packages with the same name; or a package whose entry
                point cannot be loaded.
        """
        if name in self.built_in:
            module, attribute = self.built_in[name].split(":")
            return cast("T", getattr(import_module(module), attribute))
        if name in self._of_this_process:
            return cast("T", self._of_this_process[name])
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

FAULTS: "Registry[Callable[..., NDArray[Any]]]" = Registry(
    "fault",
    "asd.faults",
    dict.fromkeys(("tonal", "modulated", "impulsive", "broadband", "missing"), "asdcore.datasets.machines:with_fault"),
)
"""Of simulated machines. The built-in ones know the parts of a machine; one that is added is a function of its sound,
see `asdcore.datasets.faults`."""
