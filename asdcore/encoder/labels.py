"""Labels of the views of a batch: machine, condition and pitch shift."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from asdcore.recordings.sessions import groups_of

SHIFT = {"pitch_down": -1, "pitch_up": 1}
"""Variants that count as a different sound; noise and masks do not change the class."""

FEWEST = 4
"""Minimum number of recordings for a condition to be its own class. With fewer, classifying conditions would amount to
identifying recordings."""


@dataclass(frozen=True)
class Labels:
    """Of the 2n views of n recordings, the originals first: int64 tensors (2n,)."""

    machine: Tensor
    """index of the machine"""
    condition: Tensor
    """index of the machine and its attributes"""
    shift: Tensor
    """-1, 0, 1: pitch shifted down, not, up"""

    def to(self, device: torch.device) -> "Labels":
        return Labels(self.machine.to(device), self.condition.to(device), self.shift.to(device))


class Labelling:
    """Machines and conditions of the training recordings.

    A condition is a machine with one combination of attributes (speed, load, ...). If they are unknown, or fewer than
    `FEWEST` recordings have them, it is the machine alone.

    Args:
        recordings: columns ``recording``, ``machine``, ``attributes`` (JSON text) and, if known, ``session``, as in the
            catalog.
    """

    def __init__(self, recordings: pd.DataFrame) -> None:
        frequent = recordings.groupby(["machine", "attributes"])["recording"].transform("size") >= FEWEST
        attributes = recordings["attributes"].where(frequent, "")
        pairs = list(zip(recordings["machine"], attributes, strict=True))
        self.of: dict[str, tuple[str, str]] = dict(zip(recordings["recording"], pairs, strict=True))
        sessions = recordings if "session" in recordings else recordings.assign(session="")
        self.group_of: dict[str, str] = dict(zip(recordings["recording"], groups_of(sessions).tolist(), strict=True))
        """what a validation leaves out together, see `groups_of`"""
        self.machines = sorted(set(recordings["machine"]))
        self.conditions = sorted(set(pairs))

    def labels(self, recordings: Sequence[str], variants: Sequence[str]) -> Labels:
        """The labels of the views of ``recordings``: their originals, then the ``variants`` drawn of them."""
        conditions = [self.of[recording] for recording in recordings]
        machine = torch.tensor([self.machines.index(machine) for machine, _ in conditions])
        condition = torch.tensor([self.conditions.index(pair) for pair in conditions])
        shift = torch.tensor([0] * len(recordings) + [SHIFT.get(variant, 0) for variant in variants])
        return Labels(machine.repeat(2), condition.repeat(2), shift)
