"""One verdict from many clips: false alarms and faults found for recordings of 1 to 10 clips.

    python benchmarks/clips.py --data DATA [--quick] [--json]

``DATA`` holds ``real-fan`` (75 normal recordings of a fan, 10 s), cut into 10 clips of 1 s. In each of several draws,
40 recordings train (the scorers of the default detector, fused, calibrated with each recording left out) and the others
are judged at 10 %, as they are and with a pseudo-fault in all clips or in one. Five ways to make one verdict of the
clips: the named alternative, *any clip* anomalous; the mean, the median and the upper quartile of their scores,
calibrated as one clip; Bonferroni's correction of the smallest p-value. Printed last: false alarms of *any clip* over
those of the quartile.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from asdcore.encoder.base import load_base
from asdcore.encoder.embedding import embeddings
from asdcore.evaluation.pseudo_faults import KINDS, pseudo_fault
from asdcore.features.spectrogram import as_stored, spectrogram
from asdcore.normality.calibration import Calibration
from asdcore.normality.machine import MachineModel, Vectors
from asdcore.normality.scorers import Embedding, build_scorers, features_of
from asdcore.progress import progress
from asdcore.settings import MelSettings, NormalitySettings

RATE, CLIPS, TRAINING, ASKED, STRENGTH = 16_000, 10, 40, 0.1, 0.3
COUNTS = (1, 2, 5, 10)
SCORERS = list(build_scorers(NormalitySettings()).values())
ENCODER = load_base()
Floats = NDArray[np.floating]

WAYS: dict[str, Callable[[Floats, Calibration], float]] = {
    "any clip": lambda scores, calibration: calibration.p_value(scores).min(),
    "mean": lambda scores, calibration: calibration.p_value(scores.mean()),
    "median": lambda scores, calibration: calibration.p_value(np.median(scores)),
    "upper quartile": lambda scores, calibration: calibration.p_value(np.quantile(scores, 0.75)),
    "Bonferroni": lambda scores, calibration: len(scores) * calibration.p_value(scores).min(),
}


def vectors_of(clips: list[NDArray[np.float32]]) -> Vectors:
    made = [as_stored(spectrogram(clip, RATE, MelSettings())) for clip in clips]
    embedded = embeddings(ENCODER, made, torch.device("cpu"))
    rows = [features_of(SCORERS, one, Embedding(*both)) for one, both in zip(made, embedded, strict=True)]
    return {scorer.name: np.stack([row[scorer.name] for row in rows]) for scorer in SCORERS}


def recordings(folder: Path, most: int) -> dict[str, list[Vectors]]:
    """The clips of each recording: normal, with a fault in all clips, and with one in a single clip."""
    rng = np.random.default_rng(0)
    found: dict[str, list[Vectors]] = {"normal": [], "fault in all clips": [], "fault in one clip": []}
    for file in progress(sorted(folder.rglob("*.flac"))[:most], "features"):
        samples, _ = soundfile.read(file, dtype="float32")
        clips = np.array_split(samples, CLIPS)
        kind = list(KINDS)[rng.integers(len(KINDS))]
        faulty = [pseudo_fault(clip, RATE, kind, STRENGTH, rng) for clip in clips]
        one = rng.integers(CLIPS)
        found["normal"].append(vectors_of(clips))
        found["fault in all clips"].append(vectors_of(faulty))
        found["fault in one clip"].append(vectors_of([faulty[i] if i == one else clips[i] for i in range(CLIPS)]))
    return found


def alarms(found: dict[str, list[Vectors]], training: int, draws: int) -> dict[str, dict[str, dict[int, float]]]:
    """what: way: clips of a recording: percent that are anomalous."""
    called: dict[tuple[str, str, int], list[bool]] = {}
    for draw in progress(range(draws), "draws"):
        order = np.random.default_rng(draw).permutation(len(found["normal"]))
        chosen = [found["normal"][i] for i in order[:training]]
        groups = np.repeat(np.arange(training), CLIPS).astype(str)
        joined = {scorer.name: np.concatenate([clips[scorer.name] for clips in chosen]) for scorer in SCORERS}
        models = {scorer.name: scorer.model().fit(joined[scorer.name], groups=groups) for scorer in SCORERS}
        machine = MachineModel(models, groups=groups)
        for what, all_of_them in found.items():
            for i in order[training:]:
                scores = machine.verdict(all_of_them[i], ASKED)["score"].to_numpy()
                for way, p_value in WAYS.items():
                    for count in COUNTS:
                        p = float(p_value(scores[:count], machine.calibration))
                        called.setdefault((what, way, count), []).append(p <= ASKED)
    return {
        what: {way: {count: 100 * float(np.mean(called[what, way, count])) for count in COUNTS} for way in WAYS}
        for what in found
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of real-fan")
    parser.add_argument("--quick", action="store_true", help="30 recordings, two draws")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = recordings(options.data / "real-fan", 30 if options.quick else 75)
    percent = alarms(found, 20 if options.quick else TRAINING, 2 if options.quick else 20)
    false = percent["normal"]
    ratio = false["any clip"][CLIPS] / max(false["upper quartile"][CLIPS], 0.1)
    if options.json:
        print(json.dumps({"percent": percent, "ratio": ratio}))
        return
    for what, ways in percent.items():
        print(f"\n| {what}, percent anomalous | " + " | ".join(f"{count} clips" for count in COUNTS) + " |")
        print("|---|" + "---:|" * len(COUNTS))
        for way, by_count in ways.items():
            print(f"| {way} | " + " | ".join(f"{by_count[count]:.1f}" for count in COUNTS) + " |")
    print(f"\nfalse alarms of recordings of {CLIPS} clips, any clip / upper quartile: {ratio:.2f}")


if __name__ == "__main__":
    main()
