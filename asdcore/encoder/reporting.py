"""Progress of a running training."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from asdcore.progress import bar

SECONDS = 10.0
"""Minimum interval between two calls of ``on_progress``."""

Progress = Mapping[str, float]
"""step and steps of the whole training, epoch and epochs, loss, learning_rate, recordings_per_second"""


class Shown:
    """Draws the progress bar of a training and reports its progress.

    Args:
        on_progress: called with the progress, at most once every ``seconds``.
        seconds: minimum interval of the calls.
    """

    def __init__(self, on_progress: Callable[[Progress], None], seconds: float = SECONDS) -> None:
        self.on_progress, self.seconds = on_progress, seconds
        self.passed_on_at = self.before = time.monotonic()
        self.pace: float | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "Shown":
        self._bar = self._stack.enter_context(bar())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def step(self, recordings: int, progress: Progress) -> None:
        """Show a step; the number of recordings per second is a running mean over about ten steps."""
        now = time.monotonic()
        seconds, self.before = now - self.before, now
        self.pace = seconds if self.pace is None else 0.9 * self.pace + 0.1 * seconds
        self.show({**progress, "recordings_per_second": recordings / self.pace})

    def show(self, progress: Progress) -> None:
        """Show the progress of `step`, of this or another process."""
        text = (
            f"epoch {progress['epoch']:.0f} of {progress['epochs']:.0f}  loss {progress['loss']:.3g}  "
            f"rate {progress['learning_rate']:.2g}  {progress['recordings_per_second']:.0f} recordings/s"
        )
        self._bar(int(progress["step"]), int(progress["steps"]), text)
        if time.monotonic() - self.passed_on_at >= self.seconds:
            self.passed_on_at = time.monotonic()
            self.on_progress(progress)
