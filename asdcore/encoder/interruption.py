"""Ctrl-C and SIGTERM wait for the end of a step, so that what is saved then is whole."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While the block lasts, the first signal is kept for `act`; a second one acts at once.

    Outside the main thread, where Python lets no signal be caught and none arrives, it does nothing.

    Args:
        on_signal: called when the first one arrives.
    """

    def __init__(self, on_signal: Callable[[], None] = lambda: None) -> None:
        self.on_signal = on_signal
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._keep) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self.act()

    def act(self) -> None:
        """Do what the signal that was kept would have done: end the process, or raise. None was kept: nothing."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        kept, self._before, self.signal = self.signal, {}, None
        if kept is not None:
            signal.raise_signal(kept)

    def _keep(self, number: int, _: FrameType | None) -> None:
        again, self.signal = self.signal is not None, number
        if again:
            self.act()
        else:
            self.on_signal()
