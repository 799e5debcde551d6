"""What is known of the views of a batch: of which machine, in which condition, moved in pitch or not."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

SHIFT = {"pitch_down": -1, "pitch_up": 1}
"""Variants that are another sound than the original; noise and masks leave it what it is."""

FEWEST = 4
"""Recordings that a condition needs for a class of its own. With fewer, telling conditions apart would be telling
recordings apart."""


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

    A condition is a machine with all its attributes alike (speed, load, ...). Where they are not known, or fewer than
    `FEWEST` recordings share them, it is the machine alone.

    Args:
        recordings: columns ``recording``, ``machine``, ``attributes`` (JSON text), as in the catalog.
    """

    def __init__(self, recordings: pd.DataFrame) -> None:
        known = recordings.groupby(["machine", "attributes"])["recording"].transform("size") >= FEWEST
        attributes = recordings["attributes"].where(known, "")
        pairs = list(zip(recordings["machine"], attributes, strict=True))
        self.of: dict[str, tuple[str, str]] = dict(zip(recordings["recording"], pairs, strict=True))
        self.machines = sorted(set(recordings["machine"]))
        self.conditions = sorted(set(pairs))

    def labels(self, recordings: Sequence[str], variants: Sequence[str]) -> Labels:
        """The labels of the views of ``recordings``: their originals, then the ``variants`` drawn of them."""
        conditions = [self.of[recording] for recording in recordings]
        machine = torch.tensor([self.machines.index(machine) for machine, _ in conditions])
        condition = torch.tensor([self.conditions.index(pair) for pair in conditions])
        shift = torch.tensor([0] * len(recordings) + [SHIFT.get(variant, 0) for variant in variants])
        return Labels(machine.repeat(2), condition.repeat(2), shift)
