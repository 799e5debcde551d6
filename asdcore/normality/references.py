"""Nearest reference vectors by cosine: the back ends of published systems that tell few target recordings from many of
the source.

What is called source here is the domain with the most recordings; there may be several others. Vectors are divided by
their length first.
"""

from typing import ClassVar

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from asdcore.arrays import Floats, Indices
from asdcore.normality.base import BadEmbeddings, NormalityModel


class References(NormalityModel):
    """Cosine distance to the nearest reference; subclasses say what the references are.

    Attributes:
        references_: (m, p).
    """

    most_refits: ClassVar[int] = 20

    references_: Floats

    def _fit(self, X: Floats, domain: Indices) -> None:
        self.references_ = self._references(unit(X), domain)

    def _references(self, X: Floats, domain: Indices) -> Floats:
        """The references (m, p) of rows (n, p) of length 1 in their domains, (n,) 0 to k-1."""
        raise NotImplementedError

    def _distance(self, X: Floats) -> Floats:
        distances: Floats = _cosine_distances(unit(X), self.references_).min(axis=1)
        return distances


class KMeansCosine(References):
    """The centres of a k-means of the source, and every vector of the other domains (Wilkinghoff, ICASSP 2024).

    As in the published code, centres are not divided by their length: within a wide cluster everything is farther.

    Args:
        clusters: of the source; where it has no more vectors than that, they are the references.
        seed: random state of the k-means.

    >>> X = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.0], [0.0, 1.0]])
    >>> model = KMeansCosine(clusters=1).fit(X, domains=["source"] * 3 + ["target"])
    >>> model.distance(np.array([[0.0, 2.0], [1.0, 0.0]])).round(3).tolist()
    [0.0, 0.002]
    """

    name: ClassVar[str] = "kmeans_cosine"
    most_refits: ClassVar[int] = 10

    def __init__(self, clusters: int = 16, seed: int = 0) -> None:
        self.clusters = clusters
        self.seed = seed

    def _references(self, X: Floats, domain: Indices) -> Floats:
        if self.clusters < 1:
            raise BadEmbeddings(f"clusters is {self.clusters}: at least 1 is needed")
        source = domain == largest(domain)
        if len(np.unique(X[source], axis=0)) <= self.clusters:
            return X
        means = KMeans(self.clusters, n_init=10, random_state=self.seed).fit(X[source]).cluster_centers_
        return np.vstack([means, X[~source]])


class SmoteNeighbours(References):
    """Every vector, and synthetic ones of the small domains: points between neighbours (SMOTE, Chawla et al. 2002).

    Published systems oversample the target domain so before a nearest neighbour is searched; ASDKit, for example, and
    Wilkinghoff et al. (ICASSP 2025) as what they compare with.

    Args:
        ratio: of the source's number of vectors that each other domain has at least; 1: as many.
        neighbours: a point lies between a vector and one of so many of its nearest in its domain.
        seed: of the synthetic vectors.

    >>> X = np.array([[4.0, 3], [3, 4], [1, 0], [0, 1], [1, 1], [1, 2]])
    >>> SmoteNeighbours(ratio=1).fit(X, domains=list("ttssss")).references_.shape
    (8, 2)
    """

    name: ClassVar[str] = "smote_knn"

    def __init__(self, ratio: float = 0.2, neighbours: int = 2, seed: int = 0) -> None:
        self.ratio = ratio
        self.neighbours = neighbours
        self.seed = seed

    def _references(self, X: Floats, domain: Indices) -> Floats:
        if self.neighbours < 1 or self.ratio < 0:
            raise BadEmbeddings(f"neighbours is {self.neighbours} and ratio {self.ratio}: at least 1 and 0 are needed")
        rng = np.random.default_rng(self.seed)
        wanted = int(self.ratio * np.bincount(domain).max())
        parts = [X]
        for own in range(int(domain.max()) + 1):
            rows = X[domain == own]
            missing = wanted - len(rows)
            if missing <= 0 or len(rows) < 2:
                continue
            away = cdist(rows, rows, "sqeuclidean")
            np.fill_diagonal(away, np.inf)
            nearest = np.argsort(away, axis=1, kind="stable")[:, : min(self.neighbours, len(rows) - 1)]
            chosen = rng.integers(len(rows), size=missing)
            partner = nearest[chosen, rng.integers(nearest.shape[1], size=missing)]
            parts.append(unit(rows[chosen] + rng.random((missing, 1)) * (rows[partner] - rows[chosen])))
        return np.vstack(parts)


class LocalDensity(References):
    """Distance to a reference, divided by the sum of that reference's distances to its nearest ones.

    The smallest of these ratios over the references (Wilkinghoff et al., *Keeping the balance: anomaly score
    calculation for domain generalization*, ICASSP 2025). Where normal vectors are sparse, as few target recordings are,
    the same distance counts less. Domains need not be known.

    Args:
        neighbours: of a reference; all others where there are fewer.

    Attributes:
        density_: (n,) sum of the distances of each reference to its neighbours.

    >>> X = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.5, 1.0]])
    >>> LocalDensity(neighbours=1).fit(X).distance(np.array([[1.0, 0.2], [0.25, 1.0]])).round(2).tolist()
    [0.96, 0.23]
    """

    name: ClassVar[str] = "local_density"

    density_: Floats

    def __init__(self, neighbours: int = 16) -> None:
        self.neighbours = neighbours

    def _references(self, X: Floats, domain: Indices) -> Floats:
        if self.neighbours < 1:
            raise BadEmbeddings(f"neighbours is {self.neighbours}: at least 1 is needed")
        return X

    def _fit(self, X: Floats, domain: Indices) -> None:
        super()._fit(X, domain)
        away = _cosine_distances(self.references_, self.references_)
        np.fill_diagonal(away, np.inf)
        count = min(self.neighbours, len(X) - 1)
        sums = np.sort(away, axis=1)[:, :count].sum(axis=1)
        known = sums > np.finfo(np.float32).eps
        # A reference among copies of itself would make everything else infinitely far.
        self.density_ = np.maximum(sums, sums[known].min() if known.any() else 1.0)

    def _distance(self, X: Floats) -> Floats:
        ratios: Floats = (_cosine_distances(unit(X), self.references_) / self.density_).min(axis=1)
        return ratios


def unit(X: Floats) -> Floats:
    """Rows of length 1; one of zeros stays."""
    lengths = np.sqrt(np.square(X).sum(axis=1, keepdims=True))
    return np.asarray(X / np.where(lengths > 0, lengths, 1.0))


def largest(domain: Indices) -> int:
    """The domain with the most rows, the first of several."""
    return int(np.bincount(domain).argmax())


def _cosine_distances(X: Floats, references: Floats) -> Floats:
    """1 - x y of each row x, of length 1, and each reference y, of length 1 or less: (n, m), at least 0."""
    # Not by a matrix product: the last digits of a distance must not depend on the rows that come with it.
    squared = cdist(X, references, "sqeuclidean")
    distances: Floats = np.maximum((squared + 1 - np.square(references).sum(axis=1)) / 2, 0)
    return distances
