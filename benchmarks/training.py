"""What a training costs beyond the network itself, its total cost, and what a warm start saves.

    python benchmarks/training.py [--quick] [--json] [--compile]

``real``: `train`, with reading, normalising, figures, progress and checkpoints; ``bare``: forward, loss, backward and
optimiser step on one batch that is in memory already, channels_last as well. They take turns; a ratio is the median
over rounds, and so is every time. Recordings are **simulated**.

``memory``: peak resident memory of a process that takes one step with 48 recordings of 313 frames, by the size of the
micro-batches. ``operations``: of forward and backward, counted by torch, for a view of 313 frames. ``warm``: a champion
trained on two thirds of the recordings, then a training on all of them from random weights and one from the
champion's: the validation loss by epoch.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from asdcore.datasets.simulate import simulate
from asdcore.encoder.distributed import World
from asdcore.encoder.labels import Labels
from asdcore.encoder.losses import NTXent, nt_xent
from asdcore.encoder.network import build_encoder
from asdcore.encoder.precision import cast
from asdcore.encoder.step import backward
from asdcore.encoder.training import train
from asdcore.features.compute import compute_features
from asdcore.features.store import EXTENDS, Store
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.names import find_recordings
from asdcore.recordings.training import training_recordings
from asdcore.settings import Settings, TrainingSettings

CPU = torch.device("cpu")
MELS, WHOLE = 128, 313
"""bands, and frames of 10 s"""


def simulated(folder: Path, per_machine: int) -> tuple[Store, pd.DataFrame]:
    """A store with the spectrograms of the training recordings of three simulated machines, and their table."""
    source, target = per_machine - per_machine // 10, per_machine // 10
    simulate(folder / "simulated", source_train=source, target_train=target, test_per_kind=0)
    settings = Settings.preset("demo")
    catalog = Catalog(folder / "recordings")
    catalog.ingest(find_recordings(folder / "simulated"), settings.recordings)
    rows = training_recordings(catalog.recordings)
    variants = folder / "features" / f"{EXTENDS}1"
    pairs = list(rows[["recording", "path"]].itertuples(index=False, name=None))
    compute_features(folder / "features", variants, pairs, settings)
    return Store(variants), rows[["recording", "machine", "attributes"]]


def bare(architecture: str, batch: int, frames: int, steps: int, compiled: bool = False) -> float:
    """Seconds per step on a batch in memory, the median of ``steps`` after two more."""
    torch.manual_seed(0)
    encoder = build_encoder(architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = torch.compile(encoder) if compiled else encoder
    optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    x = torch.randn(2 * batch, 1, MELS, frames).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(steps + 2):
        started = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        _, z = model(x)
        nt_xent(z[:batch], z[batch:], 0.05).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        times.append(time.perf_counter() - started)
    return float(np.median(times[2:]))


def real(store: Store, rows: pd.DataFrame, settings: TrainingSettings, folder: Path) -> float:
    """Seconds per step of a whole training, its first epoch and what comes before it left out: the mean."""
    ends: list[float] = []
    train(store, rows, settings, folder, on_epoch=lambda _: ends.append(time.perf_counter()))
    steps = len(rows) // settings.batch_size * (settings.epochs - 1)
    return (ends[-1] - ends[0]) / steps


def overhead(
    store: Store, rows: pd.DataFrame, frames: int, rounds: int, compiled: bool, folder: Path
) -> dict[str, Any]:
    """Steps per second, real against bare."""
    batch = 48
    settings = TrainingSettings(loss="nt_xent", crop_frames=frames, batch_size=batch, epochs=3, cycles=1, device="cpu")
    steps = len(rows) // batch * (settings.epochs - 1)
    pairs = [
        (bare("resnet18", batch, frames, steps), real(store, rows, settings, folder / f"{frames}-{turn}"))
        for turn in range(rounds)
    ]
    row = {
        "frames": frames,
        "bare_seconds": float(np.median([a for a, _ in pairs])),
        "real_seconds": float(np.median([b for _, b in pairs])),
        "real_of_bare": float(np.median([a / b for a, b in pairs])),
        "rounds": [round(a / b, 3) for a, b in pairs],
    }
    if compiled:
        row["compiled_of_bare"] = row["bare_seconds"] / bare("resnet18", batch, frames, steps, compiled=True)
    return row


def operations(architecture: str, frames: int) -> float:
    """Floating point operations of one view, forward and backward."""
    encoder = build_encoder(architecture)
    counter = FlopCounterMode(display=False)
    with counter:
        _, z = encoder(torch.randn(2, 1, MELS, frames))
        z.sum().backward()
    return counter.get_total_flops() / 2


def one_step(architecture: str, micro_batch: int | None) -> float:
    """Peak resident memory of this process, MiB, after a step with 48 recordings of `WHOLE` frames."""
    n = 48
    encoder = build_encoder(architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(encoder.parameters())
    x = torch.randn(2 * n, 1, MELS, WHOLE).contiguous(memory_format=torch.channels_last)
    zeros = torch.zeros(2 * n, dtype=torch.int64)
    labels = Labels(zeros, zeros, zeros)
    backward(
        encoder, NTXent(0.05), x, labels, world=World(), micro_batch=micro_batch, cast=partial(cast, "float32", CPU)
    )
    optimiser.step()
    # Linux only. ru_maxrss would not do: a process that is started begins with the one of its parent.
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1024


def memory(architecture: str, micro_batch: int | None) -> float:
    """`one_step` in a separate process."""
    command = [sys.executable, __file__, "--memory-of", architecture, str(micro_batch or 0)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def warm_start(store: Store, rows: pd.DataFrame, epochs: int, folder: Path) -> dict[str, list[float]]:
    """Validation loss by epoch: of a training on all recordings from random weights, and from a champion's."""
    settings = TrainingSettings(
        crop_frames=32, batch_size=24, epochs=epochs, cycles=4, validation_fraction=0.2, patience=epochs, device="cpu"
    )
    earlier = rows.iloc[np.arange(len(rows)) % 3 < 2]
    train(store, earlier, settings, folder / "champion").save(folder / "champion.safetensors")
    losses = {}
    for name, first in (("cold", None), ("warm", folder / "champion.safetensors")):
        trained = train(store, rows, settings, folder / name, warm_start=first)
        losses[name] = [round(row["validation_loss"], 3) for row in trained.history]
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short views and few rounds: under a minute")
    parser.add_argument("--json", action="store_true", help="the results as one JSON object")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well: minutes more, a C++ compiler")
    parser.add_argument("--memory-of", nargs=2, metavar=("ENCODER", "MICRO_BATCH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        architecture, micro_batch = arguments.memory_of
        print(one_step(architecture, int(micro_batch) or None))
        return
    quick = arguments.quick
    figures: dict[str, Any] = {"benchmark": "training", "data": "simulated", "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store, rows = simulated(folder, 50 if quick else 80)
        lengths = [32] if quick else [32, 128]
        figures["overhead"] = []
        for frames in lengths:
            rounds = 2 if quick else 5 if frames < 100 else 3
            figures["overhead"].append(overhead(store, rows, frames, rounds, arguments.compile, folder))
        figures["operations"] = {name: operations(name, WHOLE) for name in ("resnet18", "resnet50")}
        if not quick:
            figures["step_of_48_x_313"] = {name: bare(name, 48, WHOLE, 2) for name in ("resnet18", "resnet50")}
            figures["memory_mib"] = {
                f"{name}, {f'micro-batches of {micro_batch}' if micro_batch else 'whole'}": memory(name, micro_batch)
                for name, micro_batch in (("resnet18", None), ("resnet18", 12), ("resnet50", None), ("resnet50", 12))
            }
            figures["validation_loss"] = warm_start(store, rows, 16, folder)
    print(json.dumps(figures) if arguments.json else told(figures))


def told(figures: dict[str, Any]) -> str:
    lines = [f"Simulated recordings, {figures['threads']} threads", ""]
    lines += ["| frames | bare, s per step | real, s per step | real of bare |", "| ---: | ---: | ---: | ---: |"]
    for row in figures["overhead"]:
        lines.append(
            f"| {row['frames']} | {row['bare_seconds']:.3f} | {row['real_seconds']:.3f} | {row['real_of_bare']:.3f} |"
        )
        if "compiled_of_bare" in row:
            lines.append(f"torch.compile, {row['frames']} frames: {row['compiled_of_bare']:.2f} times the steps")
    lines += ["", *(f"{name}: {n / 1e9:.1f} GFLOP per view" for name, n in figures["operations"].items())]
    for name, seconds in figures.get("step_of_48_x_313", {}).items():
        lines.append(f"{name}: {seconds:.1f} s per step of 48 recordings of 313 frames, bare")
    lines += [f"{name}: {mib:.0f} MiB" for name, mib in figures.get("memory_mib", {}).items()]
    for name, losses in figures.get("validation_loss", {}).items():
        lines.append(f"{name} start, validation loss by epoch: {' '.join(map(str, losses))}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
