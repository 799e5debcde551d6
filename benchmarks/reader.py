"""How fast the reader feeds a training: pairs per second, against reading the same bytes raw from one file.

    python benchmarks/reader.py [--quick] [--json FILE]

The store is simulated: recordings of 10 s (313 frames of 128 mel bands, float16) with random values. A pair is 128
frames of an original and the same frames of one of its six variants, in random order. ``raw``: ``seek`` and
``readinto`` of as many bytes, view by view, at random places of one file that holds the same bytes, into a new array
for each batch; ``raw, dropped``: nothing is kept of it. All come from the page cache. Pairs per second are per core,
that is by the processor time of all threads; ways take turns, figures are medians over rounds, ratios medians of the
ratios within a round.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asdcore.features.augmentation import VARIANTS
from asdcore.features.batches import Batch, batches
from asdcore.features.normalisation import Normalisation
from asdcore.features.preload import preload
from asdcore.features.store import EXTENDS, Store, write_shard

MELS, FRAMES, CROP, BATCH = 128, 313, 128, 48
SHARD = 128


def write_store(folder: Path, n: int) -> tuple[Path, list[str]]:
    rng = np.random.default_rng(0)
    digests = [f"{i:064d}" for i in range(n)]
    some = [rng.normal(-40, 10, (MELS, FRAMES)).astype(np.float16) for _ in range(16)]

    def arrays(names: tuple[str, ...]) -> dict[str, np.ndarray[Any, np.dtype[np.float16]]]:
        return {name: some[rng.integers(len(some))] for name in names}

    variants = folder / f"{EXTENDS}1"
    for start in range(0, n, SHARD):
        piece = digests[start : start + SHARD]
        write_shard(folder, ((digest, arrays(("original",))) for digest in piece))
        write_shard(variants, ((digest, arrays(VARIANTS)) for digest in piece))
    return variants, digests


def raw(path: Path, pairs: int, keep: bool) -> None:
    """As many bytes as ``pairs`` pairs hold, view by view."""
    size = CROP * MELS * 2
    places = np.random.default_rng(0).integers(0, path.stat().st_size - size, (pairs // BATCH, 2 * BATCH)).tolist()
    with path.open("rb", buffering=0) as file:
        for batch in places:
            out = np.empty((len(batch), size), np.uint8)
            for i, place in enumerate(batch):
                file.seek(place)
                if keep:
                    file.readinto(out[i].data)
                else:
                    file.read(size)


def measure(folder: Path, n: int, rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One row per way, and what one epoch read."""
    variants, digests = write_store(folder / "store", n)
    single_file = folder / "one"
    with single_file.open("wb") as file:
        for shard in (folder / "store").rglob("*.parquet"):
            file.write(shard.read_bytes())
    opened, held = Store(variants), preload(Store(variants), digests, torch.device("cpu"))
    normalisation = Normalisation(np.full((MELS, 1), -40, np.float32), np.full((MELS, 1), 10, np.float32))
    pairs = n // BATCH * BATCH
    cpu = torch.device("cpu")

    def epoch(of: Any, use: Callable[[Batch], object]) -> None:
        seen = 0
        for batch in batches(of, digests, normalisation, batch_size=BATCH, crop_frames=CROP, seed=0, epoch=0):
            use(batch)
            seen += len(batch.recordings)
        assert seen == pairs

    ways: dict[str, Callable[[], None]] = {
        "raw": lambda: raw(single_file, pairs, keep=True),
        "raw, dropped": lambda: raw(single_file, pairs, keep=False),
        "reader, frames": lambda: epoch(opened, lambda batch: batch.frames),
        "reader, frames, checksums of a first epoch": lambda: epoch(Store(variants), lambda batch: batch.frames),
        "reader, normalised tensor": lambda: epoch(opened, lambda batch: batch.on(cpu)),
        "held in memory, frames": lambda: epoch(held, lambda batch: batch.frames),
        "held in memory, normalised tensor": lambda: epoch(held, lambda batch: batch.on(cpu)),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, run in ways.items():
            started = time.process_time()
            run()
            if turn:
                rates[name].append(pairs / (time.process_time() - started))
    base = np.array(rates["raw"])
    rows = [
        {
            "way": name,
            "pairs_a_second_a_core": round(float(np.median(values))),
            "of_raw": round(float(np.median(np.array(values) / base)), 2),
            "rounds": [round(rate) for rate in values],
        }
        for name, values in rates.items()
    ]
    return rows, decoded(Store(variants), digests, normalisation)


def decoded(store: Store, digests: list[str], normalisation: Normalisation) -> dict[str, Any]:
    """Bytes that reading one batch takes from the files, over the bytes that it returns: the first time, and later."""
    taken = 0

    def counting(descriptor: int, buffers: Any, position: int) -> int:
        nonlocal taken
        taken += sum(buffer.nbytes for buffer in buffers)
        return preadv(descriptor, buffers, position)

    preadv, shares = os.preadv, []
    os.preadv = counting
    try:
        for _ in range(2):
            taken = 0
            (batch,) = batches(
                store, digests[:BATCH], normalisation, batch_size=BATCH, crop_frames=CROP, seed=0, epoch=0
            )
            shares.append(round(taken / batch.frames.nbytes, 2))
    finally:
        os.preadv = preadv
    return {"first_time": shares[0], "later": shares[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer recordings and rounds: under half a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as one JSON object; - is stdout")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    n, rounds = (480, 3) if arguments.quick else (2880, 7)
    with tempfile.TemporaryDirectory() as temporary:
        rows, read = measure(Path(temporary), n, rounds)
    if arguments.json and str(arguments.json) == "-":
        print(json.dumps({"benchmark": "reader", "data": "simulated", "recordings": n, "rows": rows, "read": read}))
        return
    print(f"Simulated store of {n} recordings of 10 s, {rounds} rounds")
    print("| way | pairs a second a core | of raw |\n| --- | ---: | ---: |")
    for row in rows:
        print(f"| {row['way']} | {row['pairs_a_second_a_core']:,} | {row['of_raw']:.2f} |")
    print(f"Bytes read for a batch / bytes returned: {read['first_time']} the first time, {read['later']} later")
    if arguments.json:
        figures = {"benchmark": "reader", "data": "simulated", "recordings": n, "rows": rows, "read": read}
        arguments.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
