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
"""Prefix of the lines that the first process writes about its progress."""

SECONDS = 0.5
"""Between two lines about progress."""

FAILURE = "failure-{}.txt"
"""What went wrong in one of the processes: a file each, since lines of several processes would run into each other."""


def tell(kind: str, what: object) -> None:
    """Say something to the process that has started this one."""
    sys.stdout.write(MARK + json.dumps({kind: what}) + "\n")
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
            on_epoch=(lambda told: tell("epoch", told)) if first else quiet,
            on_progress=(lambda told: tell("progress", told)) if first else quiet,
            on_warning=(lambda told: tell("warning", told)) if first else quiet,
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
