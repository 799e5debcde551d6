"""The types of arrays that several rooms share."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Arrays = dict[str, NDArray[Any]]
"""Everything fitted of a model, by name, without objects: what an npz file holds."""
