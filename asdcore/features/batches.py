"""Batches of training views: of each recording the original and one of its variants, the same crop of both."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from asdcore.features.augmentation import VARIANTS
from asdcore.features.normalisation import Normalisation
from asdcore.features.preload import PreloadedStore
from asdcore.features.store import Store

READ_AHEAD = 2
"""Batches read ahead of the training step. More would not stay in the processor's cache until they are used."""


@dataclass(frozen=True)
class Batch:
    """Views of ``recordings``, or of a part of them: the original and one variant of each."""

    recordings: list[str]
    variants: list[str]
    """which variant was drawn of each recording"""
    frames: torch.Tensor
    """(2, n_recordings, n_frames, n_mels) float16, dB, as they are stored: the originals, then the variants"""
    normalisation: Normalisation

    @property
    def original(self) -> NDArray[np.float32]:
        """(n_recordings, 1, n_mels, n_frames), normalised."""
        return self._views(0)

    @property
    def variant(self) -> NDArray[np.float32]:
        """(n_recordings, 1, n_mels, n_frames), normalised."""
        return self._views(1)

    def on(self, device: torch.device) -> torch.Tensor:
        """All views on ``device``, (2 * n_recordings, 1, n_mels, n_frames) float32: the originals, then the variants.

        They are transferred in the stored precision, half the bytes, and normalised on the device, bit for bit equal.
        """
        mean, deviation = (
            torch.from_numpy(values[:, 0]).to(device)
            for values in (self.normalisation.mean, self.normalisation.deviation)
        )
        values = self.frames.to(device, non_blocking=True).float().sub_(mean).div_(deviation)
        return values.flatten(0, 1).transpose(1, 2)[:, None]

    def _views(self, which: int) -> NDArray[np.float32]:
        frames = self.frames[which].cpu().numpy().transpose(0, 2, 1)
        return self.normalisation(frames.astype(np.float32, order="C"))[:, None]


def batches(
    store: Store | PreloadedStore,
    recordings: Sequence[str],
    normalisation: Normalisation,
    *,
    batch_size: int,
    crop_frames: int,
    seed: int,
    epoch: int,
    start: int = 0,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """The batches of one epoch: shuffled, each recording at most once, so a batch contains exactly two views of each
    of its recordings. A last, smaller batch is dropped: NT-Xent is easier with fewer negatives.

    Order, variants and crops depend on ``seed`` and ``epoch`` only. The first ``start`` batches are skipped without
    reading them; the others are the same as in the whole epoch.

    ``part``: (index, number) of equal parts of each batch to read; names and variants are of the whole batch.
    """
    rng = np.random.default_rng([seed, epoch])
    size = min(batch_size, len(recordings))
    order = rng.permutation(len(recordings))
    variants = [VARIANTS[drawn] for drawn in rng.integers(0, len(VARIANTS), len(recordings)).tolist()]
    starts = rng.random(len(recordings))

    device = store.device if isinstance(store, PreloadedStore) else torch.device("cpu")
    first, end = (size * edge // part[1] for edge in (part[0], part[0] + 1))

    def empty() -> torch.Tensor:
        # Memory allocated and freed by the same thread is reused, and the system need not clear it.
        shape = (2 * (end - first), crop_frames, len(normalisation.mean))
        return torch.empty(shape, dtype=torch.float16, device=device)

    def load(positions: NDArray[np.int64], views: torch.Tensor) -> Batch:
        places = positions.tolist()
        chosen, drawn = [recordings[i] for i in places], [variants[i] for i in places]
        arrays = [(recording, "original") for recording in chosen[first:end]]
        arrays += zip(chosen[first:end], drawn[first:end], strict=True)
        begin = np.tile(starts[positions[first:end]], 2)
        if isinstance(store, PreloadedStore):
            store.crops(arrays, begin, views)
        else:
            store.crops(arrays, begin, views.numpy())
        return Batch(chosen, drawn, views.view(2, -1, *views.shape[1:]), normalisation)

    plan = [order[i : i + size] for i in range(start * size, len(order) - size + 1, size)]
    with ThreadPoolExecutor(max_workers=1) as reader:
        ahead = deque(reader.submit(load, positions, empty()) for positions in plan[:READ_AHEAD])
        for positions in plan[READ_AHEAD:]:
            ready = ahead.popleft().result()
            ahead.append(reader.submit(load, positions, empty()))
            yield ready
        while ahead:
            yield ahead.popleft().result()
