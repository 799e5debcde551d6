"""What codecs, bands and flaws of a recording do to the p-values of normal recordings.

    python benchmarks/odd_audio.py real-mini

A detector is fitted on the recordings of the folder, which is in the DCASE layout. Then each normal test recording is
scored as it is, and changed. Each row of the table is one change: the median p-value of each machine, the fraction of
all recordings that are anomalous at 10 %, and the fraction that is at least suspect. The normal recordings are the same
in all rows, so what differs is the change's doing.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import soxr
from numpy.typing import NDArray

from asdcore.detector import Detector
from asdcore.recordings.audio import open_audio
from asdcore.settings import Settings

Samples = NDArray[np.float32]
Change = Callable[[Samples, int], Samples]


def coded(format: str, subtype: str, at: int | None = None, level: float | None = None) -> Change:
    """Write and read: ``at`` Hz where the codec knows few rates, ``level`` from 0 (best) to 1 (smallest)."""

    def change(samples: Samples, rate: int) -> Samples:
        file = io.BytesIO()
        sent = samples if at is None else soxr.resample(samples, rate, at)
        soundfile.write(file, sent, at or rate, format=format, subtype=subtype, compression_level=level)
        with open_audio(file.getvalue()) as sound:
            read = sound.read(0, sound.frames)[:, 0]
        return (read if at is None else soxr.resample(read, at, rate)).astype(np.float32)

    return change


def band_limited(at: int) -> Change:
    """As if recorded at a lower rate."""
    return lambda samples, rate: soxr.resample(soxr.resample(samples, rate, at), at, rate)


def dropouts(count: int, seconds: float) -> Change:
    """So many runs of zeros."""

    def change(samples: Samples, rate: int) -> Samples:
        broken, n = samples.copy(), round(seconds * rate)
        for start in np.random.default_rng(0).integers(0, len(samples) - n, count):
            broken[start : start + n] = 0
        return broken

    return change


CHANGES: dict[str, Change] = {
    "as it is": lambda samples, rate: samples,
    "wav, 8 bit": coded("WAV", "PCM_U8"),
    "wav, mu-law": coded("WAV", "ULAW"),
    "wav, A-law": coded("WAV", "ALAW"),
    "wav, IMA ADPCM": coded("WAV", "IMA_ADPCM"),
    "wav, MS ADPCM": coded("WAV", "MS_ADPCM"),
    "wav, GSM 6.10": coded("WAV", "GSM610"),
    "mp3, level 0.0": coded("MP3", "MPEG_LAYER_III", level=0.0),
    "mp3, level 0.5": coded("MP3", "MPEG_LAYER_III", level=0.5),
    "mp3, level 0.9": coded("MP3", "MPEG_LAYER_III", level=0.9),
    "ogg vorbis, level 0.0": coded("OGG", "VORBIS", level=0.0),
    "ogg vorbis, level 0.5": coded("OGG", "VORBIS", level=0.5),
    "ogg vorbis, level 0.9": coded("OGG", "VORBIS", level=0.9),
    "opus, level 0.0": coded("OGG", "OPUS", at=48_000, level=0.0),
    "opus, level 0.8": coded("OGG", "OPUS", at=48_000, level=0.8),
    "recorded at 12 kHz": band_limited(12_000),
    "recorded at 8 kHz": band_limited(8_000),
    "1 dropout of 20 ms": dropouts(1, 0.02),
    "5 dropouts of 20 ms": dropouts(5, 0.02),
    "1 dropout of 200 ms": dropouts(1, 0.2),
    "offset of 0.01": lambda samples, rate: samples + np.float32(0.01),
    "offset of 0.1": lambda samples, rate: samples + np.float32(0.1),
    "half as loud (mean with a dead channel)": lambda samples, rate: samples * np.float32(0.5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    settings = Settings()
    settings = settings.model_copy(
        update={"normality": settings.normality.model_copy(update={"false_alarm_rate": 0.1})}
    )
    detector = Detector.fit(folder, settings)
    sounds = [
        (path.parts[-3], *soundfile.read(path, dtype="float32"))
        for path in sorted(folder.glob("*/test/*_normal_*.wav"))
    ]
    rows = []
    for name, change in CHANGES.items():
        verdicts = pd.DataFrame(
            [detector.score_waveform(change(samples, rate), rate, machine) for machine, samples, rate in sounds]
        )
        medians = verdicts.groupby("machine")["p_value"].median()
        rows.append(
            {
                "change": name,
                **{f"median p, {machine}": f"{p:.2g}" for machine, p in medians.items()},
                "anomalous": f"{(verdicts['verdict'] == 'anomalous').mean():.0%}",
                "at least suspect": f"{(verdicts['verdict'] != 'normal').mean():.0%}",
            }
        )
        print(rows[-1], flush=True)
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
