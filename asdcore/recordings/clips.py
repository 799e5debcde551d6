"""Clips: what a long recording is cut into, and what is fitted and scored.

A clip is named after its recording: the SHA-256 of the file's content, and for a part of it ``-3of120``. A recording
that is not cut is one clip with the name of the recording.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from asdcore.settings import RecordingSettings

_PART = re.compile(r"(.+)-(\d+)of(\d+)")
SHORTEST = 2.0
"""Seconds of the clips of a machine with fewer training recordings than it needs."""


@dataclass(frozen=True)
class Clip:
    """Part ``number`` of ``count`` equal ones of a recording."""

    recording: str
    """SHA-256 of the file's content"""
    number: int = 1
    count: int = 1

    @property
    def name(self) -> str:
        """
        >>> Clip("ab12", 3, 120).name, Clip("ab12").name
        ('ab12-3of120', 'ab12')
        """
        return self.recording if self.count == 1 else f"{self.recording}-{self.number}of{self.count}"

    def span(self, frames: int) -> tuple[int, int]:
        """First sample and the one after the last, of a recording with ``frames`` of them.

        >>> Clip("ab12", 2, 3).span(100)
        (33, 66)
        """
        return frames * (self.number - 1) // self.count, frames * self.number // self.count

    def start(self, seconds: float) -> float:
        """Seconds from the beginning of a recording of this length to that of the clip."""
        return seconds * (self.number - 1) / self.count


def clip_named(name: str) -> Clip:
    """The clip of this name.

    >>> clip_named("ab12-3of120")
    Clip(recording='ab12', number=3, count=120)
    """
    match = _PART.fullmatch(name)
    return Clip(match[1], int(match[2]), int(match[3])) if match else Clip(name)


def recording_of(name: str) -> str:
    """The recording of a clip of this name."""
    return clip_named(name).recording


def recording_count(clips: pd.DataFrame) -> int:
    """How many recordings these clips are of."""
    return clips["recording"].map(recording_of).nunique()


def clip_count(seconds: float, clip_seconds: float) -> int:
    """How many clips a recording is cut into: equal ones, none shorter than ``clip_seconds``.

    >>> clip_count(18.0, 10.0), clip_count(20.0, 10.0), clip_count(1200.0, 10.0)
    (1, 2, 120)
    """
    return max(1, int(seconds // clip_seconds))


def clip_lengths(recordings: pd.DataFrame, settings: RecordingSettings) -> dict[str, float]:
    """Seconds of the clips of each machine: `SHORTEST` where clips of the usual length are too few to train on.

    Args:
        recordings: rows of the table of recordings; normal ones of the split ``train`` count.
        settings: ``clip_seconds`` is the usual length, ``minimum_training_recordings`` is enough.
    """
    usual = settings.clip_seconds
    training = recordings[(recordings["split"] == "train") & (recordings["label"] == "normal")]
    counts = training["seconds"].map(lambda seconds: clip_count(seconds, usual)).groupby(training["machine"]).sum()
    few = counts[counts < settings.minimum_training_recordings].index
    return {str(machine): min(usual, SHORTEST) if machine in few else usual for machine in set(recordings["machine"])}


def cut(recordings: pd.DataFrame, lengths: Mapping[str, float]) -> pd.DataFrame:
    """One row per clip: ``recording`` is its name, ``seconds`` its length, ``clip_seconds`` the one asked for.

    Args:
        recordings: rows of the table of recordings.
        lengths: machine: seconds of its clips, see `clip_lengths`.
    """
    counts = [
        clip_count(seconds, lengths[machine])
        for machine, seconds in zip(recordings["machine"], recordings["seconds"], strict=True)
    ]
    rows = recordings.iloc[np.repeat(np.arange(len(counts)), counts)].reset_index(drop=True)
    clips = [
        Clip(recording, number + 1, count).name
        for recording, count in zip(recordings["recording"], counts, strict=True)
        for number in range(count)
    ]
    return rows.assign(
        recording=clips,
        seconds=rows["seconds"].to_numpy() / np.repeat(counts, counts),
        clip_seconds=rows["machine"].map(lengths).astype(float),
    )
