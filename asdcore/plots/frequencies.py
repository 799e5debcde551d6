"""The axes of a spectrogram: mel bands, spaced by perceived pitch, and decibels."""

import numpy as np

from asdcore.arrays import Floats

_TICKS_HZ = (0, 250, 500, 1000, 2000, 4000, 8000, 16000, 32000)
QUIETEST = 60.0
"""dB below the loudest: the bottom of the colour scale"""


def band_of(edges: Floats, hz: float) -> float:
    """The position of a frequency on an axis of bands, between 0 and their number. ``edges``: (n_mels + 1,), Hz."""
    return float(np.interp(hz, edges, np.arange(len(edges))))


def frequency_ticks(edges: Floats) -> list[tuple[float, str]]:
    """Positions on an axis of bands, and the frequencies that they show.

    >>> frequency_ticks(np.array([0.0, 500.0, 1000.0, 2000.0]))
    [(0.0, '0 Hz'), (0.5, '250 Hz'), (1.0, '500 Hz'), (2.0, '1 kHz'), (3.0, '2 kHz')]
    """
    ticks = [hz for hz in _TICKS_HZ if hz <= edges[-1]]
    return [(band_of(edges, hz), f"{hz} Hz" if hz < 1000 else f"{hz // 1000} kHz") for hz in ticks]
