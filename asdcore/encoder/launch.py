"""Start a training in this process, or distributed over several of `torchrun` (gloo on CPU, NCCL on CUDA).

Each of those runs `asdcore.encoder.process`. The first one reports its progress in lines of JSON on standard output;
their standard error is collected in a file and shown if they fail.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from asdcore.encoder.interruption import Interruption
from asdcore.encoder.network import TrainedEncoder
from asdcore.encoder.process import FAILURE, MARK
from asdcore.encoder.reporting import Progress, Shown
from asdcore.encoder.training import train
from asdcore.errors import AsdError
from asdcore.features.store import Store
from asdcore.progress import say
from asdcore.settings import TrainingSettings


def start_training(
    store: Store,
    recordings: pd.DataFrame,
    settings: TrainingSettings,
    checkpoints: Path,
    on_epoch: Callable[[dict[str, float]], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_warning: Callable[[str], None] = say,
    warm_start: Path | None = None,
) -> TrainedEncoder:
    """`asdcore.encoder.training.train` in ``settings.processes`` processes; arguments and errors are the same.

    Raises:
        AsdError: as `train`, or the processes fail.
    """
    if settings.processes == 1:
        return train(store, recordings, settings, checkpoints, on_epoch, on_progress, on_warning, warm_start=warm_start)
    return _train_in_processes(store, recordings, settings, checkpoints, on_epoch, on_progress, on_warning, warm_start)


def _train_in_processes(
    store: Store,
    recordings: pd.DataFrame,
    settings: TrainingSettings,
    checkpoints: Path,
    on_epoch: Callable[[dict[str, float]], None],
    on_progress: Callable[[Progress], None],
    on_warning: Callable[[str], None],
    warm_start: Path | None,
) -> TrainedEncoder:
    with tempfile.TemporaryDirectory(prefix="asd-training-") as temporary:
        folder = Path(temporary)
        recordings.to_parquet(folder / "recordings.parquet")
        (folder / "settings.json").write_text(settings.model_dump_json())
        work = [str(path) for path in (folder, store.folder, checkpoints, *([warm_start] if warm_start else []))]
        torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(settings.processes)]
        command = [sys.executable, "-m", *torchrun, "-m", "asdcore.encoder.process", *work]
        threads = max(1, (os.cpu_count() or 1) // settings.processes)
        environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
        errors = folder / "errors.txt"
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
            )
        with Interruption(process.terminate) as interruption, Shown(on_progress) as shown:
            try:
                for line in process.stdout or ():
                    if not line.startswith(MARK):
                        continue
                    ((kind, message),) = json.loads(line.removeprefix(MARK)).items()
                    match kind:
                        case "epoch":
                            on_epoch(message)
                        case "progress":
                            shown.show(message)
                        case "warning":
                            on_warning(message)
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
                "The same command resumes from the last checkpoint; training.processes=1 trains in this process"
            )
        return TrainedEncoder.load(folder / "encoder.safetensors")
