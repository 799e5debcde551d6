from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from asdcore.heard import Heard
from asdcore.monitoring.drift import DriftReport, drift_report
from asdcore.normality.gaussian import MaximumLikelihood
from asdcore.normality.machine import MachineModel
from asdcore.recordings.audio import Waveform, measure

RATE = 0.05
SCORERS = ("spectrum", "change", "embedding")
TRAINING = pd.DataFrame({"seconds": [2.0] * 200, "sample_rate": [16_000] * 200, "domain": ["source"] * 200})


def vectors(rng: np.random.Generator, n: int, moved: Mapping[str, float] = {}) -> dict[str, NDArray[np.float64]]:
    return {scorer: rng.normal(size=(n, 8)) + moved.get(scorer, 0.0) for scorer in SCORERS}


@pytest.fixture(scope="module")
def machine() -> MachineModel:
    own = vectors(np.random.default_rng(0), 200)
    return MachineModel({scorer: MaximumLikelihood().fit(X) for scorer, X in own.items()})


def heard(
    machine: MachineModel,
    n: int = 60,
    moved: Mapping[str, float] = {},
    level: float = 0.1,
    seconds: float = 2.0,
    sample_rate: int = 16_000,
    unreadable: int = 0,
    seed: int = 1,
) -> list[Heard]:
    """What a detector has heard of n recordings whose vectors lie so many deviations off in every direction."""
    own = vectors(np.random.default_rng(seed), n, moved)
    verdicts = machine.verdict(own, RATE).to_dict("records")
    noise = np.random.default_rng(seed).normal(size=1000).clip(-3, 3)
    samples = (level * noise).clip(-1, 1).astype(np.float32)
    measured = measure(Waveform(samples, sample_rate, 1, seconds, ""))
    made = []
    for row, verdict in enumerate(verdicts):
        path = Path(f"section_00_{'target' if row % 4 == 0 else 'source'}_test_{row}.wav")
        if row < unreadable:
            made.append(Heard(path, "fan", "unreadable: no sound"))
        else:
            one = {scorer: values[row : row + 1] for scorer, values in own.items()}
            made.append(Heard(path, "fan", "", measured, one, {str(name): v for name, v in verdict.items()}))
    return made


def examined(machine: MachineModel, before: DriftReport | None = None, **what: Any) -> DriftReport:
    return drift_report(heard(machine, **what), machine, RATE, TRAINING, before)


def test_a_machine_as_it_was_crosses_no_limit(machine: MachineModel) -> None:
    reports = [examined(machine, seed=seed) for seed in range(40)]
    assert sum(report.drifted for report in reports) <= 1
    report = reports[0]
    assert (report.recordings, report.not_scored, report.sample_rates) == (60, 0, [16_000])
    assert report.target_fraction == 0.25 and report.level_dbfs == pytest.approx(-20, abs=0.5)
    assert 0 < report.shift["embedding"] < 0.5 and report.clipped == 0


def test_too_many_alarms_are_a_sentence(machine: MachineModel) -> None:
    report = examined(machine, moved={"spectrum": 2.0})
    assert report.alarms > 30 and report.alarms_low > RATE
    assert report.sentences[0].startswith(f"{report.alarms} of 60 recordings are anomalous; 5 % are expected")


def test_a_slow_drift_shows_before_it_alarms(machine: MachineModel) -> None:
    report = examined(machine, n=100, moved={"embedding": 0.6})
    assert report.shift["embedding"] > 0.5 > report.shift["spectrum"]
    assert any("The mean embedding differs" in sentence for sentence in report.sentences)
    assert examined(machine, n=400, moved={"embedding": 0.6, "spectrum": 0.6}).uniform < 0.001  # type: ignore[operator]


def test_a_microphone_that_fails_is_told_from_a_machine_that_does(machine: MachineModel) -> None:
    assert "8 of 60 recordings could not be scored: check the microphone." in examined(machine, unreadable=8).sentences
    quiet = examined(machine, before=examined(machine), level=0.01)
    assert quiet.sentences == ["The level has changed by -20 dB since the last run: check the microphone."]
    clipped = examined(machine, level=1.0)
    assert clipped.clipped is not None and clipped.clipped > 0.2


def test_recordings_of_another_format_are_no_reason_to_check_the_microphone(machine: MachineModel) -> None:
    good = heard(machine)
    others = [Heard(Path(f"{n}.mp3"), "fan", "lossy: MP3: not compared with others") for n in range(8)]
    report = drift_report([*good, *others], machine, RATE, TRAINING)
    assert (report.recordings, report.not_scored) == (68, 8)
    (said,) = report.sentences
    assert said.startswith("8 of 68 recordings were not judged, since their codec or sample rate is not that of the")
    assert drift_report([*good, *others[:2]], machine, RATE, TRAINING).sentences == []


def test_files_of_another_rate_or_length_are_said(machine: MachineModel) -> None:
    assert examined(machine, sample_rate=8_000).sentences == [
        "Files of 8000 Hz: no training recording has that sample rate."
    ]
    (said,) = examined(machine, seconds=10.0).sentences
    assert said == "Recordings of 10.0 s: the training recordings have 2.0 to 2.0 s."


def test_of_a_handful_of_recordings_only_the_counts_are_given(machine: MachineModel) -> None:
    few = examined(machine, n=5)
    assert (few.uniform, few.shift) == (None, {}) and few.recordings == 5
    nothing = drift_report([Heard(Path("a.wav"), "fan", "empty")], machine, RATE, TRAINING.iloc[:0])
    assert (nothing.recordings, nothing.not_scored, nothing.level_dbfs, nothing.alarms_low) == (1, 1, None, 0.0)
    assert nothing.to_json()["machine"] == "fan"
