"""Recordings of interest: what a page says of each, and how many of them it has room for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from asdcore.reports.comparison import Compared
from asdcore.reports.page import MOST_BYTES, count_of

MOST_SHOWN = 20
"""recordings of interest: a person looks at them one by one"""
_FOR_SOUND, _FOR_PICTURES = round(0.7 * MOST_BYTES), round(0.85 * MOST_BYTES)
"""size of the recordings of interest from which on the next ones have no sound, and no pictures"""

Compare = Callable[[bool], Compared]
"""Explains a recording beside the most similar one; True: with sound"""


@dataclass(frozen=True)
class Card:
    """A recording of interest."""

    anchor: str
    """where it is in the page"""
    name: str
    badge: str
    """what it is, in a word or two"""
    tone: str
    """the verdict whose colour it has"""
    facts: Sequence[tuple[str, str]] = ()
    """what is said of it, by a word"""
    hint: str = ""
    """what the commands are for"""
    commands: Sequence[str] = ()
    beside: str = "The most similar normal recording"
    compared: Compared | None = None
    """None: left out, to bound the size"""


def bounded(cards: Sequence[tuple[Card, Compare]]) -> tuple[list[Card], list[str]]:
    """The cards with their comparisons, as far as there is room, and what was left out of the last ones."""
    filled: list[Card] = []
    size = silent = hidden = 0
    for card, compare in cards:
        comparison: Compared | None = None
        if size < _FOR_PICTURES:
            silent += size >= _FOR_SOUND
            comparison = compare(size < _FOR_SOUND)
            size += comparison.size
        else:
            hidden += 1
        filled.append(replace(card, compared=comparison))
    parts = {"the sound": silent, "pictures and sound": hidden}
    return filled, [f"{what} of {count_of(n, 'recording')}, the least strange ones" for what, n in parts.items() if n]
