"""Normality models: fit on embeddings of normal recordings; squared distance of any one from them (paper 2.2)."""

import warnings
from dataclasses import asdict, fields
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import pinvh
from sklearn.base import BaseEstimator
from sklearn.covariance import EllipticEnvelope, EmpiricalCovariance, LedoitWolf
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted

from asdcore.errors import AsdError
from asdcore.normality.embeddings import (
    Arrays,
    BadEmbeddings,
    FitReport,
    Floats,
    checked,
    collapsed,
    condition_of,
    same_size,
    seen_variances,
)
from asdcore.normality.leave_out import (
    domain_means,
    domain_weights,
    leave_one_out,
    leave_one_out_pseudo_inverse,
)
from asdcore.normality.neighbours import KIND as NEIGHBOURS
from asdcore.normality.neighbours import NeighbourModel
from asdcore.progress import progress
from asdcore.settings import NormalitySettings

__all__ = ["ESTIMATORS", "Estimator", "FitReport", "NormalityModel", "checked", "model_from_arrays"]

Estimator = Literal["ml", "elliptic", "ledoit_wolf", "tied", "knn"]
ESTIMATORS: tuple[Estimator, ...] = ("ml", "elliptic", "ledoit_wolf", "tied", "knn")

KIND = "normality"
MOST_COMPONENTS = 128
"""of ``elliptic`` on h where the settings name none: as many as z has values, so that it takes no longer"""
_ENOUGH_FOR_TIED = 2
"""recordings a value from which the pooled covariance is not shrunk: below, its inverse is mostly noise"""
_PARAMETERS = ("components", "force_estimator", "seed", "neighbours", "folds")


class NormalityModel(BaseEstimator):  # type: ignore[misc]
    """What is normal for one machine, estimated in one of five ways.

    Args:
        estimator: ``ml``: scikit-learn's EmpiricalCovariance, the paper's best; ``elliptic``: its EllipticEnvelope, the
            paper's second; ``ledoit_wolf``: shrinkage, which needs no more recordings than values; ``tied``: one
            covariance for all domains, each with its own mean, and the distance from the nearest of them; ``knn``: the
            nearest normal recordings, see `NeighbourModel`.
        components: principal components kept before ``elliptic``; None keeps all. What lies outside them is not seen.
        force_estimator: no fallback to ``ledoit_wolf`` where there are too few recordings for ``ml`` or ``elliptic``.
        seed: random state of ``elliptic`` and of its folds.
        neighbours: of ``knn``.
        folds: of the cross-fitting that stands in for leaving one out with ``elliptic``, each as dear as the fit;
            0: none.

    Fitted: ``leave_one_out_`` (n,): squared distance of each training row from the model of the others, in their order
    (of ``elliptic`` with no folds there is none); ``report_``; ``n_features_in_``; but for ``knn``, ``location_`` (p,)
    and ``precision_`` (p, p); for ``tied``, ``domains_`` (k,) names, ``counts_`` (k,) and ``locations_`` (k, p).

    >>> rng = np.random.default_rng(0)
    >>> model = NormalityModel("ledoit_wolf").fit(rng.normal(size=(50, 4)))
    >>> bool(model.distance(np.full((1, 4), 9.0))[0] > model.leave_one_out_.max())
    True
    """

    def __init__(
        self,
        estimator: Estimator = "ml",
        components: int | None = None,
        force_estimator: bool = False,
        seed: int = 0,
        neighbours: int = 1,
        folds: int = 5,
    ) -> None:
        self.estimator = estimator
        self.components = components
        self.force_estimator = force_estimator
        self.seed = seed
        self.neighbours = neighbours
        self.folds = folds

    @classmethod
    def of(cls, settings: NormalitySettings) -> "NormalityModel":
        """The unfitted model that settings describe."""
        wide = settings.estimator == "elliptic" and settings.layer == "h"
        components = settings.elliptic_components or (MOST_COMPONENTS if wide else None)
        return cls(settings.estimator, components, settings.force_estimator, settings.seed)

    def fit(self, X: NDArray[np.floating], y: object = None, *, domains: ArrayLike | None = None) -> Self:
        """Fit on embeddings of normal recordings.

        Args:
            X: (n, p), one row a recording, n at least 2.
            y: ignored.
            domains: (n,) a name each, for ``tied``; None: all of one. The others take no notice of them.

        Raises:
            AsdError: no such estimator, fewer than 2 rows, values that are not finite, rows that are all the same, or
                another number of domains than of rows.
        """
        if self.estimator not in ESTIMATORS:
            raise AsdError(f"estimator {self.estimator!r} is none of {', '.join(ESTIMATORS)}")
        X = checked(X)
        n, p = X.shape
        if n < 2:
            raise BadEmbeddings(
                f"{n} recording: a normality model needs at least 2. {n} sample(s): a minimum of 2 is required"
            )
        if collapsed(X):
            raise BadEmbeddings(
                f"all {n} embeddings are the same: the representation has collapsed; retrain the encoder"
            )
        seen = seen_variances(X)
        size = p
        if self.estimator == "elliptic" and self.components and self.components < min(X.shape):
            size = self.components
        used, note = self._choose(n, size, min(len(seen), size))
        self.n_features_in_ = p
        shrinkage, of_domains = 0.0, 1
        for name in ("leave_one_out_", "neighbour_model_", "domains_", "counts_", "locations_"):
            self.__dict__.pop(name, None)
        if used == "knn":
            self.neighbour_model_ = NeighbourModel(self.neighbours).fit(X)
            self.leave_one_out_: Floats = self.neighbour_model_.leave_one_out_
        elif used == "tied":
            shrinkage = self._fit_tied(X, _indexed(domains, n))
            of_domains = len(self.domains_)
        elif used == "elliptic":
            self._fit_elliptic(X, size)
        else:
            model = LedoitWolf().fit(X) if used == "ledoit_wolf" else EmpiricalCovariance().fit(X)
            self.location_, self.precision_ = model.location_, model.get_precision()
            shrinkage = float(getattr(model, "shrinkage_", 0.0))
            blind = used == "ml" and len(seen) < p
            self.leave_one_out_ = leave_one_out_pseudo_inverse(X) if blind else leave_one_out(X, shrinkage)
        condition = condition_of(seen)
        self.report_ = FitReport(self.estimator, used, n, p, len(seen), condition, note, shrinkage, of_domains)
        return self

    def distance(self, X: NDArray[np.floating]) -> Floats:
        """The squared distance of each row from what is normal.

        Args:
            X: (m, p). A row gets the same distance to the last bit alone and among others, whatever its domain.

        Returns:
            (m,), higher is more anomalous: squared Mahalanobis distance; squared Euclidean for ``knn``.

        Raises:
            AsdError: values that are not finite, or another p than that of the fit.
        """
        check_is_fitted(self)
        X = checked(X)
        same_size(X, self.n_features_in_)
        if self.report_.used == "knn":
            return self.neighbour_model_.distance(X)
        # Row by row: in a product of all at once the last digits of a row hang on how many there are.
        if self.report_.used != "tied":
            return np.array([row @ self.precision_ @ row for row in X - self.location_], dtype=np.float64)
        each = [
            [weight * (row @ self.precision_ @ row) for row in X - location]
            for location, weight in zip(self.locations_, domain_weights(self.counts_), strict=True)
        ]
        nearest: Floats = np.asarray(each, dtype=np.float64).min(axis=0)
        return nearest

    def _choose(self, n: int, p: int, rank: int) -> tuple[Estimator, str]:
        """The estimator to use, and the reason if it is not the one that was asked for."""
        # ml: one more than spans the space, so that every recording can be left out.
        needs = {"ml": p + 2, "elliptic": 2 * p + 1}.get(self.estimator, 2)
        enough = n >= needs and (rank == p or self.estimator not in ("ml", "elliptic"))
        if enough or self.force_estimator:
            return self.estimator, ""
        reason = f"{n} recordings of {p} values" if n < needs else f"the embeddings span {rank} of {p} directions"
        if self.estimator == "elliptic" and n < needs:
            why = f"a robust covariance of the half of the recordings that agree most needs more than {2 * p}"
        else:
            why = f"{self.estimator} would miss what lies outside the training span"
        return "ledoit_wolf", f"{reason}: {why}; ledoit_wolf used"

    def _fit_tied(self, X: Floats, domains: tuple[NDArray[np.str_], NDArray[np.intp]]) -> float:
        """Returns the shrinkage."""
        names, domain = domains
        if len(names) > 1 and collapsed(X - domain_means(X, domain)[0][domain] + X.mean(axis=0)):
            # Nothing varies within the domains: only all of them together say what is normal.
            names, domain = np.array(["+".join(names)]), np.zeros_like(domain)
        (n, p), k = X.shape, len(names)
        self.domains_ = names
        self.locations_, self.counts_ = domain_means(X, domain)
        self.location_ = X.mean(axis=0)
        within = X - self.locations_[domain]
        few = n - k < _ENOUGH_FOR_TIED * p or len(seen_variances(within)) < p
        shared = within[self.counts_[domain] > 1]
        shrinkage = float(LedoitWolf(assume_centered=True).fit(shared).shrinkage_) if few else 0.0
        covariance = within.T @ within / (n - k + 1)
        sphere = np.trace(covariance) / p * np.eye(p)
        self.precision_ = pinvh((1 - shrinkage) * covariance + shrinkage * sphere)
        self.leave_one_out_ = leave_one_out(X, shrinkage, domain)
        return shrinkage

    def _fit_elliptic(self, X: Floats, size: int) -> None:
        """Fit on all rows, and on all but those of each fold; a minute each for 1000 x 128."""
        folds = min(self.folds, len(X))
        parts = KFold(folds, shuffle=True, random_state=self.seed).split(X) if folds > 1 else []
        jobs = [(np.arange(len(X)), np.arange(0)), *parts]
        distances = np.full(len(X), np.nan)
        for index, (used, held_out) in enumerate(progress(jobs, "elliptic envelopes")):
            location, precision = self._elliptic(X[used], size)
            if index == 0:
                self.location_, self.precision_ = location, precision
            away = X[held_out] - location
            distances[held_out] = np.einsum("ij,ij->i", away @ precision, away)
        if folds > 1:
            self.leave_one_out_ = distances

    def _elliptic(self, X: Floats, size: int) -> tuple[Floats, Floats]:
        """Location and precision, behind the ``size`` first principal components."""
        model = _QuietEllipticEnvelope(random_state=self.seed)
        if size >= X.shape[1]:
            return model.fit(X).location_, model.get_precision()
        axes = PCA(size, random_state=self.seed).fit(X).components_
        model.fit(X @ axes.T)
        # The same distances, written in the values of an embedding: axes is orthonormal.
        return model.location_ @ axes, axes.T @ model.get_precision() @ axes

    def to_arrays(self) -> Arrays:
        """Everything fitted, as arrays without objects, for an npz file; `model_from_arrays` restores it."""
        check_is_fitted(self)
        arrays = {"kind": np.array(KIND)}
        for name in ("location", "precision", "locations", "counts", "domains", "leave_one_out"):
            if f"{name}_" in vars(self):
                arrays[name] = np.asarray(getattr(self, f"{name}_"))
        if self.report_.used == "knn":
            arrays["knn.normal"] = self.neighbour_model_.normal_
        for name in _PARAMETERS:
            value = getattr(self, name)
            arrays[f"parameter.{name}"] = np.array(-1 if value is None else value)
        return arrays | {f"report.{name}": np.array(value) for name, value in asdict(self.report_).items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "NormalityModel":
        """The fitted model that `to_arrays` described, of this version or an older one (no leave-one-out distances)."""
        written = [field.name for field in fields(FitReport) if f"report.{field.name}" in arrays]
        report = FitReport(**{name: arrays[f"report.{name}"].item() for name in written})
        model = cls(report.asked)  # type: ignore[arg-type]
        for name in _PARAMETERS:
            if f"parameter.{name}" in arrays:
                setattr(model, name, arrays[f"parameter.{name}"].item())
        if model.components is not None and model.components < 0:
            model.components = None
        for name in ("location", "precision", "locations", "counts", "domains", "leave_one_out"):
            if name in arrays:
                setattr(model, f"{name}_", arrays[name])
        if "knn.normal" in arrays:
            model.neighbour_model_ = NeighbourModel(model.neighbours).fit(arrays["knn.normal"])
        model.n_features_in_, model.report_ = report.p, report
        return model


def model_from_arrays(arrays: dict[str, NDArray[Any]]) -> NormalityModel | NeighbourModel:
    """The fitted model that any ``to_arrays`` of this package described.

    Args:
        arrays: as they were returned, or read from an npz file.

    Raises:
        AsdError: arrays of something else.

    >>> model_from_arrays(NeighbourModel().fit(np.eye(3)).to_arrays())
    NeighbourModel()
    """
    kind = str(arrays["kind"]) if "kind" in arrays else NEIGHBOURS if "normal" in arrays else KIND
    if kind == NEIGHBOURS:
        return NeighbourModel.from_arrays(arrays)
    if kind == KIND and "report.used" in arrays:
        return NormalityModel.from_arrays(arrays)
    raise AsdError(f"arrays {', '.join(sorted(arrays)) or 'of nothing'}: no normality model")


class _QuietEllipticEnvelope(EllipticEnvelope):  # type: ignore[misc]
    """Without the warnings of its many small fits: rank and condition are in the report."""

    def fit(self, X: Floats, y: object = None) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().fit(X)
        return self


def _indexed(domains: ArrayLike | None, n: int) -> tuple[NDArray[np.str_], NDArray[np.intp]]:
    """The names of the domains (k,), and which of them each of n rows is of (n,)."""
    if domains is None:
        return np.array([""]), np.zeros(n, dtype=np.intp)
    named = np.asarray(domains).astype(str)
    if named.shape != (n,):
        raise BadEmbeddings(f"domains must be one name for each of {n} recordings, got the shape {named.shape}")
    names, domain = np.unique(named, return_inverse=True)
    return names, domain.astype(np.intp)
