"""How long the default detector takes: a whole retraining, and the score of one recording.

    python benchmarks/speed.py [--quick] [--json] [--machines 8] [--recordings 200]

Simulated recordings of 10 s. The retraining is the command `asd retrain` in a new home, with everything that belongs to
it (Prefect's temporary server, registration, plots). Scoring is warm, with the detector that it made: `Detector.score`
of 20 recordings against the least that they need, decode + log-mel spectrogram + forward pass of the encoder; the two
take turns, ten rounds. Milliseconds a recording are medians, the ratio is the median of the ratios.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from asdcore.datasets.simulate import MACHINES, waveform
from asdcore.detector import Detector
from asdcore.encoder.embedding import embeddings
from asdcore.features.spectrogram import as_stored, spectrogram
from asdcore.progress import progress
from asdcore.recordings.audio import decode
from asdcore.settings import Settings
from asdcore.storage.files import digest_of

SECONDS = 10.0
SCORED, ROUNDS = 20, 10


def record(folder: Path, machines: int, recordings: int) -> None:
    """Normal recordings of the simulated machines, each under several names, and some to score."""
    for index in progress(range(machines), "machines"):
        kind = MACHINES[index % len(MACHINES)]
        for split, count in (("train", recordings), ("score", SCORED if not index else 0)):
            place = folder / split / f"{kind}{index}"
            place.mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng(int(digest_of("speed", str(index), split, str(number)), 16))
                samples = waveform(kind, domain="source", label="normal", rng=rng, seconds=SECONDS)
                soundfile.write(place / f"{number:04}.wav", samples, 16_000)


def retrained(folder: Path, home: Path) -> float:
    """Seconds of `asd retrain`."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "flows.cli", "retrain", "--recordings", str(folder / "train"), "--home", str(home)]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def scored(paths: list[Path], detector: Detector) -> tuple[list[float], list[float]]:
    """Seconds a recording of each round: of the score of all of them, and of the least that it needs."""
    settings = Settings()
    whole, least = [], []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        detector.score(paths)
        middle = time.perf_counter()
        for path in paths:
            samples = decode(path, settings.recordings).samples
            one = as_stored(spectrogram(samples, settings.recordings.sample_rate, settings.mel))
            list(embeddings(detector.encoder, [one], torch.device("cpu")))
        whole.append((middle - started) / len(paths))
        least.append((time.perf_counter() - middle) / len(paths))
    return whole[1:], least[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two machines of 20 recordings")
    parser.add_argument("--json", action="store_true", help="the results as one JSON object")
    parser.add_argument("--machines", type=int, default=8)
    parser.add_argument("--recordings", type=int, default=200, help="of each machine")
    arguments = parser.parse_args()
    machines, recordings = (2, 20) if arguments.quick else (arguments.machines, arguments.recordings)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        record(folder / "sounds", machines, recordings)
        seconds = retrained(folder / "sounds", folder / "home")
        made = next((folder / "home" / "runs" / "detectors").iterdir())
        paths = sorted((folder / "sounds" / "score").rglob("*.wav"))
        whole, least = scored(paths, Detector.load(made))
    found: dict[str, Any] = {
        "benchmark": "speed",
        "machines": machines,
        "recordings": recordings,
        "retrain_seconds": round(seconds, 1),
        "score_ms": round(1000 * float(np.median(whole)), 1),
        "least_ms": round(1000 * float(np.median(least)), 1),
        "ratio": round(float(np.median(np.divide(whole, least))), 2),
    }
    if arguments.json:
        print(json.dumps(found))
    else:
        print(f"asd retrain, {machines} machines of {recordings} recordings of 10 s: {found['retrain_seconds']:g} s")
        print(f"score: {found['score_ms']:g} ms; decode, spectrogram and encoder alone: {found['least_ms']:g} ms")
        print(f"ratio: {found['ratio']:g}")


if __name__ == "__main__":
    main()
