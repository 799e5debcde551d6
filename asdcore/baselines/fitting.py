"""Train the autoencoder of a machine in a separate process."""

from collections.abc import Sequence
from functools import cache
from multiprocessing import current_process
from pathlib import Path
from threading import Lock

import torch
from joblib import cpu_count
from joblib.externals.loky import ProcessPoolExecutor
from safetensors.torch import save_file

from asdcore.baselines.autoencoder import fit_autoencoder
from asdcore.encoder.network import choose_device
from asdcore.features.store import Store
from asdcore.settings import AutoencoderSettings

_ALONE = Lock()


def fit_machine(store: Path, pairs: Sequence[tuple[str, str]], file: Path, settings: AutoencoderSettings) -> None:
    """Train the autoencoder of one machine and write it to a file. Thread-safe.

    On a CPU the network is too small for more than one thread: each machine is trained in a single-threaded process;
    the result does not depend on their number. On an accelerator machines are trained one after the other, and so they
    are within a process that may not start others, as a Dask worker is.

    Args:
        store: folder of a `Store` with the column ``original``.
        pairs: (recording, domain) of its normal training recordings.
        file: safetensors file to write.
        settings: see `AutoencoderSettings`.

    Raises:
        AsdError: as `fit_autoencoder`; or the store lacks a recording.
    """
    device = choose_device("auto")
    if device.type == "cpu" and not current_process().daemon:
        _processes().submit(_fit, store, list(pairs), file, settings, device).result()
        return
    with _ALONE:
        _fit(store, list(pairs), file, settings, device)


@cache
def _processes() -> ProcessPoolExecutor:
    # Not loky's reusable one: joblib, which expects an executor of its own making there, fails after that.
    return ProcessPoolExecutor(max_workers=cpu_count(), timeout=60)


def _fit(
    store: Path, pairs: list[tuple[str, str]], file: Path, settings: AutoencoderSettings, device: torch.device
) -> None:
    spectrograms = Store(store)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        originals = ((spectrograms.read(recording, "original"), domain) for recording, domain in pairs)
        model = fit_autoencoder(originals, settings, device)
    finally:
        torch.set_num_threads(threads)
    save_file(model.to_tensors(), file)
