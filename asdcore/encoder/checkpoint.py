"""Checkpoints of a training: each written whole, known by the digest in its name, the last two kept."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from asdcore.errors import AsdError
from asdcore.storage.files import atomic_write, digest_of_file

KEPT = 2
"""The newest and the one before it."""

SHARE = 0.02
"""Most of the time of a training that may go into writing checkpoints."""


class Checkpoints:
    """The checkpoints in ``folder``, of the training that ``fingerprint`` identifies.

    Args:
        folder: holds files ``step-<step>-<digest>.pt``; need not exist yet.
        fingerprint: digest of settings and recordings: a checkpoint of another training must not be gone on from.
        on_warning: gets a sentence for each file that cannot be used.
    """

    def __init__(self, folder: Path, fingerprint: str, on_warning: Callable[[str], None]) -> None:
        self.folder, self.fingerprint, self.on_warning = folder, fingerprint, on_warning
        self.saved_at, self.cost = time.monotonic(), 0.0

    def due(self) -> bool:
        """Whether so much time has passed since the last one that `SHARE` pays for the next."""
        return time.monotonic() - self.saved_at >= self.cost / SHARE

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
        """The content of the newest checkpoint that can be used; None where there is none. The unusable are deleted.

        Raises:
            AsdError: a checkpoint is of another training.
        """
        for path in checkpoint_files(self.folder):
            try:
                content = _read(path, device)
            except _UnusableError as error:
                path.unlink(missing_ok=True)
                self.on_warning(
                    f"{path}: unusable ({error}), deleted; going on from the one before it, if there is one"
                )
                continue
            if content["fingerprint"] != self.fingerprint:
                raise AsdError(f"{path}: of a training with other recordings or settings. Delete it to train again")
            return content
        return None


def checkpoint_files(folder: Path) -> list[Path]:
    """The newest first."""
    return sorted(folder.glob("step-*.pt"), reverse=True)


class _UnusableError(Exception):
    """A checkpoint that is not what was written."""


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    """``weights_only``: torch then reads tensors and numbers, no other pickle."""
    if digest_of_file(path)[:16] not in path.name:
        raise _UnusableError("its content has not the digest in its name")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    # torch lets through whatever it stumbles over in a file that is not its own, with the advice to allow pickles.
    except Exception as error:
        raise _UnusableError(f"no checkpoint: {type(error).__name__}") from error
    if not isinstance(content, dict) or "fingerprint" not in content:
        raise _UnusableError("no checkpoint")
    return content
