"""Types and small functions of arrays that several rooms share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Arrays = dict[str, NDArray[Any]]
"""Everything fitted of a model, by name, without objects: what an npz file holds."""


def with_prefix(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    """Those whose names begin with it, without it."""
    return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}


def stacked(vectors: Sequence[Mapping[str, NDArray[np.float32]]]) -> dict[str, NDArray[np.float32]]:
    """(1, p) of each clip to (m, p), by scorer."""
    return {name: np.concatenate([clip[name] for clip in vectors]) for name in vectors[0]}
