"""One clip of a long recording can be heard again without the others."""

from pathlib import Path

import numpy as np
import pytest

from asdcore.errors import AsdError
from tests.asdcore.reports.conftest import Plant, hum, write


def test_the_clip_is_the_one_that_listening_to_all_found_strangest(plant: Plant, tmp_path: Path) -> None:
    samples = np.concatenate([hum(1, seconds=13.0), hum(2, whistle=1.0, seconds=10.0), hum(3, seconds=10.0)])
    file = write(tmp_path / "long.wav", samples)
    (whole,) = plant.detector.listen([file], "pump")
    again = plant.detector.listen_at(file, "pump", whole.starts()[whole.strangest])
    assert again.clips == [whole.clips[whole.strangest]] and again.recording == whole.recording
    for scorer, vectors in (whole.vectors or {}).items():
        np.testing.assert_allclose((again.vectors or {})[scorer][0], vectors[whole.strangest])


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 1e9])
def test_any_time_is_that_of_a_clip(plant: Plant, tmp_path: Path, seconds: float) -> None:
    file = write(tmp_path / "long.wav", hum(1, seconds=31.0))
    (clip,) = plant.detector.listen_at(file, "pump", seconds).clips
    assert clip.number in (1, 3) and clip.count == 3


def test_a_file_that_is_gone_or_no_sound_is_named(plant: Plant, tmp_path: Path) -> None:
    with pytest.raises(AsdError, match=r"gone\.wav cannot be scored: .*No such file"):
        plant.detector.listen_at(tmp_path / "gone.wav", "pump", 0.0)
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AsdError, match=r"text\.wav cannot be scored: unreadable"):
        plant.detector.listen_at(tmp_path / "text.wav", "pump", 0.0)
