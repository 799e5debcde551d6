"""Normality models: fit on embeddings of normal recordings; squared Mahalanobis distance of any one (paper 2.2)."""

import warnings
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.covariance import EllipticEnvelope, EmpiricalCovariance, LedoitWolf
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_is_fitted

from asdcore.errors import AsdError
from asdcore.settings import NormalitySettings

Estimator = Literal["ml", "elliptic", "ledoit_wolf"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FitReport:
    """What a fit was made of, and whether to trust it."""

    asked: Estimator
    used: Estimator
    n: int
    """recordings"""
    p: int
    """values an embedding"""
    rank: int
    """of the centred embeddings; below p, some directions have not been seen at all"""
    condition: float
    """largest by smallest variance among the directions that have been seen"""
    note: str
    """why something else than asked was used; empty if it was not"""

    @property
    def n_over_p(self) -> float:
        return self.n / self.p


class NormalityModel(BaseEstimator):  # type: ignore[misc]
    """Mean and precision matrix of normal embeddings, estimated in one of three ways.

    Args:
        estimator: ``ml``: scikit-learn's EmpiricalCovariance, the paper's best; ``elliptic``: its EllipticEnvelope, the
            paper's second; ``ledoit_wolf``: shrinkage, which needs no more recordings than values.
        components: principal components kept before ``elliptic``; None keeps all. What lies outside them is not seen.
        insist: do not fall back to ``ledoit_wolf`` where there are too few recordings for the other two.
        seed: random state of ``elliptic``.

    Fitted: ``location_`` (p,), ``precision_`` (p, p), ``report_``.

    >>> rng = np.random.default_rng(0)
    >>> model = NormalityModel("ledoit_wolf").fit(rng.normal(size=(50, 4)))
    >>> bool(model.distance(np.full((1, 4), 9.0))[0] > model.distance(np.zeros((1, 4)))[0])
    True
    """

    def __init__(
        self,
        estimator: Estimator = "ml",
        components: int | None = None,
        insist: bool = False,
        seed: int = 0,
    ) -> None:
        self.estimator = estimator
        self.components = components
        self.insist = insist
        self.seed = seed

    @classmethod
    def of(cls, settings: NormalitySettings) -> "NormalityModel":
        return cls(settings.estimator, settings.elliptic_components, settings.insist, settings.seed)

    def fit(self, X: NDArray[np.floating], y: object = None) -> Self:
        """Fit on (n, p) embeddings, one row a normal recording.

        Raises:
            AsdError: fewer than 2 rows, values that are not finite, or rows that are all the same.
        """
        X = checked(X)
        if len(X) < 2:
            raise AsdError(f"{len(X)} recording: a normality model needs at least 2")
        variances = np.square(np.linalg.svd(X - X.mean(axis=0), compute_uv=False))
        seen = variances[variances > variances.max() * max(X.shape) * np.finfo(np.float64).eps]
        # Embeddings are float32: rows that differ by less than its rounding are the same.
        if np.sqrt(variances.sum()) <= np.finfo(np.float32).eps * np.linalg.norm(X):
            raise AsdError(
                f"all {len(X)} embeddings are the same: the representation has collapsed; retrain the encoder"
            )
        p = X.shape[1]
        if self.estimator == "elliptic" and self.components and self.components < min(X.shape):
            p = self.components
        used, note = self._choose(len(X), p, min(len(seen), p))
        model = self._estimators()[used]
        if used == "elliptic" and p < X.shape[1]:
            axes = PCA(p, random_state=self.seed).fit(X).components_
            model.fit(X @ axes.T)
            # The same distances, written in the values of an embedding: axes is orthonormal.
            self.location_: Floats = model.location_ @ axes
            self.precision_: Floats = axes.T @ model.get_precision() @ axes
        else:
            self.location_, self.precision_ = model.fit(X).location_, model.get_precision()
        self.report_ = FitReport(self.estimator, used, len(X), X.shape[1], len(seen), float(seen[0] / seen[-1]), note)
        return self

    def distance(self, X: NDArray[np.floating]) -> Floats:
        """The squared Mahalanobis distance of each row of (n, p) from what is normal: (n,), higher: more anomalous."""
        check_is_fitted(self)
        X = checked(X)
        if X.shape[1] != len(self.location_):
            raise AsdError(f"embeddings of {X.shape[1]} values; this model was fitted on {len(self.location_)}")
        # Row by row: in a product of all at once the last digits of a row hang on how many there are.
        return np.array([row @ self.precision_ @ row for row in X - self.location_], dtype=np.float64)

    def _choose(self, n: int, p: int, rank: int) -> tuple[Estimator, str]:
        """The estimator to use, and the reason if it is not the one that was asked for."""
        needs = {"ml": p + 1, "elliptic": 2 * p + 1, "ledoit_wolf": 2}[self.estimator]
        enough = n >= needs and (rank == p or self.estimator == "ledoit_wolf")
        if enough or self.insist:
            return self.estimator, ""
        reason = f"{n} recordings of {p} values" if n < needs else f"the embeddings span {rank} of {p} directions"
        return (
            "ledoit_wolf",
            f"{reason}: {self.estimator} would miss what lies outside the training span; ledoit_wolf used",
        )

    def _estimators(self) -> dict[Estimator, Any]:
        return {
            "ml": EmpiricalCovariance(),
            "elliptic": _QuietEllipticEnvelope(random_state=self.seed),
            "ledoit_wolf": LedoitWolf(),
        }

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything fitted, as arrays without objects, for an npz file."""
        check_is_fitted(self)
        report = {f"report.{name}": np.array(value) for name, value in asdict(self.report_).items()}
        parameters = {
            "components": -1 if self.components is None else self.components,
            "insist": self.insist,
            "seed": self.seed,
        }
        return {
            "location": self.location_,
            "precision": self.precision_,
            **{f"parameter.{name}": np.array(value) for name, value in parameters.items()},
            **report,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "NormalityModel":
        """The fitted model that `to_arrays` described."""
        fields = ("asked", "used", "n", "p", "rank", "condition", "note")
        report = FitReport(**{name: arrays[f"report.{name}"].item() for name in fields})
        components, insist, seed = (arrays[f"parameter.{name}"].item() for name in ("components", "insist", "seed"))
        model = cls(report.asked, None if components < 0 else components, insist, seed)
        model.location_, model.precision_, model.report_ = arrays["location"], arrays["precision"], report
        return model


class _QuietEllipticEnvelope(EllipticEnvelope):  # type: ignore[misc]
    """Without the warnings of its many small fits: rank and condition are in the report."""

    def fit(self, X: Floats, y: object = None) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().fit(X)
        return self


def checked(embeddings: NDArray[np.floating]) -> Floats:
    """(n, p) as float64; AsdError for another shape and for values that are not finite."""
    X: Floats = np.asarray(embeddings, dtype=np.float64, order="C")
    if X.ndim != 2:
        raise AsdError(f"embeddings must be (n, p), got the shape {X.shape}")
    if not np.isfinite(X).all():
        raise AsdError(f"{np.count_nonzero(~np.isfinite(X).all(axis=1))} of {len(X)} embeddings hold NaN or infinity")
    return X
