"""A recording beside the most similar normal one of its machine: pictures, sounds, sentences."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.explanation.explanation import MOST_SENTENCES, Explanation
from asdcore.explanation.findings import Span
from asdcore.features.spectrogram import Spectrogram, as_stored, spectrogram
from asdcore.heard import Heard
from asdcore.normality.machine import JOINED_BY
from asdcore.plots.marked_spectrogram import decibel_bar, marked_spectrogram, scale_of
from asdcore.recordings.audio import BadRecording, Waveform, decode
from asdcore.recordings.clips import Clip, clip_named
from asdcore.recordings.paths import on_disk
from asdcore.reports.audio import common_gain, decibels, excerpt, flac

_TRIED = 10
"""of the most similar training clips, until the file of one can be read"""


@dataclass(frozen=True)
class Normal:
    """A clip of a training recording."""

    path: Path
    session: str
    clip: Clip
    waveform: Waveform


@dataclass(frozen=True)
class Side:
    """A clip to look at and to listen to."""

    picture: Markup
    """SVG"""
    sound: str
    """data URI; empty: left out"""
    heard: Span
    """which part of the picture is heard, seconds"""
    seconds: float
    """of the picture"""


@dataclass(frozen=True)
class Compared:
    """A recording of interest; where it could not be read again, nothing but the reason."""

    trigger: str = ""
    findings: list[str] = field(default_factory=list)
    """sentences, in the order of their numbers in the picture"""
    others: list[str] = field(default_factory=list)
    """sentences without a number"""
    own: Side | None = None
    normal: Side | None = None
    most_similar: Normal | None = None
    bar: Markup | None = None
    """SVG: the scale of both pictures"""
    gain: float = 0.0
    """dB that both were amplified by"""
    missing: str = ""
    """why there is no picture, or no normal recording"""

    @property
    def size(self) -> int:
        """Characters, about."""
        return sum(len(side.picture) + len(side.sound) for side in (self.own, self.normal) if side)


def compared(
    detector: Detector,
    one: Heard,
    files: Mapping[str, tuple[Path, str]],
    *,
    with_sound: bool = True,
    explanation: Explanation | None = None,
) -> Compared:
    """Explain the strangest clip of a recording, beside the most similar normal one.

    Args:
        detector: that heard it.
        one: the recording; its file is read again.
        files: digest of a training recording: its file and its session.
        with_sound: False: nothing to listen to, to save space.
        explanation: of that clip, if there is one already.
    """
    clip = one.clips[one.strangest]
    try:
        waveform = decode(one.path, detector.settings.recordings, clip)
        if explanation is None:
            explanation = detector.explain_clip(waveform.samples, one.machine, one.verdict["triggered_by"])
    except (AsdError, OSError, BadRecording) as error:
        return Compared(missing=f"It cannot be shown: {error}.")
    normal, missing = most_similar(detector, one, files)
    own_side, normal_side, bar, gain = _sides(detector, explanation, waveform, normal, with_sound)
    count = len(explanation.findings[:MOST_SENTENCES])
    return Compared(
        explanation.trigger,
        explanation.listed[:count],
        explanation.listed[count:],
        own_side,
        normal_side,
        normal,
        bar,
        gain,
        missing,
    )


def compared_again(
    detector: Detector, row: Mapping[str, Any], files: Mapping[str, tuple[Path, str]], *, with_sound: bool = True
) -> Compared:
    """As `compared`, of a recording that was scored earlier: only its strangest clip is read.

    Args:
        detector: of whatever version; what it finds in that clip is explained.
        row: path, recording, machine, clips, strangest_at, triggered_by, as in `asdcore.heard.score_table`.
        files: digest of a training recording: its file and its session.
        with_sound: False: nothing to listen to, to save space.

    Raises:
        AsdError: the file is gone, has changed since, or cannot be read; or the machine is not enrolled.
    """
    path = Path(row["path"])
    if row["path"] == "-":
        raise AsdError("it was read from standard input and not kept")
    if not on_disk(path).is_file():
        raise AsdError(f"{path} no longer exists")
    one = detector.listen_at(path, row["machine"], 0.0 if pd.isna(row["strangest_at"]) else row["strangest_at"])
    if one.recording != row["recording"]:
        raise AsdError(f"{path} has changed since it was scored")
    told = row["triggered_by"] or ""
    long = not pd.isna(row["clips"]) and row["clips"] > 1
    if long and {*told.split(JOINED_BY)} <= {*detector.machines[one.machine].models}:
        # The verdict is about all clips; what one of them triggers alone may differ.
        one = replace(one, verdict={**one.verdict, "triggered_by": told})
    return compared(detector, one, files, with_sound=with_sound)


def most_similar(detector: Detector, one: Heard, files: Mapping[str, tuple[Path, str]]) -> tuple[Normal | None, str]:
    """The training clip of another recording that the strangest clip is nearest to, of those whose files can be read.

    Returns:
        It and nothing, or None and why.
    """
    row = {name: vectors[[one.strangest]] for name, vectors in (one.vectors or {}).items()}
    names = detector.machines[one.machine].most_similar(row)
    if not names:
        return None, "The models of this machine keep no normal recordings to compare it with."
    others = [clip for clip in map(clip_named, names) if clip.recording != one.recording and clip.recording in files]
    for clip in others[:_TRIED]:
        path, session = files[clip.recording]
        try:
            return Normal(path, session, clip, decode(path, detector.settings.recordings, clip)), ""
        except (OSError, BadRecording):
            continue
    return None, "No file of a similar normal recording is known and readable here."


def _sides(
    detector: Detector, explanation: Explanation, waveform: Waveform, normal: Normal | None, with_sound: bool
) -> tuple[Side, Side | None, Markup, float]:
    rate = detector.settings.recordings.sample_rate
    waveforms = [waveform.samples] + ([normal.waveform.samples] if normal else [])
    spectrograms = [explanation.spectrogram] + [
        as_stored(spectrogram(samples, rate, detector.settings.mel)) for samples in waveforms[1:]
    ]
    scale = scale_of(*spectrograms)
    located = next((finding.times[0] for finding in explanation.findings if finding.times), None)
    spans = [excerpt(len(samples), rate, sum(located) / 2 if located else None) for samples in waveforms]
    gain = common_gain([samples[span] for samples, span in zip(waveforms, spans, strict=True)])
    sides = [
        Side(
            Markup(_picture(explanation, values, scale, own=values is explanation.spectrogram)),
            flac(samples[span] * gain, rate) if with_sound else "",
            (span.start / rate, span.stop / rate),
            len(samples) / rate,
        )
        for samples, span, values in zip(waveforms, spans, spectrograms, strict=True)
    ]
    bar = Markup(decibel_bar(scale))
    return sides[0], sides[1] if normal else None, bar, decibels(gain)


def _picture(explanation: Explanation, values: Spectrogram, scale: Span, *, own: bool) -> str:
    said = "Spectrogram of the most similar other recording, with the same frequencies marked."
    if own:
        said = f"Spectrogram of this recording. Marked: {' '.join(explanation.listed)}"
    return marked_spectrogram(
        values,
        explanation.edges,
        explanation.frame_seconds,
        scale,
        explanation.findings[:MOST_SENTENCES],
        said,
        numbered=own,
    )
