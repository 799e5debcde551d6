"""Where a recording differs from what is normal for its machine: frequencies, times and sentences for operators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asdcore.arrays import Floats
from asdcore.explanation.findings import WORDS, Finding, Kind, Span
from asdcore.explanation.profile import RANGES, TRAITS, Profile, Trait, Usual, range_traces, traits
from asdcore.features.spectrogram import Spectrogram

NOTHING = (
    "No frequency and no moment stands out on its own. If the detector finds this recording strange, its reason has no "
    "simple place in the spectrum."
)
MOST_SENTENCES = 6
_LEAST: dict[Trait, float] = {"level": 1.0, "change": 0.5, "swing": 0.5, "peak": 3.0, "dip": 3.0}
"""dB; smaller deviations are not worth reporting"""
_PROMINENT = 5.0
"""dB above its surroundings: a distinct component"""
_NEIGHBOURS = 8
"""number of bands on either side that count as surroundings"""
_ALL_THE_TIME, _NOW_AND_THEN = 0.75, 0.2
_SMOOTH_FRAMES = 5
_CLEAR = 2.0
"""a level deviation of this many times its usual swing over time can be localised in time"""

Triggers = Mapping[str, Sequence[Trait]]
"""scorer that triggered: the traits that show what it finds, the one that it measures first; none: what it finds
cannot be located in the spectrum"""


@dataclass(frozen=True)
class Comparison:
    """A trait of each band, beside what is usual."""

    values: Floats
    """(n_mels,), dB: of this recording"""
    expected: Floats
    """(n_mels,), dB: of the most similar normal recording"""
    usual: Floats
    """(n_mels,), dB: the usual deviation above or below the expected value"""


@dataclass(frozen=True)
class Explanation:
    """A recording compared with what is usual for its machine."""

    spectrogram: Spectrogram
    """(n_mels, n_frames), dB"""
    edges: Floats
    """(n_mels + 1,), Hz"""
    frame_seconds: float
    level: Comparison
    """averages over time"""
    change: Comparison
    """from frame to frame"""
    findings: tuple[Finding, ...]
    """those of the scorers that triggered first, then the most unusual"""
    triggered_by: Triggers = field(default_factory=dict)

    @property
    def trigger(self) -> str:
        """What triggered and how the findings are related to it, as a sentence; empty if it is not known."""
        if not self.triggered_by:
            return ""
        who, several = f"Triggered by {_listed([*self.triggered_by])}", len(self.triggered_by) > 1
        found = {finding.trait for finding in self.findings}
        shown = [scorer for scorer, places in self.triggered_by.items() if found & {*places}]
        if found <= {trait for places in self.triggered_by.values() for trait in places}:
            return f"{who}."
        if shown:
            return f"{who}: findings of {_listed(shown)} come first."
        it, unusual = "them" if several else "it", WORDS[self.findings[0].trait]
        if any(self.triggered_by.values()):
            return f"{who}, but no finding is typical of {it}; the most unusual: {unusual}."
        return f"{who}, which cannot be located in the spectrum; the most unusual there: {unusual}."

    @property
    def sentences(self) -> list[str]:
        """What triggered, if it is known; and the findings as sentences, or one sentence that there are none."""
        return [self.trigger] * bool(self.trigger) + self.listed

    @property
    def listed(self) -> list[str]:
        """The findings as sentences, or one sentence that there are none."""
        sentences = [finding.sentence for finding in self.findings[:MOST_SENTENCES]]
        more = len(self.findings) - len(sentences)
        return (sentences or [NOTHING]) + ([f"And {more} more."] if more else [])


def explain(spectrogram: Spectrogram, profile: Profile, triggered_by: Triggers | None = None) -> Explanation:
    """Find where (n_mels, n_frames), dB, differs from what is normal for its machine.

    It describes the spectrum; the detector may have decided for other reasons. Some normal recordings have findings,
    too: for each trait one in thirty, or one in n + 1 if the profile was fitted on n < 30 recordings.

    Args:
        spectrogram: (n_mels, n_frames), dB.
        profile: of its machine.
        triggered_by: see `Triggers`. Findings of what these scorers measure come first, then findings of the other
            traits that show what they find, then all others; among these the most unusual first.
    """
    inner = profile.inner(spectrogram)
    recording_traits = traits(inner)
    expected = {trait: profile.usual[trait].expected(recording_traits[trait]) for trait in TRAITS}
    events = _events(inner, profile, recording_traits, expected, "knocks") + _events(
        inner, profile, recording_traits, expected, "gaps"
    )
    findings = events + _levels(inner, profile, recording_traits["level"], expected, events)
    calm = inner[:, _calm(inner.shape[1], profile, events)]
    calm_traits = traits(calm) if calm.shape[1] else expected
    findings += _steadiness(profile, "change", recording_traits, calm_traits, expected)
    findings += _steadiness(profile, "swing", recording_traits, calm_traits, expected)
    level, change = (
        Comparison(
            recording_traits[trait], expected[trait], profile.usual[trait].limit * profile.usual[trait].deviation
        )
        for trait in ("level", "change")
    )
    triggers = dict(triggered_by or {})
    ordered = sorted(findings, key=lambda finding: (_order(finding, triggers), -finding.deviations))
    return Explanation(spectrogram, profile.edges, profile.frame_seconds, level, change, tuple(ordered), triggers)


def _listed(names: list[str]) -> str:
    """
    >>> _listed(["spectrum"]), _listed(["spectrum", "change", "embedding"])
    ('spectrum', 'spectrum, change and embedding')
    """
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + names[-1:])


def _order(finding: Finding, triggered_by: Triggers) -> int:
    """0: of a trait that a scorer which triggered measures; 1: of another that shows what it finds; 2: neither."""
    if finding.trait in {next(iter(shown), None) for shown in triggered_by.values()}:
        return 0
    return 1 if any(finding.trait in shown for shown in triggered_by.values()) else 2


def _levels(
    spectrogram: Spectrogram, profile: Profile, level: Floats, all_expected: dict[Trait, Floats], events: list[Finding]
) -> list[Finding]:
    usual, expected = profile.usual["level"], all_expected["level"]
    swing = np.repeat(all_expected["swing"], [len(part) for part in np.array_split(level, RANGES)])
    excess = level - expected
    findings = []
    for group in _groups(excess, usual, _LEAST["level"]):
        bands, louder, hz = slice(group.start, group.end), group.excess > 0, _band_hz(profile, group)
        trace = (spectrogram[bands].astype(np.float64) - expected[bands, None]).mean(axis=0) * (1 if louder else -1)
        smooth = np.convolve(np.pad(trace, _SMOOTH_FRAMES // 2, mode="edge"), np.ones(_SMOOTH_FRAMES), "valid")
        on = smooth / _SMOOTH_FRAMES > np.abs(excess[bands]).mean() / 2
        always = bool(on.mean() >= _ALL_THE_TIME)
        clear = np.abs(excess[bands]).mean() > _CLEAR * swing[bands].mean()
        times = _spans(on, profile) if clear and not always else ()
        if on.mean() < _NOW_AND_THEN and any(_overlap(hz, event.hz) for event in events):
            continue  # The knocks have been reported already.
        is_component = _is_component(level if louder else expected, expected if louder else level, group)
        kind: Kind = (
            ("component" if is_component else "louder") if louder else ("missing" if is_component else "quieter")
        )
        findings.append(Finding(kind, hz, group.excess, group.deviations, times, always))
    return findings


def _steadiness(
    profile: Profile,
    trait: Literal["change", "swing"],
    recording_traits: dict[Trait, Floats],
    calm_traits: dict[Trait, Floats],
    expected: dict[Trait, Floats],
) -> list[Finding]:
    """Where the level varies over time more or less than usual; more only if it does between the events, too."""
    usual, least = profile.usual[trait], _LEAST[trait]
    calm = _groups(calm_traits[trait] - expected[trait], usual, least)
    livelier = [(group.start, group.end) for group in calm if group.excess > 0]
    more: Kind = "changing" if trait == "change" else "unsteady"
    less: Kind = "constant" if trait == "change" else "steady"
    findings = []
    for group in _groups(recording_traits[trait] - expected[trait], usual, least):
        if group.excess < 0 or any(_overlap((group.start, group.end), other) for other in livelier):
            hz = _band_hz(profile, group) if trait == "change" else _range_hz(profile, group)
            findings.append(Finding(more if group.excess > 0 else less, hz, group.excess, group.deviations))
    return findings


def _events(
    spectrogram: Spectrogram,
    profile: Profile,
    recording_traits: dict[Trait, Floats],
    expected: dict[Trait, Floats],
    kind: Literal["knocks", "gaps"],
) -> list[Finding]:
    """Frames beyond the usual peaks (dips); none if they are too frequent to be events."""
    trait: Trait = "peak" if kind == "knocks" else "dip"
    sign = 1 if kind == "knocks" else -1
    usual = profile.usual[trait]
    excess = np.maximum(recording_traits[trait] - expected[trait], 0.0)
    traces = sign * range_traces(spectrogram)
    above = traces - np.median(traces, axis=1, keepdims=True)
    bound = expected[trait] + np.maximum(usual.limit / 2 * usual.deviation, _LEAST[trait] / 2)
    findings = []
    for group in _groups(excess, usual, _LEAST[trait]):
        ranges = slice(group.start, group.end)
        on: NDArray[np.bool_] = np.any(above[ranges] > bound[ranges, None], axis=0)
        if on.mean() <= _NOW_AND_THEN:
            times = _spans(on, profile)
            findings.append(Finding(kind, _range_hz(profile, group), group.excess, group.deviations, times))
    return findings


def _calm(n_frames: int, profile: Profile, events: list[Finding]) -> NDArray[np.bool_]:
    """(n_frames,): whether a frame is in none of the events."""
    seconds = (profile.edge_frames + np.arange(n_frames)) * profile.frame_seconds
    calm = np.ones(n_frames, dtype=np.bool_)
    for start, end in (span for event in events for span in event.times):
        calm &= (seconds < start) | (seconds > end)
    return calm


@dataclass(frozen=True)
class _Group:
    """Neighbouring places (bands or ranges) that are unusual in the same direction."""

    start: int
    end: int
    """after the last"""
    excess: float
    """dB, at the most unusual place"""
    deviations: float
    """the same in usual deviations, positive"""


def _groups(excess: Floats, usual: Usual, least: float) -> list[_Group]:
    """The groups of unusual places, in their order.

    A group contains a place beyond the limit, and extends to both sides while places are beyond half of it; a gap of
    one place does not end it.
    """
    deviations, limit = np.abs(excess) / usual.deviation, usual.limit
    groups: list[_Group] = []
    for sign in (1, -1):
        signed = sign * excess
        strong = (deviations > limit) & (signed > least)
        weak = (deviations > limit / 2) & (signed > least / 2)
        weak[1:-1] |= weak[:-2] & weak[2:]
        for start, end in _runs(weak):
            if strong[start:end].any():
                most = start + int(np.argmax(deviations[start:end]))
                groups.append(_Group(start, end, float(excess[most]), float(deviations[most])))
    return sorted(groups, key=lambda group: group.start)


def _is_component(level: Floats, other: Floats, group: _Group) -> bool:
    """Whether the bands are few, exceed their surroundings in ``level``, and at most half as much in ``other``."""
    start, end = group.start, group.end
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


def _band_hz(profile: Profile, group: _Group) -> Span:
    return float(profile.edges[group.start]), float(profile.edges[group.end])


def _range_hz(profile: Profile, group: _Group) -> Span:
    sizes = [len(part) for part in np.array_split(np.arange(len(profile.edges) - 1), RANGES)]
    bounds = np.r_[0, np.cumsum(sizes)]
    return float(profile.edges[bounds[group.start]]), float(profile.edges[bounds[group.end]])


def _overlap(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]
