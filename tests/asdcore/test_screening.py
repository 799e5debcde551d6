"""Screening a folder, from files."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from asdcore.datasets.simulate import SAMPLE_RATE, waveform
from asdcore.screening import COLUMNS, screen, sentences
from tests.asdcore.conftest import Recorder


def fan(folder: Path, normals: int, faults: int = 0) -> None:
    """Normal recordings of 1 s, and faulty ones whose names do not say so."""
    folder.mkdir(parents=True)
    for index in range(normals + faults):
        rng, label = np.random.default_rng(index), "normal" if index < normals else "anomaly"
        fault = None if index < normals else "tonal"
        samples = waveform("simFan", domain="source", label=label, rng=rng, fault=fault, strength=8.0, seconds=1.0)
        soundfile.write(folder / f"{index:02d}.wav", samples, SAMPLE_RATE)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two machines, one with three faults and files that cannot be used, one with too few recordings."""
    folder = tmp_path_factory.mktemp("plant")
    fan(folder / "fan", 20, 3)
    fan(folder / "few", 3)
    (folder / "fan" / "broken.wav").write_bytes(b"no sound")
    shutil.copy(folder / "fan" / "00.wav", folder / "fan" / "copy.wav")
    return folder


@pytest.fixture(scope="module")
def table(plant: Path) -> pd.DataFrame:
    return screen(plant)


def test_faults_come_first(table: pd.DataFrame) -> None:
    own = table[(table["machine"] == "fan") & (table["reason"] == "")]
    assert {Path(path).name for path in own["path"][:3]} == {"20.wav", "21.wav", "22.wav"}
    assert own["rank"].tolist() == list(range(1, 24)) and list(table.columns) == COLUMNS


def test_what_cannot_be_ranked_has_a_reason_and_stops_nothing(table: pd.DataFrame) -> None:
    refused = table[table["reason"] != ""]
    reasons = {Path(path).name: reason for path, reason in zip(refused["path"], refused["reason"], strict=True)}
    assert "Format not recognised" in reasons["broken.wav"] and "the same content as" in reasons["copy.wav"]
    few = refused[refused["machine"] == "few"]
    assert len(few) == 3 and few["reason"].str.contains("3 recordings: too few .* 8 are needed").all()
    assert [sentence.split(":")[0] for sentence in sentences(table)] == ["fan"]


def test_the_files_are_only_read(plant: Path) -> None:
    def state() -> dict[str, tuple[str, int]]:
        files = [path for path in plant.rglob("*") if path.is_file()]
        return {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}

    before = state()
    screen(plant / "few")
    assert state() == before


def test_a_folder_without_one_recording_that_can_be_read_is_a_table_of_reasons(
    record: Recorder, tmp_path: Path
) -> None:
    record(tmp_path / "pump" / "a.wav").write_bytes(b"")
    table = screen(tmp_path)
    assert table["reason"].tolist() == ["empty: the file has 0 bytes"] and sentences(table) == []


def test_long_recordings_are_cut_and_the_strangest_moment_is_told(record: Recorder, tmp_path: Path) -> None:
    for seed in range(9):
        record(tmp_path / "pump" / f"{seed}.wav", seed=1, seconds=4.0 + seed / 100)
    samples, rate = soundfile.read(tmp_path / "pump" / "4.wav")
    samples[len(samples) // 2 :] += 0.3 * np.sin(2 * np.pi * 3000 * np.arange(len(samples) - len(samples) // 2) / rate)
    soundfile.write(tmp_path / "pump" / "4.wav", samples, rate)
    first = screen(tmp_path).iloc[0]
    assert Path(first["path"]).name == "4.wav" and first["clips"] == 2 and first["strangest_at"] == pytest.approx(2.02)


def test_real_damaged_propellers_come_first(sample_data: Path, tmp_path: Path) -> None:
    normals = sorted((sample_data / "real-mini" / "bldcB" / "train").iterdir())
    faults = [
        path for path in sorted((sample_data / "real-mini" / "bldcB" / "test").iterdir()) if "anomaly" in path.name
    ]
    (tmp_path / "motor").mkdir()
    for index, path in enumerate([*normals, *faults[::10]]):
        shutil.copy(path, tmp_path / "motor" / f"{index:02d}.wav")
    ranked = screen(tmp_path)["path"].map(lambda path: int(Path(path).stem))
    assert set(ranked[:4]) == set(range(len(normals), len(normals) + 4))
