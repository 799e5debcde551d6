"""Profile of a machine's normal recordings in terms that a person can check: dB, Hz and seconds.

A normality model says that a recording is strange, not where. A profile compares five traits of its spectrogram with
those of the training recordings, each left out in turn: a trait is unusual where it deviates more than those of
all but one in thirty of them, or than all if there are fewer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import librosa
import numpy as np
from numpy.typing import NDArray

from asdcore.arrays import Arrays, Floats
from asdcore.errors import AsdError
from asdcore.features.spectrogram import Spectrogram
from asdcore.features.statistics import mean_change, mean_spectrum
from asdcore.settings import MelSettings

Trait = Literal["level", "change", "swing", "peak", "dip"]
TRAITS: tuple[Trait, ...] = get_args(Trait)
RANGES = 16
"""number of ranges of neighbouring mel bands; averaging makes an impulse exceed the noise of single bands"""
RATE = 1 / 30
"""fraction of normal recordings in which a trait may look unusual"""
_SMOOTH = 3
"""bands: two recordings of one tone differ by less than a filter's width"""
_MOST_COMPONENTS, _RECORDINGS_A_COMPONENT = 4, 10
_FOLDS = 20
_REWEIGHTED = 10
_PRIOR = 10
"""weight, in recordings, of the deviation common to all places relative to each place's own"""
_LEAST_DEVIATION, _LEAST_LIMIT = 0.1, 3.0
"""dB, and deviations, where all training recordings are alike"""


def traits(spectrogram: Spectrogram) -> dict[Trait, Floats]:
    """The traits that a profile compares.

    Args:
        spectrogram: (n_mels, n_frames), dB.

    Returns:
        Of each band, (n_mels,): level, its mean over time, and change, its mean absolute change from frame to frame; of
        each range, (RANGES,): swing, its standard deviation over time, peak and dip, how far its loudest and its
        quietest frame are from its median. All in dB.
    """
    traces = range_traces(spectrogram)
    middle = np.median(traces, axis=1)
    return {
        "level": _smoothed(mean_spectrum(spectrogram)),
        "change": _smoothed(mean_change(spectrogram)),
        "swing": traces.std(axis=1),
        "peak": traces.max(axis=1) - middle,
        "dip": middle - traces.min(axis=1),
    }


def range_traces(spectrogram: Spectrogram) -> Floats:
    """(RANGES, n_frames): the mean level of each range over time, dB."""
    parts = np.array_split(spectrogram.astype(np.float64), RANGES)
    return np.stack([part.mean(axis=0) for part in parts])


def _smoothed(bands: NDArray[np.float32]) -> Floats:
    padded = np.pad(bands.astype(np.float64), _SMOOTH // 2, mode="edge")
    return np.convolve(padded, np.ones(_SMOOTH) / _SMOOTH, "valid")


@dataclass(frozen=True)
class Usual:
    """What one trait of normal recordings usually is, at each of its p places (bands or ranges).

    A new recording is compared with the nearest domain, after removing variation common to all places in normal
    recordings (speed, load, gain), within the range seen in training.
    """

    centres: Floats
    """(n_domains, p), dB"""
    components: Floats
    """(k, p): orthonormal directions in which normal recordings of one domain differ most"""
    reach: Floats
    """(k,): their largest extent along these directions, dB"""
    deviation: Floats
    """(p,): usual deviation of a recording from its expected value, dB"""
    limit: float
    """usual deviations; beyond it a place is unusual"""

    def expected(self, values: Floats) -> Floats:
        """(p,), dB: the values of the most similar normal recording."""
        candidates = [self._near(values, centre) for centre in self.centres]
        return min(candidates, key=lambda expected: float(np.abs(values - expected).sum()))

    def _near(self, values: Floats, centre: Floats) -> Floats:
        difference = values - centre
        if not len(self.components):
            return centre
        weights: Floats = np.ones(difference.shape)
        along: NDArray[Any] = np.zeros(len(self.components))
        # Cauchy weights: unusual values at some places must not be explained as another speed or load.
        for _ in range(_REWEIGHTED):
            weighted = self.components * weights
            along = np.linalg.lstsq(weighted @ self.components.T, weighted @ difference, rcond=None)[0]
            along = np.clip(along, -self.reach, self.reach)
            left = np.abs(difference - along @ self.components)
            weights = 1 / (1 + (left / (np.median(left) + 1e-9)) ** 2)
        near: Floats = centre + along @ self.components
        return near


def fit_usual(values: Floats, domains: Sequence[str], most_components: int) -> Usual:
    """Learn what is usual from (n, p) values of a trait, one row per recording."""
    n = len(values)
    names = np.asarray(domains)
    fold = np.arange(n) % min(n, _FOLDS)
    left_out = np.full_like(values, np.nan)
    for index in range(min(n, _FOLDS)):
        others = fold != index
        usual = _centred(values[others], names[others], most_components)
        # A recording left out together with its whole domain is not informative about known domains.
        for row in np.flatnonzero(~others & np.isin(names, names[others])):
            left_out[row] = values[row] - usual.expected(values[row])
    left_out = left_out[np.isfinite(left_out).all(axis=1)]
    if len(left_out) < 2:
        raise AsdError(f"{n} recordings of {len(set(domains))} domains: too few to say what is usual")
    squares = (left_out**2).sum(axis=0)
    furthest = np.sort([(np.abs(row) / _deviation(squares - row**2, len(left_out) - 1)).max() for row in left_out])
    allowed = int(RATE * (len(furthest) + 1)) or 1
    limit = max(float(furthest[-allowed]), _LEAST_LIMIT)
    fitted = _centred(values, names, most_components)
    return Usual(fitted.centres, fitted.components, fitted.reach, _deviation(squares, len(left_out)), limit)


def _centred(values: Floats, domains: NDArray[np.str_], most_components: int) -> Usual:
    names, index = np.unique(domains, return_inverse=True)
    centres = np.stack([values[index == i].mean(axis=0) for i in range(len(names))])
    left = values - centres[index]
    k = min(most_components, len(values) // _RECORDINGS_A_COMPONENT)
    components = np.linalg.svd(left, full_matrices=False)[2][:k]
    reach = np.abs(left @ components.T).max(axis=0)
    return Usual(centres, components, reach, np.ones(values.shape[1]), np.inf)


def _deviation(squares: Floats, n: int) -> Floats:
    """From the sums of squares of n recordings at each place."""
    common = np.median(squares) / n
    return np.maximum(np.sqrt((squares + _PRIOR * common) / (n + _PRIOR)), _LEAST_DEVIATION)


@dataclass(frozen=True)
class Profile:
    """What is usual in the spectrograms of one machine; see `asdcore.explanation.explanation.explain`."""

    edges: Floats
    """(n_mels + 1,), Hz: where a mel band ends and the next one begins"""
    frame_seconds: float
    edge_frames: int
    """frames at either end whose windows extend beyond the recording"""
    usual: Mapping[Trait, Usual]
    """trait: its usual values"""

    @classmethod
    def fit(
        cls, spectrograms: Iterable[Spectrogram], domains: Sequence[str], mel: MelSettings, sample_rate: int
    ) -> "Profile":
        """Learn from normal recordings, one pass, one spectrogram at a time.

        Args:
            spectrograms: (n_mels, n_frames) each, dB, as the store keeps them.
            domains: of each of them.
            mel: what they were made with.
            sample_rate: Hz.

        Raises:
            AsdError: too few recordings.
        """
        edge = mel.n_fft // 2 // mel.hop_length
        by_recording = [traits(_inner(values, edge)) for values in spectrograms]
        usual = {
            trait: fit_usual(
                np.stack([values[trait] for values in by_recording]),
                domains,
                _MOST_COMPONENTS if trait == "level" else 0,
            )
            for trait in TRAITS
        }
        centres = librosa.mel_frequencies(mel.n_mels + 2, fmin=0.0, fmax=sample_rate / 2)
        edges = np.r_[0.0, (centres[1:-2] + centres[2:-1]) / 2, sample_rate / 2]
        return cls(edges, mel.hop_length / sample_rate, edge, usual)

    def inner(self, spectrogram: Spectrogram) -> Spectrogram:
        """The spectrogram without the frames at either end that extend beyond the recording."""
        return _inner(spectrogram, self.edge_frames)

    def to_arrays(self) -> Arrays:
        """All fitted values as arrays without objects, for an npz file: about 13 kB."""
        arrays: Arrays = {"edges": self.edges, "frame_seconds": np.array(self.frame_seconds)}
        arrays["edge_frames"] = np.array(self.edge_frames)
        for trait, usual in self.usual.items():
            arrays |= {f"{trait}.{name}": np.asarray(value) for name, value in asdict(usual).items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Profile":
        """The profile from the arrays of `to_arrays`."""
        usual = {}
        for trait in TRAITS:
            centres, components, reach, deviation, limit = (
                arrays[f"{trait}.{name}"] for name in ("centres", "components", "reach", "deviation", "limit")
            )
            usual[trait] = Usual(centres, components, reach, deviation, float(limit))
        return cls(arrays["edges"], float(arrays["frame_seconds"]), int(arrays["edge_frames"]), usual)


def _inner(spectrogram: Spectrogram, edge: int) -> Spectrogram:
    n_frames = spectrogram.shape[1]
    edge = min(edge, (n_frames - 1) // 2)
    return spectrogram[:, edge : n_frames - edge]
