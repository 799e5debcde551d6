from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

Recorder = Callable[..., Path]


def machine_sound(seed: int, seconds: float = 1.0, sample_rate: int = 16_000) -> NDArray[np.float32]:
    """(n_samples,) of two tones in noise, another sound for each seed."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    tones = np.sin(2 * np.pi * rng.uniform(100, 400) * time) + np.sin(2 * np.pi * rng.uniform(800, 2000) * time)
    return (0.1 * tones + 0.05 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture
def sound() -> Callable[..., NDArray[np.float32]]:
    return machine_sound


@pytest.fixture
def record() -> Recorder:
    """Write the sound of a seed under a path, folders included."""

    def write(path: Path, seed: int = 0, seconds: float = 1.0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, machine_sound(seed, seconds), 16_000, format=path.suffix[1:].upper())
        return path

    return write
