"""A recording as a detector has heard it, and the tables of many."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from asdcore.normality.machine import ANOMALOUS, SUSPECT, VERDICT, Vectors
from asdcore.recordings.audio import Measured
from asdcore.recordings.clips import Clip

COLUMNS = ["path", "recording", "machine", *VERDICT, "in_training", "clips", "strangest_at", "treatment", "reason"]
CLIP_COLUMNS = ["path", "recording", "machine", "clip", "start", "seconds", *VERDICT]


@dataclass(frozen=True)
class Heard:
    """One recording, as a detector has heard it; with a reason, and nothing else, where it could not be scored."""

    path: Path
    machine: str
    reason: str
    measured: Measured | None = None
    vectors: Vectors | None = None
    """scorer: (m, p), one row per clip"""
    verdict: Mapping[str, Any] = field(default_factory=dict)
    recording: str = ""
    """SHA-256 of the content"""
    clips: Sequence[Clip] = ()
    """its clips but for those that must not be used"""
    of_clips: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """the verdict on each clip: the columns `VERDICT`, (m,) each"""
    strangest: int = 0
    """the clip with the highest score, counted from 0"""

    @property
    def seconds(self) -> float:
        """The length of the recording."""
        return self.measured.seconds if self.measured else 0.0

    @property
    def treatment(self) -> str:
        """What was done to get the waveform, and what is wrong with it; see `asdcore.recordings.audio.Waveform`."""
        return self.measured.treatment if self.measured else ""

    def starts(self) -> list[float]:
        """Seconds from the beginning of the recording to that of each clip."""
        return [clip.start(self.seconds) for clip in self.clips]


def clock(seconds: float) -> str:
    """A time in a recording.

    >>> clock(40.2), clock(3700)
    ('0:40', '1:01:40')
    """
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def score_table(heard: Iterable[Heard]) -> pd.DataFrame:
    """One row per recording, as `Detector.score` gives it."""
    rows = []
    for one in heard:
        row: dict[str, Any] = {
            "path": str(one.path),
            "recording": one.recording,
            "machine": one.machine,
            "treatment": one.treatment,
            "reason": one.reason,
        }
        if one.clips:
            row |= {"clips": len(one.clips), "strangest_at": one.starts()[one.strangest], **one.verdict}
        rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS).astype(
        {"score": float, "p_value": float, "strangest_at": float, "verdict": object, "triggered_by": object}
    )
    table["triggered_by"] = table["triggered_by"].fillna("")
    table["verdict"] = table["verdict"].fillna("")
    return table.astype({"decision": "Int64", "clips": "Int64", "in_training": "boolean"})


def strangest_recordings(scores: pd.DataFrame, most: int) -> list[int]:
    """The rows of a score table that are anomalous or suspect, the strangest first; the strangest one if none is.

    Args:
        scores: by `score_table`, with its index.
        most: so many rows.
    """
    scored = scores.dropna(subset="p_value").sort_values(["p_value", "score"], ascending=[True, False])
    strange = int(scored["verdict"].isin([ANOMALOUS, SUSPECT]).sum())
    return [int(row) for row in scored.index[: max(1, min(strange, most))]]


def clip_table(heard: Iterable[Heard]) -> pd.DataFrame:
    """One row per clip of the recordings that were cut: `CLIP_COLUMNS`; ``start`` and ``seconds`` say where it is."""
    tables = [
        pd.DataFrame(one.of_clips).assign(
            path=str(one.path),
            recording=one.recording,
            machine=one.machine,
            clip=[clip.number for clip in one.clips],
            start=one.starts(),
            seconds=one.seconds / one.clips[0].count,
        )
        for one in heard
        if one.clips and one.clips[0].count > 1
    ]
    return pd.concat(tables, ignore_index=True)[CLIP_COLUMNS] if tables else pd.DataFrame(columns=CLIP_COLUMNS)
