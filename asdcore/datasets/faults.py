"""Faults that a package or a notebook adds to those of the simulated machines.

A fault is a function of the machine's sound, registered in the entry point group ``asd.faults``, or in a notebook:

    @FAULTS.register("dropouts")
    def dropouts(sound, sample_rate, strength, rng):
        gain = np.ones(len(sound))
        for start in rng.integers(len(sound), size=5):
            gain[start : start + sample_rate // 50] = max(0.0, 1 - strength)
        return gain * sound

- ``sound``: ``(n_samples,)`` float64, the machine alone, without the hall around it. Its scale is arbitrary: make what
  you add as loud as a multiple of ``sound.std()``.
- ``sample_rate``: Hz.
- ``strength``: at 0 it returns the sound as it is; at 1 it should be neither trivial nor hopeless to detect; larger is
  stronger.
- ``rng``: draws the rest, since no two broken machines break alike.

It returns ``(n_samples,)``. It may as well be applied to the samples of a normal recording of a real machine.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from asdcore.datasets.machines import SAMPLE_RATE, Machine, Signal, total, with_fault
from asdcore.errors import AsdError
from asdcore.registry import FAULTS

Fault = Callable[[Signal, int, float, np.random.Generator], NDArray[np.floating]]


def faulty_sound(
    parts: dict[str, Signal], spec: Machine, name: str, strength: float, rng: np.random.Generator
) -> Signal:
    """The sound of a machine with a fault, built in or added, ``(n_samples,)``.

    Raises:
        AsdError: an unknown fault, or an added one that does not return as many finite numbers.
    """
    if name in FAULTS.built_in:
        return with_fault(parts, spec, name, strength, rng)
    sound = total(parts)
    faulty = np.asarray(FAULTS.get(name)(sound.copy(), SAMPLE_RATE, strength, rng), dtype=np.float64)
    if faulty.shape != sound.shape:
        raise AsdError(f"fault {name!r} returns an array of shape {faulty.shape} for a sound of shape {sound.shape}")
    if not np.isfinite(faulty).all():
        raise AsdError(f"fault {name!r} at strength {strength:g} returns samples that are not finite")
    return faulty


def known_faults(names: Iterable[str]) -> tuple[str, ...]:
    """These names, each once.

    Raises:
        AsdError: an unknown one, or none at all.
    """
    chosen = tuple(dict.fromkeys(names))
    for name in chosen or ("",):
        if name not in FAULTS:
            raise AsdError(f"fault={name!r} is unknown. Known: {', '.join(FAULTS.names())}.")
    return chosen
