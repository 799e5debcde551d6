"""An unusual property of a recording, and the sentence that says it."""

from dataclasses import dataclass
from typing import Literal

from asdcore.explanation.profile import Trait

Kind = Literal[
    "louder", "quieter", "component", "missing", "changing", "constant", "unsteady", "steady", "knocks", "gaps"
]
Span = tuple[float, float]

TRAIT_OF: dict[Kind, Trait] = {
    "louder": "level",
    "quieter": "level",
    "component": "level",
    "missing": "level",
    "changing": "change",
    "constant": "change",
    "unsteady": "swing",
    "steady": "swing",
    "knocks": "peak",
    "gaps": "dip",
}
"""what was found unusual"""
WORDS: dict[Trait, str] = {
    "level": "the level",
    "change": "the change from frame to frame",
    "swing": "the rise and fall over time",
    "peak": "loud moments",
    "dip": "quiet moments",
}
_LONGEST_KNOCK = 0.25
"""seconds"""


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
    def trait(self) -> Trait:
        """What of the spectrogram is unusual."""
        return TRAIT_OF[self.kind]

    @property
    def sentence(self) -> str:
        """The finding as a sentence.

        >>> Finding("changing", (3100.0, 4000.0), 2.1, 8.0).sentence
        '3.1-4.0 kHz changes from frame to frame more than usual: by 2.1 dB (8 usual deviations).'
        """
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
            case "changing" | "constant":
                more = "more" if self.kind == "changing" else "less"
                return f"{where} changes from frame to frame {more} than usual: by {amount} {usual}."
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
