"""The two pitch methods on the same recordings: how alike are the spectra that they make?

    python benchmarks/pitch.py RECORDINGS [--each 8] [--json FILE]

RECORDINGS: a folder of machines in a layout that `asd ingest` understands; they are only read. Of up to so many
recordings of each machine both pitch variants are made by both methods, with the same shift. ``apart``: how far the
time-averaged spectra of the two methods are from each other, dB, median over mel bands with sound in both (20 dB above
the floor) after their median difference, the ``level``, has been taken away; ``moved``: the same between the waveform
method's and the original. Figures are medians over recordings.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from asdcore.features.augmentation import spectrograms
from asdcore.features.spectrogram import Spectrogram
from asdcore.recordings.audio import decode
from asdcore.recordings.names import find_recordings
from asdcore.settings import AugmentationSettings, Settings

METHODS = ("spectral", "waveform")


def shape(first: Spectrogram, other: Spectrogram, amin_db: float) -> tuple[float, float]:
    """Median level of ``one`` over ``other``, dB, and the median distance of their mean spectra without it."""
    a, b = first.mean(axis=1), other.mean(axis=1)
    sounding = (a > amin_db + 20) & (b > amin_db + 20)
    difference = (a - b)[sounding]
    level = float(np.median(difference))
    return level, float(np.median(np.abs(difference - level)))


def measure(folder: Path, each: int) -> list[dict[str, Any]]:
    """One row per machine and variant."""
    settings = Settings()
    files = defaultdict(list)
    for recording in find_recordings(folder):
        files[recording.machine].append(recording.path)
    rows = []
    for machine, paths in sorted(files.items()):
        figures = defaultdict(list)
        for path in sorted(paths)[:: max(len(paths) // each, 1)][:each]:
            waveform = decode(path, settings.recordings).samples
            computed = {
                method: spectrograms(
                    waveform, path.name, 16_000, settings.mel, AugmentationSettings(pitch_method=method)
                )
                for method in METHODS
            }
            for variant in ("pitch_down", "pitch_up"):
                shifted = computed["waveform"][variant]
                level, apart = shape(computed["spectral"][variant], shifted, settings.mel.amin_db)
                moved = shape(computed["waveform"]["original"], shifted, settings.mel.amin_db)[1]
                figures[variant].append((level, apart, moved))
        for variant, values in figures.items():
            level, apart, moved = np.round(np.median(values, axis=0), 2).tolist()
            rows.append(
                {
                    "machine": machine,
                    "variant": variant,
                    "n": len(values),
                    "level": level,
                    "apart": apart,
                    "moved": moved,
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--each", type=int, default=8, help="recordings of each machine")
    parser.add_argument("--quick", action="store_true", help="two of each machine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as one JSON object; - is stdout")
    arguments = parser.parse_args()
    rows = measure(arguments.recordings, 2 if arguments.quick else arguments.each)
    figures = {"benchmark": "pitch", "recordings": arguments.recordings.name, "rows": rows}
    if arguments.json and str(arguments.json) == "-":
        print(json.dumps(figures))
        return
    print("| machine | variant | recordings | level, dB | apart, dB | moved, dB |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
