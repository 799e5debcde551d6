"""One of the processes of a training that `torchrun` has started; see `asdcore.encoder.launch`."""

import json
import os
import sys
from pathlib import Path

import pandas as pd
import torch
from torch import distributed

from asdcore.encoder.network import choose_device
from asdcore.encoder.training import train
from asdcore.errors import AsdError
from asdcore.features.store import Store
from asdcore.settings import TrainingSettings

MARK = "asd training: "
"""Prefix of the progress lines of the first process."""

SECONDS = 0.5
"""Interval between progress lines."""

FAILURE = "failure-{}.txt"
"""File with a process's error: one per process, since lines of several processes would be interleaved."""


def send(kind: str, content: object) -> None:
    """Send a message to the parent process."""
    sys.stdout.write(MARK + json.dumps({kind: content}) + "\n")
    sys.stdout.flush()


def main(folder: Path, store: Path, checkpoints: Path, warm_start: Path | None = None) -> None:
    """The work of one process."""
    settings = TrainingSettings.model_validate_json((folder / "settings.json").read_text())
    recordings = pd.read_parquet(folder / "recordings.parquet")
    first, cuda = os.environ["RANK"] == "0", choose_device(settings.device).type == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if cuda else "gloo")

    def quiet(*_: object) -> None:
        pass

    try:
        trained = train(
            Store(store),
            recordings,
            settings,
            checkpoints,
            on_epoch=(lambda metrics: send("epoch", metrics)) if first else quiet,
            on_progress=(lambda progress: send("progress", progress)) if first else quiet,
            on_warning=(lambda warning: send("warning", warning)) if first else quiet,
            progress_seconds=SECONDS,
            warm_start=warm_start,
        )
        if first:
            trained.save(folder / "encoder.safetensors")
    except AsdError as error:
        (folder / FAILURE.format(os.environ["RANK"])).write_text(str(error))
        sys.exit(1)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
