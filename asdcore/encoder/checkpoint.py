"""Checkpoints of a training: written atomically, verified by the digest in their names; the last two are kept."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from asdcore.errors import AsdError
from asdcore.storage.files import atomic_write, digest_of_file

KEPT = 2
"""The newest and the one before it."""

MOST_TIME = 0.02
"""Maximum fraction of the training time spent on writing checkpoints."""


class Checkpoints:
    """The checkpoints in ``folder``, of the training that ``fingerprint`` identifies.

    Args:
        folder: holds files ``step-<step>-<digest>.pt``; need not exist yet.
        fingerprint: digest of settings and recordings: a checkpoint of another training must not be resumed.
        on_warning: called with a message for each unusable file.
    """

    def __init__(self, folder: Path, fingerprint: str, on_warning: Callable[[str], None]) -> None:
        self.folder, self.fingerprint, self.on_warning = folder, fingerprint, on_warning
        self.saved_at, self.cost = time.monotonic(), 0.0

    def due(self) -> bool:
        """Whether so much time has passed since the last one that writing the next keeps within `MOST_TIME`."""
        return time.monotonic() - self.saved_at >= self.cost / MOST_TIME

    def save(self, content: dict[str, Any], step: int) -> None:
        """Write a checkpoint after ``step`` steps, and delete all but the last two."""
        began = time.monotonic()
        unnamed = self.folder / ".checkpoint.partial"
        with atomic_write(unnamed) as temporary:
            torch.save({"fingerprint": self.fingerprint} | content, temporary)
        unnamed.rename(self.folder / f"step-{step:09}-{digest_of_file(unnamed)[:16]}.pt")
        for older in checkpoint_files(self.folder)[KEPT:]:
            older.unlink(missing_ok=True)
        self.saved_at = time.monotonic()
        self.cost = self.saved_at - began

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The content of the newest usable checkpoint, or None. Unusable ones are deleted.

        Raises:
            AsdError: a checkpoint is of another training.
        """
        for path in checkpoint_files(self.folder):
            try:
                content = _read(path, device)
            except _UnusableError as error:
                path.unlink(missing_ok=True)
                self.on_warning(f"{path}: unusable ({error}), deleted; resuming from the previous one, if any")
                continue
            if content["fingerprint"] != self.fingerprint:
                raise AsdError(
                    f"{path}: belongs to a training with other recordings or settings. Delete it to start again"
                )
            return content
        return None


def checkpoint_files(folder: Path) -> list[Path]:
    """The newest first."""
    return sorted(folder.glob("step-*.pt"), reverse=True)


class _UnusableError(Exception):
    """A checkpoint that is damaged or no checkpoint at all."""


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    """``weights_only``: torch then reads tensors and numbers, no other pickle."""
    if digest_of_file(path)[:16] not in path.name:
        raise _UnusableError("its content does not match the digest in its name")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    # torch raises many kinds of errors for files of another format, with the advice to allow pickles.
    except Exception as error:
        raise _UnusableError(f"not a checkpoint: {type(error).__name__}") from error
    if not isinstance(content, dict) or "fingerprint" not in content:
        raise _UnusableError("not a checkpoint")
    return content
