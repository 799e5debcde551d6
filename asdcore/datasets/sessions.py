"""What recordings of one session of a simulated machine share, and what sets them apart from another day's.

A microphone that is put up again hears otherwise, and its recorder is set otherwise; the machine runs a little faster
or slower, warmer or colder; the hall around it is louder or quieter. None of this is a fault, and none of it is the
domain shift: recordings of both domains are made in a session.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from asdcore.datasets.machines import SAMPLE_RATE, Signal

RESPONSE_HZ = (62.5, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)
"""where the response of a microphone is drawn; in between it is a straight line over the octaves"""
RESPONSE_DB, GAIN_DB, BACKGROUND_DB, BALANCE_DB = 2.0, 2.0, 2.0, 1.0
"""standard deviations over sessions"""
SPEED = 0.01
"""standard deviation of the speed (load, rate), as a fraction: steps between operating conditions are larger"""
_PARTS = 3
"""of which each machine is the sum"""


@dataclass(frozen=True)
class Session:
    """One session of one machine.

    >>> session = Session.draw(np.random.default_rng(0))
    >>> len(session.response_db), 0.9 < session.speed < 1.1
    (8, True)
    """

    speed: float
    """that the operating condition is multiplied by"""
    balance_db: tuple[float, ...]
    """how loud each part of the machine is, as it is warmer or colder"""
    background_db: float
    """how loud the hall around it is"""
    gain_db: float
    """of the recorder"""
    response_db: tuple[float, ...]
    """of the microphone where it stands, at `RESPONSE_HZ`"""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """A session at random."""
        return cls(
            speed=float(1 + rng.normal(0.0, SPEED)),
            balance_db=tuple(rng.normal(0.0, BALANCE_DB, _PARTS).tolist()),
            background_db=float(rng.normal(0.0, BACKGROUND_DB)),
            gain_db=float(rng.normal(0.0, GAIN_DB)),
            response_db=tuple(rng.normal(0.0, RESPONSE_DB, len(RESPONSE_HZ)).tolist()),
        )

    def balanced(self, parts: dict[str, Signal]) -> dict[str, Signal]:
        """The parts of the machine as loud as they are in this session."""
        levels = zip(parts.items(), self.balance_db, strict=True)
        return {name: _amplitude(level) * part for (name, part), level in levels}

    def louder_background(self, background: Signal) -> Signal:
        """The hall as loud as it is in this session."""
        return _amplitude(self.background_db) * background

    def recorded(self, sound: Signal) -> Signal:
        """What microphone and recorder of this session make of a sound."""
        octaves = np.log2(np.maximum(np.fft.rfftfreq(sound.size, 1 / SAMPLE_RATE), 1.0))
        response = np.interp(octaves, np.log2(RESPONSE_HZ), self.response_db)
        spectrum = np.fft.rfft(sound) * 10 ** ((response + self.gain_db) / 20)
        return np.asarray(np.fft.irfft(spectrum, sound.size), dtype=np.float64)


def _amplitude(level_db: float) -> np.float64:
    return np.float64(10 ** (level_db / 20))
