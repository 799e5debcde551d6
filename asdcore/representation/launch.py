"""A training in several processes of `torchrun`, which share every batch (gloo on CPU, NCCL on CUDA).

Each process runs this file. The first one tells how it goes in lines of JSON on its standard output; what they write on
standard error is kept in a file and shown where they fail.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import distributed

from asdcore.errors import AsdError
from asdcore.features.store import Store
from asdcore.representation.encoder import TrainedEncoder, choose_device
from asdcore.representation.interruption import Interruption
from asdcore.representation.shown import Progress, Shown
from asdcore.settings import TrainingSettings

MARK = "asd training: "
"""What a line of the first process begins with."""

SECONDS = 0.5
"""Between two lines about progress."""

FAILURE = "failure-{}.txt"
"""What went wrong in one of the processes: a file each, for lines of several processes run into each other."""


def train_in_processes(
    store: Store,
    recordings: pd.DataFrame,
    settings: TrainingSettings,
    checkpoints: Path,
    on_epoch: Callable[[dict[str, float]], None],
    on_progress: Callable[[Progress], None],
    on_warning: Callable[[str], None],
    progress_seconds: float,
    warm_start: Path | None,
) -> TrainedEncoder:
    """As `train`, in ``settings.processes`` processes.

    Raises:
        AsdError: as `train`, or the processes fail.
    """
    with tempfile.TemporaryDirectory(prefix="asd-training-") as temporary:
        folder = Path(temporary)
        recordings.to_parquet(folder / "recordings.parquet")
        (folder / "settings.json").write_text(settings.model_dump_json())
        work = [str(path) for path in (folder, store.folder, checkpoints, *([warm_start] if warm_start else []))]
        torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(settings.processes)]
        command = [sys.executable, "-m", *torchrun, "-m", "asdcore.representation.launch", *work]
        threads = max(1, (os.cpu_count() or 1) // settings.processes)
        environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
        errors = folder / "errors.txt"
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
            )
        with Interruption(process.terminate) as interruption, Shown(on_progress, progress_seconds) as shown:
            try:
                for line in process.stdout or ():
                    if not line.startswith(MARK):
                        continue
                    ((kind, told),) = json.loads(line.removeprefix(MARK)).items()
                    match kind:
                        case "epoch":
                            on_epoch(told)
                        case "progress":
                            shown.show(told)
                        case "warning":
                            on_warning(told)
            finally:
                if process.poll() is None and sys.exc_info()[0]:
                    process.terminate()
                process.wait()
            interruption.act()
        if failures := sorted(folder.glob(FAILURE.format("*"))):
            raise AsdError(failures[0].read_text())
        if process.returncode:
            raise AsdError(
                f"the {settings.processes} processes of the training failed:\n{errors.read_text()[-2000:]}\n"
                "The same command goes on from the last checkpoint; training.processes=1 needs none of them"
            )
        return TrainedEncoder.load(folder / "encoder.safetensors")


def tell(kind: str, what: object) -> None:
    """Say something to the process that has started this one."""
    sys.stdout.write(MARK + json.dumps({kind: what}) + "\n")
    sys.stdout.flush()


def main(folder: Path, store: Path, checkpoints: Path, warm_start: Path | None = None) -> None:
    """The work of one process."""
    from asdcore.representation.training import train

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
