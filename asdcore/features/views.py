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
    """Views of ``recordings``: of each the original and one variant."""

    recordings: list[str]
    variants: list[str]
    """which variant was drawn of each recording"""
    frames: NDArray[np.float16]
    """(2, n_recordings, n_frames, n_mels), dB, as they are stored: the originals, then the variants"""
    normalisation: Normalisation

    @property
    def original(self) -> NDArray[np.float32]:
        """(n_recordings, 1, n_mels, n_frames), normalised."""
        return self._views(0)

    @property
    def variant(self) -> NDArray[np.float32]:
        """(n_recordings, 1, n_mels, n_frames), normalised."""
        return self._views(1)

    def _views(self, which: int) -> NDArray[np.float32]:
        return self.normalisation(self.frames[which].transpose(0, 2, 1).astype(np.float32, order="C"))[:, None]


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
        frames = np.empty((2, len(chosen), crop_frames, store.n_mels(chosen[0], "original")), np.float16)
        for row, (recording, variant, i) in enumerate(zip(chosen, drawn, positions, strict=True)):
            for view, column in zip(frames, ("original", variant), strict=True):
                read_crop(store, recording, column, starts[i], view[row])
        return Batch(chosen, drawn, frames, normalisation)

    plan = [order[i : i + size] for i in range(start * size, len(order) - size + 1, size)]
    with ThreadPoolExecutor(max_workers=1) as reader:
        ahead = deque(reader.submit(load, positions) for positions in plan[:READ_AHEAD])
        for positions in plan[READ_AHEAD:]:
            ready = ahead.popleft().result()
            ahead.append(reader.submit(load, positions))
            yield ready
        while ahead:
            yield ahead.popleft().result()


def read_crop(store: Store, recording: str, column: str, start: float, out: NDArray[np.float16]) -> None:
    """Fill ``out``, (frames, n_mels), from ``start`` (0: first possible, 1: last) on; a short recording repeats."""
    n_frames, frames = store.n_frames(recording, column), len(out)
    if n_frames < frames:
        store.read_frames(recording, column, 0, out[:n_frames])
        for first in range(n_frames, frames, n_frames):
            out[first : first + n_frames] = out[: min(n_frames, frames - first)]
    else:
        store.read_frames(recording, column, min(int(start * (n_frames - frames + 1)), n_frames - frames), out)
