"""Where a recording differs from what is normal for its machine: in which bands, and when."""

from dataclasses import dataclass

import librosa
import numpy as np
from numpy.typing import NDArray

from asdcore.features.spectrogram import Spectrogram
from asdcore.settings import MelSettings

LEAST_DEVIATION = 0.5
"""dB. A band that hardly moves in normal recordings must not make a trifle of half a decibel look large."""


@dataclass(frozen=True)
class Profile:
    """What is usual in the bands of one machine, from its normal training recordings; each (n_mels,) dB."""

    mean: NDArray[np.float64]
    between: NDArray[np.float64]
    """standard deviation of a recording's mean, from recording to recording"""
    within: NDArray[np.float64]
    """standard deviation over time, within a recording"""

    @classmethod
    def fit(cls, mean_and_deviation: NDArray[np.floating]) -> "Profile":
        """From (n, 2 * n_mels): the mean and the deviation over time of each normal recording's spectrogram."""
        means, deviations = np.hsplit(np.asarray(mean_and_deviation, dtype=np.float64), 2)
        return cls(means.mean(axis=0), means.std(axis=0), np.sqrt(np.square(deviations).mean(axis=0)))


@dataclass(frozen=True)
class Explanation:
    """A recording beside what is usual for its machine."""

    hertz: NDArray[np.float64]
    """(n_mels,): the middle of each band"""
    seconds: NDArray[np.float64]
    """(n_frames,): the middle of each frame"""
    excess: NDArray[np.float64]
    """(n_mels, n_frames): how far above (or, negative, below) usual, in usual deviations"""
    difference: NDArray[np.float64]
    """(n_mels,) dB: the recording's mean minus the usual one"""
    usual: NDArray[np.float64]
    """(n_mels,) dB: how much that difference is from one normal recording to another (one standard deviation)"""

    def bands(self, count: int = 3) -> list[tuple[float, float, float, float]]:
        """The bands that stand out most, neighbours taken together: lowest and highest Hz, dB, usual deviations."""
        size = np.abs(self.difference) / np.maximum(self.usual, LEAST_DEVIATION)
        found: list[tuple[float, float, float, float]] = []
        free = np.ones(len(size), dtype=bool)
        edges = np.concatenate([self.hertz[:1] / 2, (self.hertz[:-1] + self.hertz[1:]) / 2, self.hertz[-1:]])
        for _ in range(count):
            if not free.any():
                break
            peak = int(np.argmax(np.where(free, size, -1)))
            low = high = peak
            same = np.sign(self.difference) == np.sign(self.difference[peak])
            while low > 0 and free[low - 1] and same[low - 1] and size[low - 1] > size[peak] / 2:
                low -= 1
            while high + 1 < len(size) and free[high + 1] and same[high + 1] and size[high + 1] > size[peak] / 2:
                high += 1
            free[low : high + 1] = False
            found.append((float(edges[low]), float(edges[high + 1]), float(self.difference[peak]), float(size[peak])))
        return found

    def moment(self) -> tuple[float, float]:
        """The time that stands out most, s, and how much more than the rest: its share of the squared excess."""
        over_time = np.square(self.excess).mean(axis=0)
        peak = int(np.argmax(over_time))
        return float(self.seconds[peak]), float(over_time[peak] / max(over_time.sum(), 1e-12))

    def sentences(self) -> list[str]:
        """What the figure shows, in words."""
        said = [
            f"{low:.0f} to {high:.0f} Hz: {abs(dB):.1f} dB {'louder' if dB > 0 else 'quieter'} than usual "
            f"({size:.1f} times the usual difference between recordings)"
            for low, high, dB, size in self.bands()
        ]
        seconds, share = self.moment()
        even = 1 / len(self.seconds)
        when = f"most at {seconds:.1f} s" if share > 5 * even else "throughout the recording"
        return [*said, f"in time: {when}"]


def explain(spectrogram: Spectrogram, profile: Profile, sample_rate: int, mel: MelSettings) -> Explanation:
    """Hold a log-mel spectrogram, (n_mels, n_frames) dB, against its machine's profile."""
    hertz = librosa.mel_frequencies(mel.n_mels + 2, fmin=0.0, fmax=sample_rate / 2)[1:-1]
    seconds = np.arange(spectrogram.shape[1]) * mel.hop_length / sample_rate
    deviation = np.hypot(profile.within, np.maximum(profile.between, LEAST_DEVIATION))
    excess = (spectrogram - profile.mean[:, None]) / deviation[:, None]
    difference = spectrogram.mean(axis=1, dtype=np.float64) - profile.mean
    return Explanation(np.asarray(hertz), seconds, excess, difference, profile.between)
