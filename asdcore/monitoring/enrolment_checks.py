"""Enrolment checks: can the recordings be the normal sound of one machine?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from asdcore.arrays import Floats

UNLIKE = 6.0
"""dB between two recordings. Half of the pairs of one real machine and domain differ by less than 1.9 to 5.0 dB (ten
machines, four to 16 recordings each), those of recordings of three of them in one folder by less than 6.7, pure tones
of any pitch by 12.8. Seven machines with similar spectra reach 5.8 and are not detected."""
ALIKE = 0.8
"""dB; 10 s of white noise: 0.25, 2 s: 0.6; the most alike real machine: 1.9, simulated: 1.0"""
CHANCE = 2.0
"""times the scatter that the changes within a recording explain; white noise: 1.4, real machines: 2.6 to 38"""
UNSTEADY = 12.0
"""dB, deviation over time of the median band. Real machines: 2 to 6, one that is switched on and off: 8; noise that is
switched on and off five times a second, as speech is (simulated): 25"""
MOST_ROWS = 500


def enrolment_checks(statistics: NDArray[np.floating], domains: Sequence[str], frames: Sequence[float]) -> list[str]:
    """Reasons why the recordings may not be the normal sound of one machine; empty if there are none.

    Args:
        statistics: (n, 2 * n_mels), dB: mean and deviation over time of each recording, see `time_statistics`.
        domains: n names: recordings of two domains may differ.
        frames: n values: the number of frames of each recording.

    Returns:
        Sentences with the measured values. The thresholds come from real machines, see this module; a sound machine
        may exceed them.

    >>> rng = np.random.default_rng(0)
    >>> machine = np.hstack([-50 + 3 * rng.normal(size=(20, 128)), np.full((20, 128), 3.0)])
    >>> enrolment_checks(machine, ["source"] * 20, [313] * 20)
    []
    """
    chosen = np.unique(np.linspace(0, len(statistics) - 1, MOST_ROWS).astype(int))
    rows: Floats = np.asarray(statistics, dtype=np.float64)[chosen]
    size = rows.shape[1] // 2
    # The level depends on the distance of the microphone, not on the sound.
    shapes = rows[:, :size] - rows[:, :size].mean(axis=1, keepdims=True)
    named = np.asarray(domains)[chosen]
    pairs = np.concatenate([pdist(shapes[named == domain]) for domain in np.unique(named)]) / np.sqrt(size)
    sentences = []
    if len(pairs):
        typical = float(np.median(pairs))
        chance = np.sqrt(np.mean(rows[:, size:] ** 2 / np.asarray(frames, dtype=np.float64)[chosen, None]))
        scatter = np.sqrt(np.mean((shapes - np.median(shapes, axis=0)) ** 2))
        if typical > UNLIKE:
            sentences.append(
                f"they differ too much: half of all pairs differ by more than {typical:.1f} dB between "
                f"their average spectra (one machine: less than {UNLIKE:.0f} dB). Are they of several machines?"
            )
        if typical < ALIKE and scatter < CHANCE * chance:
            sentences.append(
                f"they are nearly identical: half of all pairs differ by less than {typical:.2f} dB between their "
                "average spectra, no more than steady noise by chance. Is the microphone connected?"
            )
    unsteady = float(np.median(rows[:, size:]))
    if unsteady > UNSTEADY:
        sentences.append(
            f"they are unsteady: in half of the bands the level varies by more than {unsteady:.0f} dB within a "
            f"recording (machines: less than {UNSTEADY:.0f} dB). Is it speech, music or a loose contact?"
        )
    return sentences
