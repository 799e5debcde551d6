"""What the tables cost at the size of a plant: a million recordings, without their sounds.

    python benchmarks/scale.py [--recordings 1000000] [--quick] [--json FILE]

Simulated: a table of recordings with so many rows, and a feature store with so many originals and variants in shards of
the usual number of rows, but of two values each: what it takes to find an array depends on their number, not on their
length. Then recordings of 10 s are ingested into that table, the second time known. Seconds, and what resident memory
grows by.
"""

import argparse
import gc
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from asdcore.datasets.simulate import simulate
from asdcore.features.augmentation import VARIANTS
from asdcore.features.compute import SHARD_SIZE, missing_parts
from asdcore.features.shard import new_shard
from asdcore.features.store import EXTENDS, Store, drop_damaged, mark_verified
from asdcore.recordings.catalog import SCHEMA, Catalog
from asdcore.recordings.names import find_recordings
from asdcore.settings import RecordingSettings

INGESTED = 256


def write_table(folder: Path, digests: list[str]) -> None:
    n = len(digests)
    known: dict[str, Any] = {name: [""] * n for name in SCHEMA.names}
    known |= {"recording": digests, "path": [f"/plant/line/machine/train/{digest}.wav" for digest in digests]}
    known |= {"machine": [f"machine{i % 100:02d}" for i in range(n)], "split": ["train"] * n, "label": ["normal"] * n}
    known |= {"seconds": [10.0] * n, "sample_rate": [16000] * n, "channels": [1] * n, "labelled_by": [None] * n}
    known |= {"ingested_at": [datetime.now(UTC)] * n, "labelled_at": [None] * n, "attributes": ["{}"] * n}
    folder.mkdir()
    pq.write_table(pa.table(known, schema=SCHEMA), folder / "part-000000-simulated.parquet")


def write_store(folder: Path, digests: list[str]) -> None:
    value = np.zeros((2, 1), np.float16)
    for place, columns in ((folder, ("original",)), (folder / f"{EXTENDS}1", VARIANTS)):
        shards = []
        for start in range(0, len(digests), SHARD_SIZE):
            with new_shard(place) as shard:
                for digest in digests[start : start + SHARD_SIZE]:
                    shard.add(digest, dict.fromkeys(columns, value))
            shards.append(shard.path)
        mark_verified(path for path in shards if path)


def measure(folder: Path, n: int) -> list[dict[str, Any]]:
    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(n)]
    table, originals = folder / "recordings", folder / "features"
    variants = originals / f"{EXTENDS}1"
    write_table(table, digests)
    write_store(originals, digests)
    kept: list[object] = []
    rows: list[dict[str, Any]] = []

    @contextmanager
    def timed(what: str) -> Iterator[None]:
        gc.collect()
        before, started = psutil.Process().memory_info().rss, time.perf_counter()
        yield
        seconds, grown = time.perf_counter() - started, psutil.Process().memory_info().rss - before
        rows.append({"what": what, "seconds": round(seconds, 1), "mib": max(round(grown / 2**20), 0)})

    def step(what: str, work: Callable[[], object]) -> None:
        with timed(what):
            kept.append(work())

    step("read the table of recordings", lambda: Catalog(table))
    step("look whether a shard has changed", lambda: [drop_damaged(place) for place in (originals, variants)])
    step("open the feature store", lambda: Store(variants))
    step("find what lacks features", lambda: missing_parts(originals, variants, digests))
    paths = simulate(
        folder / "ten", machines=["simFan"], source_train=INGESTED, target_train=0, test_per_kind=0, seconds=10.0
    )
    assert len(paths) == INGESTED
    for what in ("new", "known"):
        step(
            f"ingest {INGESTED} {what} recordings of 10 s",
            lambda: Catalog(table).ingest(find_recordings(folder / "ten"), RecordingSettings()),
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=1_000_000, help="how many")
    parser.add_argument("--quick", action="store_true", help="20,000 recordings: under half a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as one JSON object; - is stdout")
    arguments = parser.parse_args()
    n = 20_000 if arguments.quick else arguments.recordings
    with tempfile.TemporaryDirectory() as temporary:
        rows = measure(Path(temporary), n)
    figures = {"benchmark": "scale", "data": "simulated", "recordings": n, "rows": rows}
    if arguments.json and str(arguments.json) == "-":
        print(json.dumps(figures))
        return
    print(f"Simulated: {n:,} recordings\n| what | s | MiB more |\n| --- | ---: | ---: |")
    for row in rows:
        print(f"| {row['what']} | {row['seconds']} | {row['mib']:,} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
