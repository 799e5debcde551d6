"""Where a recording differs from what is normal for its machine: frequencies, times and sentences for operators."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asdcore.arrays import Floats
from asdcore.explanation.profile import RANGES, TRAITS, Profile, range_traces, traits
from asdcore.features.spectrogram import Spectrogram

Kind = Literal["louder", "quieter", "component", "missing", "unsteady", "steady", "knocks", "gaps"]
Span = tuple[float, float]

NOTHING = (
    "No frequency and no moment stands out on its own. If the detector finds this recording strange, its reason has no "
    "simple place in the spectrum."
)
MOST_SENTENCES = 6
_LEAST = {"level": 1.0, "swing": 0.5, "peak": 3.0, "dip": 3.0}
"""dB; smaller deviations are not worth reporting"""
_PROMINENT = 5.0
"""dB above its surroundings: a distinct component"""
_NEIGHBOURS = 8
"""number of bands on either side that count as surroundings"""
_ALL_THE_TIME, _NOW_AND_THEN = 0.75, 0.2
_LONGEST_KNOCK = 0.25
"""seconds"""
_SMOOTH_FRAMES = 5
_CLEAR = 2.0
"""a level deviation of this many times its usual swing over time can be localised in time"""


@dataclass(frozen=True)
class Finding:
    """An unusual property of a recording."""

    kind: Kind
    hz: Span
    """from, to"""
    decibels: float
    """how much more (positive) or less than expected, at its largest"""
    deviations: float
    """the same in usual deviations of normal recordings, positive"""
    times: tuple[Span, ...] = ()
    """seconds, from and to; empty: all the time, or not localised"""
    always: bool = False
    """whether it lasts all the time"""

    @property
    def sentence(self) -> str:
        """The finding as a sentence."""
        size = abs(self.decibels)
        where, middle, amount = _hz(self.hz), _around(self.hz), f"{size:.0f} dB" if size > 3 else f"{size:.1f} dB"
        usual = f"({self.deviations:.0f} usual deviations)"
        match self.kind:
            case "louder" | "quieter":
                return f"{where} is up to {amount} {self.kind} than usual {usual}{self._when}."
            case "component":
                return f"A component around {middle} stands out that usually does not: {amount} {usual}{self._when}."
            case "missing":
                return f"The usual component around {middle} is missing or weak: {amount} less {usual}{self._when}."
            case "unsteady" | "steady":
                more = "rises and falls over time more" if self.kind == "unsteady" else "is steadier over time"
                return f"{where} {more} than usual: by {amount} {usual}."
            case "knocks":
                return f"{self._events('loud')}, {where}: up to {amount} louder than peaks usually are {usual}."
            case "gaps":
                return f"{self._events('quiet')}, {where}: up to {amount} deeper than dips usually are {usual}."

    @property
    def _when(self) -> str:
        if not self.times:
            return ", all the time" if self.always else ""
        spans = [f"{start:.1f}-{end:.1f} s" for start, end in sorted(self.times, key=lambda t: t[0] - t[1])[:3]]
        return f", not all the time, most clearly at {', '.join(spans)}"

    def _events(self, word: str) -> str:
        n, short = len(self.times), max(end - start for start, end in self.times) <= _LONGEST_KNOCK
        middles = [f"{(start + end) / 2:.1f}" for start, end in self.times]
        shown = f"{', '.join(middles[:6])}{' ...' if n > 6 else ''}"
        return f"{n} {'short ' if short else ''}{word} moment{'s' if n > 1 else ''} at {shown} s"


@dataclass(frozen=True)
class Explanation:
    """A recording compared with what is usual for its machine."""

    spectrogram: Spectrogram
    """(n_mels, n_frames), dB"""
    edges: Floats
    """(n_mels + 1,), Hz"""
    frame_seconds: float
    level: Floats
    """(n_mels,), dB: of this recording, averaged over time"""
    expected: Floats
    """(n_mels,), dB: of the most similar normal recording"""
    usual: Floats
    """(n_mels,), dB: the usual deviation above or below the expected level"""
    findings: tuple[Finding, ...]
    """the most unusual first"""

    @property
    def sentences(self) -> list[str]:
        """The findings as sentences, or one sentence that there are none."""
        sentences = [finding.sentence for finding in self.findings[:MOST_SENTENCES]]
        more = len(self.findings) - len(sentences)
        return (sentences or [NOTHING]) + ([f"And {more} more, less unusual."] if more else [])


def explain(spectrogram: Spectrogram, profile: Profile) -> Explanation:
    """Find where (n_mels, n_frames), dB, differs from what is normal for its machine.

    It describes the spectrum; the detector may have decided for other reasons. Some normal recordings have findings,
    too: for each trait one in thirty, or one in n + 1 if the profile was fitted on n < 30 recordings.
    """
    inner = profile.inner(spectrogram)
    recording_traits = traits(inner)
    expected = {trait: profile.usual[trait].expected(recording_traits[trait]) for trait in TRAITS}
    events = _events(inner, profile, recording_traits, expected, "knocks") + _events(
        inner, profile, recording_traits, expected, "gaps"
    )
    findings = events + _levels(inner, profile, recording_traits["level"], expected, events)
    findings += _swings(profile, recording_traits["swing"], expected["swing"], events)
    usual = profile.usual["level"]
    return Explanation(
        spectrogram,
        profile.edges,
        profile.frame_seconds,
        recording_traits["level"],
        expected["level"],
        usual.limit * usual.deviation,
        tuple(sorted(findings, key=lambda finding: -finding.deviations)),
    )


def _levels(
    spectrogram: Spectrogram, profile: Profile, level: Floats, all_expected: dict[str, Floats], events: list[Finding]
) -> list[Finding]:
    usual, expected = profile.usual["level"], all_expected["level"]
    swing = np.repeat(all_expected["swing"], [len(part) for part in np.array_split(level, RANGES)])
    excess = level - expected
    findings = []
    for start, end in _groups(excess, usual.deviation, usual.limit, _LEAST["level"]):
        bands = slice(start, end)
        most = start + int(np.argmax(np.abs(excess[bands] / usual.deviation[bands])))
        louder = excess[most] > 0
        hz = (float(profile.edges[start]), float(profile.edges[end]))
        trace = (spectrogram[bands].astype(np.float64) - expected[bands, None]).mean(axis=0) * (1 if louder else -1)
        smooth = np.convolve(np.pad(trace, _SMOOTH_FRAMES // 2, mode="edge"), np.ones(_SMOOTH_FRAMES), "valid")
        on = smooth / _SMOOTH_FRAMES > np.abs(excess[bands]).mean() / 2
        always = bool(on.mean() >= _ALL_THE_TIME)
        clear = np.abs(excess[bands]).mean() > _CLEAR * swing[bands].mean()
        times = _spans(on, profile) if clear and not always else ()
        if on.mean() < _NOW_AND_THEN and any(_overlap(hz, event.hz) for event in events):
            continue  # The knocks have been reported already.
        is_component = _is_component(level if louder else expected, expected if louder else level, start, end)
        kind: Kind = (
            ("component" if is_component else "louder") if louder else ("missing" if is_component else "quieter")
        )
        deviations = float(abs(excess[most] / usual.deviation[most]))
        findings.append(Finding(kind, hz, float(excess[most]), deviations, times, always))
    return findings


def _swings(profile: Profile, swing: Floats, expected: Floats, events: list[Finding]) -> list[Finding]:
    usual = profile.usual["swing"]
    findings = []
    for start, end in _groups(swing - expected, usual.deviation, usual.limit, _LEAST["swing"]):
        ranges = slice(start, end)
        most = start + int(np.argmax(np.abs((swing - expected)[ranges] / usual.deviation[ranges])))
        excess, hz = float(swing[most] - expected[most]), _range_hz(profile, start, end)
        if excess < 0 or not any(_overlap(hz, event.hz) for event in events):
            deviations = abs(excess) / float(usual.deviation[most])
            findings.append(Finding("unsteady" if excess > 0 else "steady", hz, excess, deviations))
    return findings


def _events(
    spectrogram: Spectrogram,
    profile: Profile,
    recording_traits: dict[str, Floats],
    expected: dict[str, Floats],
    kind: Literal["knocks", "gaps"],
) -> list[Finding]:
    """Frames beyond the usual peaks (dips); none if they are too frequent to be events."""
    trait, sign = ("peak", 1) if kind == "knocks" else ("dip", -1)
    usual = profile.usual[trait]
    excess = np.maximum(recording_traits[trait] - expected[trait], 0.0)
    traces = sign * range_traces(spectrogram)
    above = traces - np.median(traces, axis=1, keepdims=True)
    bound = expected[trait] + np.maximum(usual.limit / 2 * usual.deviation, _LEAST[trait] / 2)
    findings = []
    for start, end in _groups(excess, usual.deviation, usual.limit, _LEAST[trait]):
        on: NDArray[np.bool_] = np.any(above[start:end] > bound[start:end, None], axis=0)
        if on.mean() <= _NOW_AND_THEN:
            most = start + int(np.argmax(excess[start:end] / usual.deviation[start:end]))
            deviations = float(excess[most] / usual.deviation[most])
            times = _spans(on, profile)
            findings.append(Finding(kind, _range_hz(profile, start, end), float(excess[most]), deviations, times))
    return findings


def _groups(excess: Floats, deviation: Floats, limit: float, least: float) -> list[tuple[int, int]]:
    """Neighbouring places, from and to, that are unusual in the same direction.

    A group contains a place beyond the limit, and extends to both sides while places are beyond half of it; a gap of
    one place does not end it.
    """
    groups: list[tuple[int, int]] = []
    for sign in (1, -1):
        signed = sign * excess
        strong = (signed > limit * deviation) & (signed > least)
        weak = (signed > limit / 2 * deviation) & (signed > least / 2)
        weak[1:-1] |= weak[:-2] & weak[2:]
        groups += [(start, end) for start, end in _runs(weak) if strong[start:end].any()]
    return sorted(groups)


def _is_component(level: Floats, other: Floats, start: int, end: int) -> bool:
    """Whether the bands are few, exceed their surroundings in ``level``, and at most half as much in ``other``."""
    if end - start > _NEIGHBOURS:
        return False
    around = np.r_[max(0, start - _NEIGHBOURS) : start, end : min(len(level), end + _NEIGHBOURS)]
    prominence, others = (float(values[start:end].max() - np.median(values[around])) for values in (level, other))
    return prominence >= _PROMINENT and others <= prominence / 2


def _runs(on: NDArray[np.bool_]) -> list[tuple[int, int]]:
    changes = np.flatnonzero(np.diff(np.r_[0, on.astype(np.int8), 0]))
    return list(zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True))


def _spans(on: NDArray[np.bool_], profile: Profile) -> tuple[Span, ...]:
    """The runs in seconds; a frame extends half a hop to both sides, and a gap of one frame does not end a run."""
    closed = on.copy()
    closed[1:-1] |= on[:-2] & on[2:]
    hop, first = profile.frame_seconds, profile.edge_frames - 0.5
    return tuple((round((first + a) * hop, 3), round((first + b) * hop, 3)) for a, b in _runs(closed))


def _range_hz(profile: Profile, start: int, end: int) -> Span:
    sizes = [len(part) for part in np.array_split(np.arange(len(profile.edges) - 1), RANGES)]
    bounds = np.r_[0, np.cumsum(sizes)]
    return float(profile.edges[bounds[start]]), float(profile.edges[bounds[end]])


def _overlap(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _hz(span: Span) -> str:
    """
    >>> _hz((110.0, 420.0)), _hz((880.0, 1610.0)), _hz((1200.0, 4040.0))
    ('110-420 Hz', '880 Hz to 1.6 kHz', '1.2-4.0 kHz')
    """
    low, high = span
    if high < 1000:
        return f"{round(low, -1):.0f}-{round(high, -1):.0f} Hz"
    if low < 1000:
        return f"{round(low, -1):.0f} Hz to {high / 1000:.1f} kHz"
    return f"{low / 1000:.1f}-{high / 1000:.1f} kHz"


def _around(span: Span) -> str:
    middle = sum(span) / 2
    return f"{round(middle, -1):.0f} Hz" if middle < 1000 else f"{middle / 1000:.2f} kHz"
