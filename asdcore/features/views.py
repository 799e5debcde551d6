"""Batches of training views: of each recording the original and one of its variants, the same crop of both."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asdcore.features.augmentation import VARIANTS
from asdcore.features.normalisation import Normalisation
from asdcore.features.store import Store

READ_AHEAD = 4
"""Batches that are read while one trains."""


@dataclass(frozen=True)
class Batch:
    """Views of ``recordings``: the original and a variant, each (n_recordings, 1, n_mels, n_frames) float32."""

    recordings: list[str]
    variants: list[str]
    """which variant was drawn of each recording"""
    original: NDArray[np.float32]
    variant: NDArray[np.float32]


def batches(
    store: Store,
    recordings: Sequence[str],
    normalisation: Normalisation,
    *,
    batch_size: int,
    crop_frames: int,
    seed: int,
    epoch: int,
    start: int = 0,
) -> Iterator[Batch]:
    """The batches of one epoch: shuffled, each recording at most once, so that no two views in a batch are of one
    recording but the two that belong together. A last, smaller batch is left out: NT-Xent is easier with fewer
    negatives.

    Order, variants and crops depend on ``seed`` and ``epoch`` only. The first ``start`` batches are left out and
    not read; the others are what they are in the whole epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    size = min(batch_size, len(recordings))
    order = rng.permutation(len(recordings))
    variants = rng.integers(0, len(VARIANTS), len(recordings))
    starts = rng.random(len(recordings))

    def load(positions: NDArray[np.int64]) -> Batch:
        chosen = [recordings[i] for i in positions]
        drawn = [VARIANTS[variants[i]] for i in positions]
        pairs = []
        for recording, variant, i in zip(chosen, drawn, positions, strict=True):
            views = (store.read(recording, "original"), store.read(recording, variant))
            pairs.append([crop(normalisation(view), crop_frames, starts[i]) for view in views])
        stacked = np.stack([np.stack(pair) for pair in pairs])[:, :, None]
        return Batch(chosen, drawn, stacked[:, 0], stacked[:, 1])

    plan = [order[i : i + size] for i in range(start * size, len(order) - size + 1, size)]
    with ThreadPoolExecutor(max_workers=1) as reader:
        ahead = deque(reader.submit(load, positions) for positions in plan[:READ_AHEAD])
        for positions in plan[READ_AHEAD:]:
            ready = ahead.popleft().result()
            ahead.append(reader.submit(load, positions))
            yield ready
        while ahead:
            yield ahead.popleft().result()


def crop(values: NDArray[np.float32], frames: int, start: float) -> NDArray[np.float32]:
    """``frames`` frames of (n_mels, n_frames), from ``start`` (0: first possible, 1: last); a short one repeats.

    >>> crop(np.arange(3.0, dtype=np.float32)[None], 5, 0.0)
    array([[0., 1., 2., 0., 1.]], dtype=float32)
    """
    n_frames = values.shape[1]
    if n_frames < frames:
        return np.tile(values, -(-frames // n_frames))[:, :frames]
    first = min(int(start * (n_frames - frames + 1)), n_frames - frames)
    return values[:, first : first + frames]
