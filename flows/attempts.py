"""Work that is tried again after growing pauses when it fails, with an incident as long as it does."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from asdcore.errors import AsdError
from asdcore.monitoring.incidents import run_completed, run_failed
from asdcore.storage.home import Home, without_userinfo
from tasks.incidents import unfailing
from tasks.notification import notified

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 600.0
"""Seconds from a failure to the next try; each further pause is twice as long."""
MOST_EXPECTED = 6
"""failures in a row that are no news"""


class Attempts:
    """What is tried again after growing pauses when it fails, until it works.

    Args:
        flow: what fails; the incident is about it.
        home: where incidents are kept.
        say: called with a message about each failure, once.
        clock: seconds; must be monotonic.
    """

    def __init__(
        self, flow: str, home: Home, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.flow, self.home, self.say, self.clock = flow, home, say, clock
        self.failures = 0
        self._next = clock()
        self._said = ""
        self._expected = 0

    def due(self) -> bool:
        """Whether it is time to try."""
        return self.clock() >= self._next

    def now(self) -> None:
        """Make it due at once: what made it fail may have changed."""
        self._next = self.clock()

    @contextmanager
    def attempt(self, *, expected: bool = False) -> Iterator[None]:
        """One try: no exception leaves the block. ``expected``: a failure is expected, and not reported.

        Repeated expected failures may hide another one: after `MOST_EXPECTED` of them, the failure is reported.
        """
        try:
            yield
        except Exception as error:
            if expected and self._expected < MOST_EXPECTED:
                self._expected += 1
                self._next = self.clock() + FIRST_PAUSE
                return
            unexpected = "" if isinstance(error, AsdError) else f"unexpected {type(error).__name__}: "
            self._failed(f"{unexpected}{without_userinfo(error)}")
        else:
            if self.failures:
                self.say(f"{self.flow} works again")
                unfailing(lambda: run_completed(self.home, self.flow))
                notified(self.home)
            self.failures, self._said, self._expected = 0, "", 0

    def _failed(self, why: str) -> None:
        self.failures += 1
        pause = min(FIRST_PAUSE * 2.0 ** (self.failures - 1), LONGEST_PAUSE)
        self._next = self.clock() + pause
        count = f" (failed {self.failures} times)" if self.failures > 1 else ""
        unfailing(lambda: run_failed(self.home, self.flow, f"{why[:1000]}{count}"))
        if why != self._said:
            self.say(f"{self.flow} failed: {why}\nIt is tried again in {pause:g} s, and then after longer pauses.")
        self._said = why
        notified(self.home)
