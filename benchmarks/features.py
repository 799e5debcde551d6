"""What the feature cache costs: recordings per second, peak memory, and the cost of a change.

    python benchmarks/features.py [--quick] [--json FILE]

All recordings are simulated. Speed, recordings of 10 s: `asd` (both pitch methods, one process per core, shards
written, checksummed and on disk) against a plain librosa loop in one process that loads, shifts the pitch twice, adds
noise twice, makes seven mel spectrograms and saves them; and against the lower limit, one process that decodes and
makes one STFT. The four take turns; figures are medians over rounds, ratios are medians of the ratios within a round.
Processes are started before. ``processor_ms``: the processor time of all processes together, per recording.

Memory and change, recordings of 1 s and fewer of 10 s: a separate process computes the features of so many recordings
and reads one epoch of batches; its peak is that of the process plus that of its largest child for each core.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import psutil
import soundfile
from joblib import cpu_count
from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_limits

from asdcore.datasets.simulate import simulate
from asdcore.features.batches import batches
from asdcore.features.compute import Clips, compute_features, missing_parts
from asdcore.features.normalisation import Normalisation
from asdcore.features.spectrogram import power_spectrum
from asdcore.features.store import EXTENDS, Store, drop_damaged
from asdcore.recordings.audio import decode
from asdcore.settings import AugmentationSettings, Settings
from asdcore.storage.files import digest_of_file

METHODS = {name: Settings(augmentation=AugmentationSettings(pitch_method=name)) for name in ("spectral", "waveform")}
RATE = 16_000


def plain_loop(paths: Sequence[Path], out: Path) -> None:
    """The simplest program: librosa, one recording after another."""
    rng = np.random.default_rng(0)
    out.mkdir()
    for i, path in enumerate(paths):
        y, rate = librosa.load(path, sr=RATE)
        shifted = [librosa.effects.pitch_shift(y, sr=rate, n_steps=sign * rng.uniform(0, 12)) for sign in (-1, 1)]
        rms = np.sqrt(np.mean(y**2))
        noisy = [y + rms * 10 ** (-rng.uniform(6, 24) / 20) * rng.standard_normal(len(y)) for _ in range(2)]
        masked = [y.copy() for _ in range(2)]
        for copy, seconds in zip(masked, (0.5, 1.0), strict=True):
            start = rng.integers(0, len(y) - int(seconds * rate))
            copy[start : start + int(seconds * rate)] = 0
        seven = [
            librosa.power_to_db(librosa.feature.melspectrogram(y=wave, sr=rate, n_fft=2048, hop_length=512, n_mels=128))
            for wave in (y, *shifted, *noisy, *masked)
        ]
        np.save(out / f"{i}.npy", np.stack(seven))


def lower_limit(paths: Sequence[Path], _: Path) -> None:
    settings = Settings()
    for path in paths:
        power_spectrum(decode(path, settings.recordings).samples, settings.mel)


def asd(settings: Settings, recordings: Clips) -> Callable[[Sequence[Path], Path], None]:
    def run(paths: Sequence[Path], out: Path) -> None:
        compute_features(out, out / f"{EXTENDS}1", recordings[: len(paths)], settings)

    return run


def processor_seconds() -> float:
    """Of this process and its children: what a busy machine does not change as it changes the time that passes."""
    of = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(process.cpu_times().user + process.cpu_times().system for process in of)


def speed(folder: Path, rounds: int, n: int) -> list[dict[str, Any]]:
    """One row per system: recordings per second, and the ratio to the plain loop."""
    paths = simulate(folder / "ten", machines=["simFan"], source_train=n, target_train=0, test_per_kind=0, seconds=10.0)
    recordings = [(digest_of_file(path), str(path)) for path in paths]
    plans = {
        "plain librosa loop": (plain_loop, n // 16),
        "asd, spectral": (asd(METHODS["spectral"], recordings), n),
        "asd, waveform": (asd(METHODS["waveform"], recordings), n),
        "decode and one STFT": (lower_limit, n // 4),
    }
    rates: dict[str, list[float]] = {name: [] for name in plans}
    work: dict[str, list[float]] = {name: [] for name in plans}
    for turn in range(rounds + 1):  # The first one starts the processes and is not counted.
        for name, (run, count) in plans.items():
            out = folder / "out"
            started, worked = time.perf_counter(), processor_seconds()
            with threadpool_limits(1):  # Small matrices: on a busy machine two threads wait for each other.
                run(paths[:count], out)
            if turn:
                rates[name].append(count / (time.perf_counter() - started))
                work[name].append(1000 * (processor_seconds() - worked) / count)
            shutil.rmtree(out, ignore_errors=True)
    plain = np.array(rates["plain librosa loop"])
    return [
        {
            "what": name,
            "a_second": round(float(np.median(values)), 1),
            "times_plain": round(float(np.median(np.array(values) / plain)), 2),
            "processor_ms": round(float(np.median(work[name])), 1),
            "rounds": [round(rate, 1) for rate in values],
        }
        for name, values in rates.items()
    ]


def write_recordings(folder: Path, n: int, seconds: int) -> list[tuple[str, str]]:
    """Noise and a tone, another for each."""
    folder.mkdir(parents=True, exist_ok=True)
    time_axis = np.arange(seconds * RATE) / RATE
    recordings = []
    for i in range(n):
        path = folder / f"{i:05d}.wav"
        if not path.exists():
            rng = np.random.default_rng(i)
            tone = np.sin(2 * np.pi * rng.uniform(100, 4000) * time_axis)
            soundfile.write(path, 0.1 * tone + 0.05 * rng.standard_normal(len(tone)), RATE, subtype="PCM_16")
        recordings.append((digest_of_file(path), str(path)))
    return recordings


def complete(store: Path, recordings: Clips, settings: Settings, seed: int) -> tuple[float, float]:
    """What the features stage does, without Prefect: check shards, find what is missing, compute it.

    Returns:
        Seconds that passed, and of the processors.
    """
    settings = settings.model_copy(update={"augmentation": AugmentationSettings(pitch_method="spectral", seed=seed)})
    variants = store / f"{EXTENDS}{seed}"
    started, worked = time.perf_counter(), processor_seconds()
    for folder in (store, variants):
        drop_damaged(folder)
    path_of = dict(recordings)
    for (originals, extended), digests in missing_parts(store, variants, list(path_of)).items():
        compute_features(originals, extended, [(digest, path_of[digest]) for digest in digests], settings)
    return time.perf_counter() - started, processor_seconds() - worked


def in_this_process(n: int, seconds: int, folder: Path) -> dict[str, Any]:
    """Time and peak memory of the features of n recordings and of an epoch of batches; then what changes cost."""
    recordings = write_recordings(folder, n + n // 100, seconds)
    settings = METHODS["spectral"]
    with tempfile.TemporaryDirectory() as temporary:
        store = Path(temporary) / "store"
        compute_features(Path(temporary) / "warm", None, recordings[:256], settings)
        full, full_work = complete(store, recordings[:n], settings, 0)
        digests = [digest for digest, _ in recordings[:n]]
        opened = Store(store / f"{EXTENDS}0")
        normalisation = Normalisation.fit(opened.read(digest, "original") for digest in digests)
        started = time.perf_counter()
        for batch in batches(opened, digests, normalisation, batch_size=48, crop_frames=32, seed=0, epoch=0):
            assert batch.original.shape == batch.variant.shape
        epoch = time.perf_counter() - started
        get_reusable_executor().shutdown(wait=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        compute_features(Path(temporary) / "warm2", None, recordings[:256], settings)
        # A single shard is computed in this process, which has to be warm, too.
        compute_features(Path(temporary) / "warm3", Path(temporary) / "warm3" / f"{EXTENDS}0", recordings[:1], settings)
        nothing, _ = complete(store, recordings[:n], settings, 0)
        more, more_work = complete(store, recordings, settings, 0)
        other_noise, _ = complete(store, recordings, settings, 1)
        size = sum(path.stat().st_size for path in store.rglob("*.parquet"))
    return {
        "recordings": n,
        "of_s": seconds,
        "peak_mib": round((peak + child * cpu_count()) / 1024),
        "a_second": round(n / full, 1),
        "seconds": round(full, 2),
        "epoch_seconds": round(epoch, 2),
        "nothing_new_percent": round(100 * nothing / full, 2),
        "one_percent_new_percent": round(100 * more / full, 2),
        "one_percent_new_processor_percent": round(100 * more_work / full_work, 2),
        "only_variants_percent": round(100 * other_noise / full, 1),
        "mib": round(size / 2**20),
    }


def growth(folder: Path, sizes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """`in_this_process` for each number of recordings of so many seconds, each in a separate process."""
    rows = []
    for n, seconds in sizes:
        command = [sys.executable, __file__, "--one", str(n), str(seconds), str(folder / f"of {seconds} s")]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        rows.append(json.loads(ran.stdout.splitlines()[-1]))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    names = [name for name in rows[0] if name != "rounds"]
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---:" for _ in names) + " |"]
    return "\n".join(lines + ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller: about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as one JSON object; - is stdout")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        n, seconds, of = arguments.one
        print(json.dumps(in_this_process(int(n), int(seconds), Path(of))))
        return
    n, sizes, rounds = 256, [(500, 1), (2000, 1), (8000, 1), (2000, 10)], 5
    if arguments.quick:
        sizes, rounds = [(500, 1), (1000, 1)], 2
    with tempfile.TemporaryDirectory() as temporary:
        rows = speed(Path(temporary), rounds, n)
        sizes_rows = growth(Path(temporary), sizes)
    figures = {"benchmark": "features", "data": "simulated", "cores": cpu_count(), "speed": rows, "growth": sizes_rows}
    if arguments.json and str(arguments.json) == "-":
        print(json.dumps(figures))
        return
    print(f"Simulated recordings of 10 s, {cpu_count()} cores, {rounds} rounds\n{table(rows)}")
    print(f"Growth and change\n{table(sizes_rows)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
