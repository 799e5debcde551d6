"""Preload a training set into memory, or onto the training device, if it fits."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray

from asdcore.features.augmentation import VARIANTS
from asdcore.features.shard import first_frame
from asdcore.features.store import Store

MEMORY = 4 * 2**30
"""Maximum bytes of a set preloaded into memory; on a device, half of its free memory."""

COLUMNS = ("original", *VARIANTS)


class PreloadedStore:
    """The spectrograms of some recordings, as they are stored, without the files.

    Args:
        store: has an ``original`` and the six variants of ``recordings``.
        recordings: digests.
        device: where they are kept and cropped.
    """

    def __init__(self, store: Store, recordings: Sequence[str], device: torch.device) -> None:
        self._n_frames = {recording: store.n_frames(recording, "original") for recording in recordings}
        ends = accumulate(n_frames for n_frames in self._n_frames.values() for _ in COLUMNS)
        firsts = [0, *ends]
        self._first = dict(
            zip(((recording, column) for recording in recordings for column in COLUMNS), firsts[:-1], strict=True)
        )
        frames = np.empty((firsts[-1], store.n_mels(recordings[0], "original")), np.float16)
        for (recording, column), first in self._first.items():
            values = frames[first : first + self._n_frames[recording]]
            store.crops([(recording, column)], np.zeros(1), values[None])
        self._frames = torch.from_numpy(frames).to(device)

    @property
    def device(self) -> torch.device:
        return self._frames.device

    def crops(self, arrays: Sequence[tuple[str, str]], starts: NDArray[np.float64], out: torch.Tensor) -> None:
        """As `Store.crops`, on the device."""
        frames = out.shape[1]
        n_frames = np.array([self._n_frames[recording] for recording, _ in arrays])
        within = [first_frame(int(n), frames, start) for n, start in zip(n_frames, starts, strict=True)]
        span = (np.array(within)[:, None] + np.arange(frames)) % n_frames[:, None]
        rows = torch.from_numpy(np.array([self._first[array] for array in arrays])[:, None] + span)
        torch.index_select(self._frames, 0, rows.flatten().to(self.device), out=out.view(-1, out.shape[-1]))


def preload(store: Store, recordings: Sequence[str], device: torch.device) -> Store | PreloadedStore:
    """``recordings`` on ``device`` if they fit there, else in memory if they fit in `MEMORY`, else the store itself.

    `batches` yields the same batches from all three.
    """
    size = sum(store.n_bytes(recording, column) for recording in recordings for column in COLUMNS)
    if device.type == "cuda" and size <= torch.cuda.mem_get_info(device)[0] // 2:
        return PreloadedStore(store, recordings, device)
    return PreloadedStore(store, recordings, torch.device("cpu")) if size <= MEMORY else store
