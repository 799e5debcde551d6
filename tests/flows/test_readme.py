"""What the README tells people to type."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.flow

ROOT = Path(__file__).parents[2]


def test_the_line_that_scores_from_the_registry_works_on_a_real_recording(
    asd: "Callable[..., subprocess.CompletedProcess[str]]", sample_data: Path, tmp_path: Path
) -> None:
    short = [f"training.{name}" for name in ("epochs=4", "crop_frames=16")]
    changes = [word for setting in short for word in ("--set", setting)]
    recordings = sample_data / "real-mini"
    trained = asd("retrain", "--recordings", recordings, "--preset", "demo", *changes, "--home", tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "champion" in asd("models", "--home", tmp_path).stdout
    (line,) = re.findall(r"^MLFLOW_TRACKING_URI=.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    recording = next((recordings / "fan" / "test").glob("*anomaly*.wav"))
    line = line.replace("sqlite:///.asd/", f"sqlite:///{tmp_path}/").replace("pump/test/new.wav", str(recording))
    line = line.replace("'pump'", "'fan'").replace(" python ", f" {sys.executable} ")
    result = subprocess.run(line, shell=True, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert result.returncode == 0, result.stderr
    assert re.search(r"fan +\d+\.\d+", result.stdout)


def test_every_file_that_the_readme_names_is_there() -> None:
    named = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert named
    assert not re.findall(r"\b[A-Z]+_[A-Z]+_TABLE\b|\bTODO\b", (ROOT / "README.md").read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []
