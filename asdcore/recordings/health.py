"""Whether a waveform can be a recording of a machine, and the flaws of one that is used all the same."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asdcore.errors import BadRecording
from asdcore.settings import RecordingSettings

FULL_SCALE = 1.0 - 1.0 / 32_768  # the largest 16-bit sample
LARGEST = 2.0**31  # 32-bit integers written as floats; from far beyond it, no spectrum can be computed in float32
DROPOUT_SECONDS = 0.01
"""A run of exact zeros of this length is a dropout: no microphone is silent for so long."""
OFFSET = 0.1
"""The mean of the samples, as a fraction of the RMS without it, from which on it is removed as an offset. Half the RMS
makes a third of all normal recordings strange (benchmarks/odd_audio.py); real recordings have 0.05 at most."""


@dataclass(frozen=True)
class Flaws:
    """What is wrong with a recording that can be used."""

    dropouts: int = 0
    """runs of zeros"""
    dropped_seconds: float = 0.0
    """their total length"""
    offset: float = 0.0
    """the mean of the samples, full scale at 1, that was removed; the largest of the parts of a recording"""
    dead: tuple[int, ...] = ()
    """channels without sound, counted from 1"""

    def __add__(self, other: "Flaws") -> "Flaws":
        """Those of two parts of a recording together: a dead channel is so in all of them."""
        return Flaws(
            self.dropouts + other.dropouts,
            self.dropped_seconds + other.dropped_seconds,
            max(self.offset, other.offset, key=abs),
            tuple(channel for channel in self.dead if channel in other.dead),
        )

    def remarks(self) -> list[str]:
        """``kind: detail`` of each."""
        found = []
        if self.dropouts:
            runs = f"{self.dropouts} run{'s' if self.dropouts > 1 else ''} of zeros"
            found.append(f"dropouts: {runs}, {self.dropped_seconds:.2g} s together")
        if self.offset:
            found.append(f"offset: {self.offset:.2g} of full scale, removed")
        if self.dead:
            found.append(f"dead channel: no sound in channel {', '.join(map(str, self.dead))}")
        return found


NONE = Flaws()


def remarks(treatment: str) -> list[str]:
    """The parts of a treatment that say that something is wrong, ``kind: detail`` each.

    >>> remarks("channel 1 of 8; resampled from 44100 to 16000 Hz; dropouts: 3 runs of zeros, 0.2 s together")
    ['dropouts: 3 runs of zeros, 0.2 s together']
    """
    return [part for part in treatment.split("; ") if ": " in part]


def counted(treatments: Iterable[tuple[str, str]]) -> list[str]:
    """How many recordings have each remark, and the first of them. ``treatments``: (path, treatment) of each.

    >>> counted([("a.wav", "dropouts: 3 runs of zeros, 0.2 s together"), ("b.wav", "channel 1 of 2")])
    ['1 x dropouts: a.wav: 3 runs of zeros, 0.2 s together']
    """
    found: dict[str, list[str]] = {}
    for path, treatment in treatments:
        for remark in remarks(treatment):
            kind, detail = remark.split(": ", 1)
            found.setdefault(kind, []).append(f"{path}: {detail}")
    return [f"{len(those)} x {kind}: {'first ' if len(those) > 1 else ''}{those[0]}" for kind, those in found.items()]


def without_sound(samples: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n_channels,): which channels of (n_samples, n_channels) have one value throughout."""
    if not len(samples):
        return np.zeros(samples.shape[1], bool)
    # Most channels have sound from the start.
    still: NDArray[np.bool_] = (samples[:100] == samples[0]).all(axis=0)
    if still.any():
        still[still] = (samples[:, still] == samples[0, still]).all(axis=0)
    return still


class Health:
    """What a recording is judged by, gathered piece by piece."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.n = self.bad = self.n_high = self.n_low = self.dropouts = self.dropped = 0
        self.high, self.low = -math.inf, math.inf
        # Moments about the first sample: an offset of a microphone must not drown the sound.
        self.origin = self.sum = self.sum_of_squares = 0.0
        self.dead: NDArray[np.bool_] | None = None

    def add(self, samples: NDArray[np.float32], waveform: NDArray[np.float32]) -> None:
        """A piece: (n_samples, n_channels), and (n_samples,), what is used of it."""
        if not len(waveform):
            return
        bad = int(np.count_nonzero(~np.isfinite(waveform)))
        if not self.n:
            self.origin = float(waveform[0]) if np.isfinite(waveform[0]) else 0.0
        self.n += len(waveform)
        self.bad += bad
        if bad:
            return
        if samples.shape[1] > 1:
            still = without_sound(samples)
            self.dead = still if self.dead is None else self.dead & still
        high, low = float(waveform.max()), float(waveform.min())
        # Clipping piles samples up at the two extremes; a float recording may well go beyond 1 without it.
        self.n_high = self.n_high * (high <= self.high) + int(np.count_nonzero(waveform == high)) * (high >= self.high)
        self.n_low = self.n_low * (low >= self.low) + int(np.count_nonzero(waveform == low)) * (low <= self.low)
        self.high, self.low = max(high, self.high), min(low, self.low)
        deviation = waveform.astype(np.float64) - self.origin
        self.sum += float(deviation.sum())
        self.sum_of_squares += float(deviation @ deviation)
        self._look_for_dropouts(waveform)

    def _look_for_dropouts(self, waveform: NDArray[np.float32]) -> None:
        shortest = max(round(DROPOUT_SECONDS * self.sample_rate), 2)
        # Of such a run, two samples that are half of it apart are zero: nearly no recording needs a closer look.
        some = waveform[:: shortest // 2] == 0
        if not (some[1:] & some[:-1]).any():
            return
        sounding = np.flatnonzero(waveform)
        runs = np.diff(sounding, prepend=-1, append=len(waveform)) - 1
        runs = runs[runs >= shortest]
        self.dropouts += len(runs)
        self.dropped += int(runs.sum())

    @property
    def power(self) -> float:
        """Of the samples without their mean."""
        return self.sum_of_squares / self.n - (self.sum / self.n) ** 2

    def flaws(self) -> Flaws:
        """What is wrong with what was added, and can be used."""
        dead = () if self.dead is None else tuple((np.flatnonzero(self.dead) + 1).tolist())
        mean = self.origin + self.sum / self.n
        offset = mean if abs(mean) > OFFSET * math.sqrt(max(self.power, 0)) else 0.0
        return Flaws(self.dropouts, self.dropped / self.sample_rate, offset, dead)

    def check(self, settings: RecordingSettings) -> None:
        """Raise `BadRecording` if it must not be used."""
        seconds = self.n / self.sample_rate
        if seconds < settings.minimum_seconds:
            raise BadRecording(f"too short: {seconds:.3f} s, the minimum is {settings.minimum_seconds:g} s")
        if self.bad:
            raise BadRecording(f"not finite: {self.bad} of {self.n} samples are NaN or infinite")
        if self.low == self.high:
            what = "silent: every sample is 0" if self.low == 0 else f"constant: every sample is {self.low:g}"
            raise BadRecording(what + self._others())
        if max(self.high, -self.low) > LARGEST:
            largest = max(self.high, -self.low)
            raise BadRecording(f"not a waveform: a sample of {largest:g}, where full scale is 1")
        dbfs = 10 * math.log10(self.power) if self.power > 0 else -math.inf
        if dbfs < settings.silence_dbfs:
            raise BadRecording(f"silent: {dbfs:.0f} dB of full scale RMS, the minimum is {settings.silence_dbfs:g}")
        at_extreme = self.n_high * (self.high >= FULL_SCALE) + self.n_low * (self.low <= -FULL_SCALE)
        clipped, most = at_extreme / self.n, settings.maximum_clipped_fraction
        if clipped > most:
            raise BadRecording(f"clipped: {clipped:.1%} of the samples at full scale, the maximum is {most:.1%}")

    def _others(self) -> str:
        """What to do where the channel that is used is dead and another one is not."""
        if self.dead is None or self.dead.all():
            return ""
        alive = int(np.flatnonzero(~self.dead)[0])
        return f" in its channel; channel {alive + 1} has sound: --set recordings.channel={alive}"
