"""When a machine calls somebody: its false-alarm rate, and how many anomalous recordings make an alarm."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from asdcore.errors import AsdError

_RULE = re.compile(r"\s*(\d+)\s*/\s*(\d+)\s*")


@dataclass(frozen=True)
class Threshold:
    """A machine's own threshold, instead of that of the settings.

    A recording is anomalous at ``false_alarm_rate``. An alarm begins with the recording that makes ``needed`` of the
    ``last`` ones anomalous: a rule over several recordings allows a higher rate, which fewer normal recordings support,
    with as few calls.

    Raises:
        AsdError: a rate that is not between 0 and 1, or a rule that can never, or must always, be met.

    >>> Threshold(0.05, 3, 5).alarms([1, 0, 1, 0, 1, 1, 0, 0, 0])
    [4]
    >>> round(Threshold(0.05, 3, 5).per_recording(), 5), Threshold(0.05).per_recording()
    (0.00064, 0.0475)
    """

    false_alarm_rate: float
    needed: int = 1
    last: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.false_alarm_rate < 1:
            raise AsdError(f"false-alarm rate {self.false_alarm_rate:g}: it must be above 0 and below 1, such as 0.05")
        if not 1 <= self.needed <= self.last:
            raise AsdError(f"alarm rule {self.rule}: needs 1 <= k <= n, k of the last n recordings, such as 3/5")

    @property
    def rule(self) -> str:
        """As `rule_of` reads it."""
        return f"{self.needed}/{self.last}"

    def in_alarm(self, decisions: Sequence[int]) -> list[bool]:
        """Whether the machine is in alarm after each recording.

        Args:
            decisions: 1 for anomalous, else 0, in the order of the recordings.
        """
        ends = range(1, len(decisions) + 1)
        return [sum(decisions[max(0, end - self.last) : end]) >= self.needed for end in ends]

    def alarms(self, decisions: Sequence[int]) -> list[int]:
        """The recordings that an alarm begins with, counted from 0; ``decisions``: as `in_alarm` takes them."""
        states = [False, *self.in_alarm(decisions)]
        return [index for index, (before, after) in enumerate(pairwise(states)) if after and not before]

    def per_recording(self) -> float:
        """How many false alarms begin with a normal recording on average, if recordings are independent.

        The one before must not be in alarm already: p C(n-1, k-1) p^(k-1) (1-p)^(n-k) (1-p). Recordings of one session
        are alike, so that false alarms come together: for k = 1 they are fewer and longer, for a larger k there may be
        far more than this, since one strange recording makes the next one likely. A detector does not know the order in
        which its training recordings were made, so it cannot count alarms among them.
        """
        p, k, n = self.false_alarm_rate, self.needed, self.last
        return math.comb(n - 1, k - 1) * p**k * (1 - p) ** (n - k + 1)


def rule_of(text: str) -> tuple[int, int]:
    """k and n of ``k/n``.

    Raises:
        AsdError: something else.

    >>> rule_of("3/5")
    (3, 5)
    """
    match = _RULE.fullmatch(text)
    if not match:
        raise AsdError(f"alarm rule {text!r}: write k/n, k anomalous of the last n recordings, such as 3/5")
    return int(match[1]), int(match[2])
