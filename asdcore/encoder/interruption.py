"""Defer Ctrl-C and SIGTERM to the end of a step, so that a complete state is saved."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Within the block, the first signal is deferred to `act`; a second one acts immediately.

    Outside the main thread, where Python neither handles nor receives signals, it does nothing.

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
        """Raise the deferred signal again: end the process, or raise an exception. A no-op without one."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        deferred, self._before, self.signal = self.signal, {}, None
        if deferred is not None:
            signal.raise_signal(deferred)

    def _keep(self, number: int, _: FrameType | None) -> None:
        again, self.signal = self.signal is not None, number
        if again:
            self.act()
        else:
            self.on_signal()
