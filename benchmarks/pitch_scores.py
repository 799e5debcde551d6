"""The two pitch methods by what they are for: do encoders trained with one find more than with the other?

    python benchmarks/pitch_scores.py [--quick] [--json] [--real FOLDER] [--folder FOLDER]

Everything is that of benchmarks/losses.py - recordings, folds, small trainings, AUC and its intervals - but for
the method that makes the pitch variants. Only what trains with variants can differ: an encoder, and what judges by it.
``difference``: spectral minus waveform, paired: the same seeds, batches and test recordings, 95 % interval.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from ladder import make_ladder, training_store
from losses import DEFAULT, PAPER, SETTINGS, Judge, Scores, encoder_scores, spectrum_scores
from pitch import METHODS

from asdcore.progress import say
from asdcore.settings import AugmentationSettings, Settings

SYSTEMS = {
    "nt_xent": (PAPER, PAPER._replace(layer="h", model="tied")),
    "discriminative": (DEFAULT._replace(fused=""), DEFAULT),
}
"""by the loss_name of their encoder"""


def measure(
    folder: Path,
    real: Path | None,
    loss_names: tuple[str, ...],
    *,
    seeds: int,
    steps: int,
    normals: int,
    faults: int,
) -> list[dict[str, Any]]:
    """One row per system, seen and first-shot, and group of machines."""
    demo = Settings.preset("demo")
    ladder = make_ladder(folder, real, demo, normals, faults)
    statistics = spectrum_scores(ladder)
    scores: dict[str, Scores] = {}
    for method in METHODS:
        settings = demo.model_copy(update={"augmentation": AugmentationSettings(pitch_method=method)})
        with_method = replace(ladder, store=training_store(folder, ladder.training, settings))
        scores[method] = encoder_scores(with_method, folder / method, loss_names, seeds, steps, statistics)
    judge = Judge(ladder, seeds)
    rows = []
    systems = [system for loss_name in loss_names for system in SYSTEMS[loss_name]]
    for system, how in product(systems, SETTINGS):
        spectral, waveform = (judge.groups(judge.kinds(scores[method], system, how)) for method in METHODS)
        for group in spectral:
            difference, low, high = judge.spread(spectral[group] - waveform[group])
            figures = {
                "spectral": judge.spread(spectral[group])[0],
                "waveform": judge.spread(waveform[group])[0],
                "difference": difference,
                "low": low,
                "high": high,
            }
            named = {"system": str(system), "setting": how, "machines": group}
            rows.append(named | {name: round(value, 4) for name, value in figures.items()})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| system | encoder has | machines | AUC, spectral | waveform | difference |"]
    lines.append("| --- | --- | --- | ---: | ---: | ---: |")
    for row in rows:
        interval = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        cells = (row["system"], row["setting"], row["machines"], f"{row['spectral']:.3f}", f"{row['waveform']:.3f}")
        lines.append("| " + " | ".join((*cells, interval)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the default alone, 8 steps, few simulated recordings")
    parser.add_argument("--json", action="store_true", help="the results as one JSON object")
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="real machines in the DCASE layout")
    parser.add_argument("--folder", type=Path, help="keep intermediate results here, and resume from them")
    arguments = parser.parse_args()
    sample = os.environ.get("ASD_SAMPLE_DATA")
    real = arguments.real or (Path(sample) / "real-mini" if sample else None)
    loss_names, size = tuple(SYSTEMS), {"seeds": 3, "steps": 200, "normals": 20, "faults": 8}
    if arguments.quick:
        real, loss_names, size = None, ("discriminative",), {"seeds": 1, "steps": 8, "normals": 4, "faults": 2}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)) / ("quick" if arguments.quick else "whole")
        rows = measure(folder, real, loss_names, **size)
    minutes = round((time.monotonic() - started) / 60, 1)
    data = "simulated machines" + (f", and real ones of {real.name}" if real else "")
    if arguments.json:
        print(json.dumps({"benchmark": "pitch_scores", "data": data, **size, "minutes": minutes, "rows": rows}))
        return
    print(table(rows))
    say(f"{data}; {size['seeds']} seeds, {size['steps']} steps, {minutes} minutes")


if __name__ == "__main__":
    main()
