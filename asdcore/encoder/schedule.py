"""The learning rate at each step."""

import math

from asdcore.settings import TrainingSettings


def learning_rate(step: int, steps_per_epoch: int, settings: TrainingSettings) -> float:
    """Cosine annealing with warm restarts (Loshchilov and Hutter 2016), from the initial rate to a thousandth of it.

    Each of the ``cycles`` ends at the lowest rate exactly, the last step of training included. During the
    first ``warmup_steps`` it is multiplied by a factor that rises linearly to 1.
    """
    length = settings.epochs // settings.cycles * steps_per_epoch
    within = step % length / max(length - 1, 1)
    lowest = settings.learning_rate / 1000
    rate = lowest + (settings.learning_rate - lowest) * (1 + math.cos(math.pi * within)) / 2
    return rate * min((step + 1) / (settings.warmup_steps + 1), 1.0)
