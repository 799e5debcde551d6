"""The flow `pretrain`: the base encoder, on a cluster."""

import shutil
from pathlib import Path

from prefect import flow

from asdcore.storage.files import atomic_write
from asdcore.storage.home import Home
from flows.failures import completed, failed
from tasks.cluster import cluster_address, on_cluster
from tasks.pretraining import pretrained_encoder
from tasks.run_names import add_to_run_name, run_name
from tasks.warn import warn


@flow(name="pretrain", flow_run_name=run_name, on_failure=[failed], on_completion=[completed])
def pretrain(
    file: Path,
    steps: int = 1500,
    seed: int = 0,
    random_machines: int = 400,
    device: str = "cpu",
    home: Path | None = None,
) -> str:
    """Make a base encoder from random machines: their spectrograms at once on the workers of a cluster, then the
    training on one of them. Batches that are there are not made again.

    Args:
        file: where the encoder is written.
        steps: of the training.
        seed: the same seed gives the same encoder on the same processor.
        random_machines: to learn from.
        device: to train on.
        home: where the batches are kept; default ``ASD_HOME`` or ``.asd``.

    Returns:
        The file.
    """
    place = Home.at(home) if home else Home.default()
    add_to_run_name(f", seed {seed}")
    with place.lock(warn), on_cluster(cluster_address()):
        place.sweep()
        encoder = pretrained_encoder(steps, seed, random_machines, device)
        with atomic_write(file) as temporary:
            shutil.copyfile(encoder.path, temporary)
    return str(file)
