"""Quiet hours: when no message is sent."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from asdcore.errors import AsdError

_RANGE = re.compile(r"\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*")
DAY = 24 * 60
"""minutes"""


@dataclass(frozen=True)
class QuietHours:
    """Ranges of local time, such as ``22:00-06:00``; the end is not quiet any more.

    Raises:
        AsdError: something that is no range.

    >>> night = QuietHours(["22:00-06:00"])
    >>> [night.at(datetime(2026, 5, 1, hour)) for hour in (21, 22, 3, 6)]
    [False, True, True, False]
    """

    ranges: Sequence[str] = ()

    def __post_init__(self) -> None:
        for text in self.ranges:
            _minutes(text)

    def at(self, time: datetime) -> bool:
        """Whether it is quiet then; a time with a time zone counts as local time."""
        local = time.astimezone() if time.tzinfo else time
        now = 60 * local.hour + local.minute
        ends = map(_minutes, self.ranges)
        return any(start <= now < end if start < end else now >= start or now < end for start, end in ends)


def _minutes(text: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    hours, minutes, until_hours, until_minutes = map(int, match.groups()) if match else (99, 0, 0, 0)
    start, end = 60 * hours + minutes, 60 * until_hours + until_minutes
    if start >= DAY or end > DAY or minutes > 59 or until_minutes > 59 or start == end:
        raise AsdError(f"quiet hours {text!r}: write them as 22:00-06:00, local time")
    return start, end
