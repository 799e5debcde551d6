"""Autoencoders of several machines, trained in parallel processes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from joblib import Parallel, cpu_count, delayed
from safetensors.torch import save_file

from asdcore.baselines.autoencoder import fit_autoencoder
from asdcore.encoder.network import choose_device
from asdcore.features.store import Store
from asdcore.progress import progress
from asdcore.settings import AutoencoderSettings
from asdcore.storage.files import atomic_write


def fit_machines(
    store: Path,
    training: Mapping[str, Sequence[tuple[str, str]]],
    files: Mapping[str, Path],
    settings: AutoencoderSettings,
) -> None:
    """Train the autoencoder of each machine and write it to its file; files that are there already are left alone.

    On a CPU the network is too small for two threads to share: each machine has a process with one thread, and its
    result does not depend on how many there are. On an accelerator machines take turns.

    Args:
        store: folder of a `Store` with the column ``original``.
        training: machine: (recording, domain) of its normal training recordings.
        files: machine: safetensors file.
        settings: see `AutoencoderSettings`.

    Raises:
        AsdError: as `fit_autoencoder`; or the store lacks a recording. Machines that are finished keep their file.
    """
    device = choose_device("auto")
    jobs = cpu_count() if device.type == "cpu" else 1
    todo = [machine for machine in training if not files[machine].is_file()]
    done = Parallel(n_jobs=min(jobs, max(len(todo), 1)), return_as="generator_unordered")(
        delayed(_fit_machine)(store, list(training[machine]), files[machine], settings, device) for machine in todo
    )
    for _ in progress(done, "autoencoders", total=len(todo)):
        pass


def _fit_machine(
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
    with atomic_write(file) as temporary:
        save_file(model.to_tensors(), temporary)
