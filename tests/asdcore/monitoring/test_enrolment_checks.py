"""What may be enrolled without a failed_check, and what not."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asdcore.datasets.simulate import simulate
from asdcore.features.spectrogram import spectrogram
from asdcore.features.statistics import time_statistics
from asdcore.monitoring.enrolment_checks import enrolment_checks
from asdcore.recordings.audio import decode
from asdcore.settings import MelSettings, RecordingSettings

RATE = 16_000


def statistics(waveforms: Iterable[NDArray[np.floating]]) -> NDArray[np.float32]:
    made = [spectrogram(np.asarray(w, dtype=np.float32), RATE, MelSettings()) for w in waveforms]
    return np.stack([time_statistics(values)["mean_and_deviation"] for values in made])


def of(waveforms: Iterable[NDArray[np.floating]], seconds: float = 2.0) -> list[str]:
    rows = statistics(waveforms)
    return enrolment_checks(rows, ["source"] * len(rows), [seconds * RATE / 512] * len(rows))


def read(files: Iterable[Path]) -> list[NDArray[np.float32]]:
    return [decode(file, RecordingSettings()).samples for file in files]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder, source_train=12, target_train=0, test_per_kind=1, seconds=2.0)
    return folder


def test_machines_are_not_doubted(simulated: Path) -> None:
    for machine in sorted(simulated.glob("*/")):
        assert of(read(sorted(machine.glob("train/*.wav")))) == [], machine.name


@pytest.mark.parametrize("machine", ["bldcA", "bldcB", "fan"])
def test_real_machines_are_not_doubted(sample_data: Path, machine: str) -> None:
    files = sorted((sample_data / "real-mini" / machine / "train").glob("*.wav"))
    seconds = 10.0 if machine == "fan" else 2.0
    assert of(read(files), seconds) == []


def test_several_real_machines_in_one_folder_are_unlike_each_other(sample_data: Path) -> None:
    files = [
        file
        for machine in ("bldcA", "bldcB", "fan")
        for file in sorted((sample_data / "real-mini" / machine / "train").glob("*.wav"))[:6]
    ]
    (sentence,) = of(read(files))
    assert "differ too much" in sentence


def test_tones_of_any_pitch_are_unlike_each_other() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    tones = [np.sin(2 * np.pi * rng.uniform(100, 4000) * time) + 0.003 * rng.normal(size=len(time)) for _ in range(12)]
    (sentence,) = of(tones)
    assert "differ too much" in sentence and "several machines" in sentence


@pytest.mark.parametrize("seconds", [2.0, 10.0])
def test_nothing_but_steady_noise_is_no_machine(seconds: float) -> None:
    rng = np.random.default_rng(1)
    (sentence,) = of((0.1 * rng.normal(size=int(seconds * RATE)) for _ in range(12)), seconds)
    assert "nearly identical" in sentence and "connected" in sentence


def test_what_comes_and_goes_as_speech_does_is_no_machine() -> None:
    rng = np.random.default_rng(2)
    gates = (np.repeat(rng.random(10) < 0.5, RATE // 5) for _ in range(12))
    sounds = [gate * 0.1 * rng.normal(size=len(gate)) + 1e-4 * rng.normal(size=len(gate)) for gate in gates]
    assert any("unsteady" in sentence for sentence in of(sounds))


def test_two_domains_may_differ() -> None:
    rng = np.random.default_rng(3)
    two = [np.repeat([-40.0, -60.0], 64), np.repeat([-60.0, -40.0], 64)]
    means = np.stack([two[i % 2] + 3 * rng.normal(size=128) for i in range(20)])
    rows = np.hstack([means, np.full((20, 128), 3.0)])
    assert enrolment_checks(rows, ["source", "target"] * 10, [300.0] * 20) == []
    assert len(enrolment_checks(rows, ["source"] * 20, [300.0] * 20)) == 1


def test_one_recording_says_nothing_about_likeness() -> None:
    assert enrolment_checks(np.hstack([np.zeros((1, 128)), np.ones((1, 128))]), ["source"], [300.0]) == []
