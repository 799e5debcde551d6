"""The back end of GenRep: a memory of each domain, that of the small ones enlarged by mixing."""

from typing import ClassVar

import numpy as np
from scipy.spatial.distance import cdist

from asdcore.arrays import Floats, Indices
from asdcore.normality.base import BadEmbeddings, NormalityModel
from asdcore.normality.references import largest

MOST_MIXED = 10_000
"""Mixed vectors of a domain, as many as the challenge's 10 target recordings make with 990 of the source."""


class MemoryMixup(NormalityModel):
    """Euclidean distance to the nearest vector of each domain, made comparable between them; the smallest.

    Saengthong and Shinozaki, *Deep generic representations for domain-generalized anomalous sound detection* (ICASSP
    2025, arXiv:2409.05035): each vector of a domain other than the source (the one with the most recordings) is mixed
    with its nearest ones of the source. The distances from a domain are standardised; the paper takes mean and
    deviation of the test recordings, which are not known when the first one is scored. Here, as in the authors' report
    for DCASE 2025 Task 2, the mean is that of the training recordings of the domain, and the deviation that of the
    smallest domain. A constant is added, so that no distance is below 0.

    Args:
        weight: of a target vector in a mixture.
        supports: nearest vectors of the source that each one is mixed with.

    Attributes:
        references_: (m, p) the memories, one after the other.
        domain_: (m,) the domain of each.
        mean_: (k,) mean distance between neighbours of each domain.
        deviation_: standard deviation of these distances.

    >>> X = np.array([[0.0, 0], [1, 0], [0, 1], [5, 5]])
    >>> model = MemoryMixup().fit(X, domains=["source"] * 3 + ["target"])
    >>> model.references_.round(1)[4:].tolist()
    [[4.6, 4.5], [4.5, 4.6], [4.5, 4.5]]
    """

    name: ClassVar[str] = "memory_mixup"
    most_refits: ClassVar[int] = 20

    references_: Floats
    domain_: Indices
    mean_: Floats
    deviation_: float

    def __init__(self, weight: float = 0.9, supports: int = 990) -> None:
        self.weight = weight
        self.supports = supports

    def _fit(self, X: Floats, domain: Indices) -> None:
        if self.supports < 1 or not 0 <= self.weight <= 1:
            raise BadEmbeddings(f"supports is {self.supports} and weight {self.weight}: at least 1, and 0 to 1 needed")
        source = largest(domain)
        memories, spreads = [], []
        for own in range(int(domain.max()) + 1):
            rows = X[domain == own]
            memories.append(rows if own == source else np.vstack([rows, self._mixed(rows, X[domain == source])]))
            spreads.append(_between_neighbours(rows))
        self.references_ = np.vstack(memories)
        self.domain_ = np.repeat(np.arange(len(memories)), [len(memory) for memory in memories])
        sizes = np.bincount(domain)
        # A domain of a single recording says nothing of its own spread.
        self.mean_ = np.array([spread.mean() if len(spread) > 1 else spreads[source].mean() for spread in spreads])
        several = [own for own in np.argsort(sizes, kind="stable") if len(spreads[own]) > 1 and spreads[own].std() > 0]
        self.deviation_ = float(spreads[several[0]].std()) if several else 1.0

    def _mixed(self, rows: Floats, source: Floats) -> Floats:
        """Each of the rows (n, p) mixed with its nearest ones of the source: (n * supports, p)."""
        count = min(self.supports, len(source), max(MOST_MIXED // len(rows), 1))
        nearest = np.argsort(cdist(rows, source, "sqeuclidean"), axis=1, kind="stable")[:, :count]
        mixed: Floats = self.weight * rows[:, None] + (1 - self.weight) * source[nearest]
        return mixed.reshape(-1, rows.shape[1])

    def _distance(self, X: Floats) -> Floats:
        away = cdist(X, self.references_)
        nearest = np.stack([away[:, self.domain_ == own].min(axis=1) for own in range(len(self.mean_))], axis=1)
        standardised: Floats = (nearest - self.mean_ + self.mean_.max()).min(axis=1) / self.deviation_
        return standardised


def _between_neighbours(rows: Floats) -> Floats:
    """(n,): the distance of each row from the nearest other one; 0 where there is none."""
    if len(rows) < 2:
        return np.zeros(len(rows))
    away = cdist(rows, rows)
    np.fill_diagonal(away, np.inf)
    nearest: Floats = away.min(axis=1)
    return nearest
