"""What every normality model shares: checked input, left-out distances, arrays in and out.

A model is a subclass of `NormalityModel` with a ``name``, `_fit` and `_distance`:

    class MedianModel(NormalityModel):
        name = "median"

        def _fit(self, X, domain):
            self.median_ = np.median(X, axis=0)

        def _distance(self, X):
            return np.abs(X - self.median_).max(axis=1)

Registered in the entry point group ``asd.normality_models`` (see `asdcore.registry`) it can be named in the settings.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GroupKFold
from sklearn.utils.validation import check_is_fitted

from asdcore.arrays import Arrays, Floats, Indices
from asdcore.errors import AsdError
from asdcore.registry import NORMALITY_MODELS
from asdcore.settings import NormalitySettings


class BadEmbeddings(AsdError, ValueError):
    """Vectors that cannot be fitted or scored. Also a ValueError, as scikit-learn's tools expect."""


@dataclass(frozen=True)
class FitReport:
    """What a fit was made of, and whether to trust it."""

    asked: str
    used: str
    n: int
    """recordings"""
    p: int
    """values of a vector"""
    rank: int
    """of the centred vectors; below p, some directions have not been seen at all"""
    condition: float
    """largest by smallest variance among the directions that have been seen; infinite if there is none"""
    note: str
    """why something else than asked was used; empty if it was not"""
    shrinkage: float = 0.0
    """fraction of the covariance that was replaced by a sphere, 0 to 1"""
    domains: int = 1
    """that there were; of ``tied``, that were told apart"""
    groups: int = 0
    """that were left out in turn; n where each recording was a group of its own"""
    largest_group: int = 1
    """recordings"""
    left_out_note: str = ""
    """why the groups that were given were not left out as a whole; empty if they were"""

    @property
    def n_over_p(self) -> float:
        return self.n / self.p


class NormalityModel(BaseEstimator):  # type: ignore[misc]
    """What is normal for one machine, learned from vectors of its normal recordings.

    Attributes:
        left_out_: (n,) distance of each training row from the model fitted without its whole group, in their order;
            infinite where the others know nothing of a direction in which it differs. None where the model was told
            not to compute it.
        report_: see `FitReport`.
        n_features_in_: values of a vector.
    """

    name: ClassVar[str]
    """in the registry"""
    most_refits: ClassVar[int] = 50
    """Where there is no closed form: groups are left out one at a time up to so many; more are left out several at a
    time."""

    left_out_: Floats | None
    report_: FitReport

    @classmethod
    def of(cls, settings: NormalitySettings) -> Self:
        """The unfitted model that settings describe."""
        return cls()

    def fit(
        self,
        X: NDArray[np.floating],
        y: object = None,
        *,
        domains: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit on vectors of normal recordings.

        Args:
            X: (n, p), one row per recording, n at least 2.
            y: ignored.
            domains: (n,) names; None: all of one. Most models ignore them.
            groups: (n,) names of the sessions: rows that are left out together. None: each row is its own group. A
                single group has nothing to be left out of: then each row is left out alone, and ``report_`` says so.

        Raises:
            AsdError: fewer than 2 rows, values that are not finite, rows that are all the same, or another number of
                domains or groups than of rows.
        """
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
        domain, group = indexed(domains, n, "domains"), indexed(groups, n, "groups")
        left_out_note = ""
        if groups is None:
            group = np.arange(n)
        elif group.max() == 0:
            group = np.arange(n)
            left_out_note = (
                f"all {n} recordings are of one session, so each was left out alone: what another session sounds like "
                "is unknown"
            )
        self._forget()
        self.n_features_in_ = p
        seen = seen_variances(X)
        self.report_ = FitReport(
            self.name,
            self.name,
            n,
            p,
            len(seen),
            float(seen[0] / seen[-1]) if len(seen) else float("inf"),
            note="",
            domains=int(domain.max()) + 1,
            groups=int(group.max()) + 1,
            largest_group=int(np.bincount(group).max()),
            left_out_note=left_out_note,
        )
        self._fit(X, domain)
        self.left_out_ = self._left_out(X, domain, group)
        return self

    def distance(self, X: NDArray[np.floating]) -> Floats:
        """The distance of each row from what is normal.

        Args:
            X: (m, p). A row gets the same distance to the last bit alone and among others, whatever its domain.

        Returns:
            (m,), at least 0, higher is more anomalous.

        Raises:
            AsdError: values that are not finite, or another p than that of the fit.
        """
        check_is_fitted(self)
        X = checked(X)
        if X.shape[1] != self.n_features_in_:
            raise BadEmbeddings(f"embeddings of {X.shape[1]} values; this model was fitted on {self.n_features_in_}")
        return self._distance(X) if len(X) else np.zeros(0)

    def distances_to_training(self, X: NDArray[np.floating]) -> Floats | None:
        """(m, n): the distance of each row of (m, p) from each training row, in their order.

        None where the model keeps no training rows.
        """
        return None

    def _fit(self, X: Floats, domain: Indices) -> None:
        """Set what `_distance` needs, as attributes that end in ``_``: arrays, numbers or text.

        Args:
            X: (n, p), checked.
            domain: (n,) 0 to k-1.
        """
        raise NotImplementedError

    def _distance(self, X: Floats) -> Floats:
        """(m, p) to (m,), each row by itself."""
        raise NotImplementedError

    def _left_out(self, X: Floats, domain: Indices, group: Indices) -> Floats | None:
        """The distance of each row from a model of the other groups, here by refitting it.

        Args:
            X: (n, p).
            domain: (n,) 0 to k-1.
            group: (n,) 0 to g-1, g at least 2.
        """
        return self._refitted(X, domain, group, self.most_refits)

    def _refitted(self, X: Floats, domain: Indices, group: Indices, folds: int) -> Floats:
        """`_left_out` by at most so many refits: whole groups in each fold."""
        distances = np.full(len(X), np.inf)
        for others, fold in GroupKFold(min(folds, int(group.max()) + 1)).split(X, groups=group):
            if len(others) < 2 or collapsed(X[others]):
                continue  # They know nothing of any other recording: infinitely far.
            refit = clone(self)
            refit.n_features_in_, refit.report_ = X.shape[1], replace(self.report_, n=len(others), largest_group=1)
            refit._fit(X[others], np.unique(domain[others], return_inverse=True)[1].astype(np.intp))
            distances[fold] = refit._distance(X[fold])
        return distances

    def _forget(self) -> None:
        """Nothing of an earlier fit is left."""
        for attribute in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, attribute)

    def to_arrays(self) -> Arrays:
        """Everything fitted, as arrays without objects, for an npz file; `model_from_arrays` restores it."""
        check_is_fitted(self)
        about = {"model": self.name, "parameters": self.get_params(), "report": asdict(self.report_)}
        fitted = {
            name: np.asarray(value)
            for name, value in vars(self).items()
            if name.endswith("_") and name != "report_" and value is not None
        }
        return {"about": np.array(json.dumps(about)), **fitted}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The fitted model that `to_arrays` described."""
        about = json.loads(str(arrays["about"]))
        model = cls(**about["parameters"])
        model.left_out_ = None
        for name, values in arrays.items():
            if name != "about":
                setattr(model, name, values.item() if values.ndim == 0 else values)
        model.report_ = FitReport(**about["report"])
        return model


def build_model(settings: NormalitySettings) -> NormalityModel:
    """The unfitted normality model of the embedding that ``settings.estimator`` names.

    Raises:
        AsdError: the package that adds it cannot be loaded.
    """
    return model_class(settings.estimator).of(settings)


def model_class(name: str) -> type[NormalityModel]:
    """The normality model of that name.

    Raises:
        AsdError: no such model, the package that adds it cannot be loaded, or it has another name for itself.
    """
    model = NORMALITY_MODELS.get(name)
    if getattr(model, "name", None) != name:
        raise AsdError(f"normality model {name!r}: {model!r} must be a NormalityModel whose name is {name!r}")
    return model


def model_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> NormalityModel:
    """The fitted model that any `NormalityModel.to_arrays` described.

    Args:
        arrays: as they were returned, or read from an npz file.

    Raises:
        AsdError: arrays of something else, or of a model of a package that is not installed.
    """
    try:
        name = json.loads(str(arrays["about"]))["model"]
    except (KeyError, ValueError, TypeError) as error:
        raise AsdError(f"arrays {', '.join(sorted(arrays)) or 'of nothing'}: no normality model") from error
    return model_class(name).from_arrays(arrays)


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write what a ``to_arrays`` returned as an npz file, whatever the name of ``path`` is."""
    with path.open("wb") as file:  # numpy would add a suffix to a name without one.
        np.savez(file, allow_pickle=False, **arrays)


def read_model(path: Path) -> NormalityModel:
    """The fitted model that an npz file holds."""
    with np.load(path, allow_pickle=False) as arrays:
        return model_from_arrays(dict(arrays))


def checked(embeddings: NDArray[np.floating]) -> Floats:
    """(n, p) as float64.

    Args:
        embeddings: (n, p) numbers, n from 0, p from 1.

    Raises:
        AsdError: another shape, or values that are not finite numbers.

    >>> checked(np.ones((2, 3), np.float32)).dtype
    dtype('float64')
    """
    if hasattr(embeddings, "tocsr"):
        raise BadEmbeddings("embeddings must be a dense array, got a sparse one")
    if np.iscomplexobj(embeddings):
        raise BadEmbeddings("embeddings must be real numbers. Complex data not supported")
    X: Floats = np.asarray(embeddings, dtype=np.float64, order="C")
    if X.ndim != 2:
        raise BadEmbeddings(f"embeddings must be (n, p), got the shape {X.shape}. Reshape your data")
    if X.shape[1] == 0:
        raise BadEmbeddings(f"embeddings of no value: 0 feature(s) (shape={X.shape}) while a minimum of 1 is required.")
    if not np.isfinite(X).all():
        count = np.count_nonzero(~np.isfinite(X).all(axis=1))
        raise BadEmbeddings(f"{count} of {len(X)} embeddings hold NaN or infinity")
    return X


def indexed(names: ArrayLike | None, n: int, what: str) -> Indices:
    """Which of the sorted names each of n rows has: (n,) 0 to k-1; all 0 for None.

    Raises:
        AsdError: another number of names than of rows.
    """
    if names is None:
        return np.zeros(n, dtype=np.intp)
    named = np.asarray(names).astype(str)
    if named.shape != (n,):
        raise BadEmbeddings(f"{what} must be one name for each of {n} recordings, got the shape {named.shape}")
    return np.unique(named, return_inverse=True)[1].astype(np.intp)


def seen_variances(X: Floats) -> Floats:
    """The squared singular values of the centred (n, p) that are more than rounding, largest first: (rank,)."""
    variances: Floats = np.square(np.linalg.svd(X - X.mean(axis=0), compute_uv=False))
    seen: Floats = variances[variances > variances.max(initial=0.0) * max(X.shape) * np.finfo(np.float64).eps]
    return seen


def collapsed(X: Floats) -> bool:
    """Whether the rows of (n, p) differ by no more than the rounding of float32, which embeddings are made in."""
    spread = np.linalg.norm(X - X.mean(axis=0))
    return bool(spread <= np.finfo(np.float32).eps * np.linalg.norm(X))
