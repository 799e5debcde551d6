"""`Detector.fit`: recordings to scores without an orchestrator."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import asdcore
from asdcore import AsdError, Detector, Settings
from asdcore.datasets.simulate import simulate
from asdcore.encoder.base import load_base
from asdcore.features.store import EXTENDS
from asdcore.monitoring.reliability import reliability_of
from asdcore.recordings.names import find_recordings
from asdcore.settings import NormalitySettings, TrainingSettings

SETTINGS = Settings(
    training=TrainingSettings(
        encoder="resnet18", crop_frames=16, batch_size=8, epochs=1, cycles=1, z_size=8, device="cpu"
    ),
    normality=NormalitySettings(false_alarm_rate=0.1),
)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder, machines=["simFan"], source_train=10, target_train=2, test_per_kind=3, seconds=1.0, strength=2.0)
    return folder


@pytest.fixture(scope="module")
def detector(simulated: Path) -> Detector:
    return Detector.fit(simulated, SETTINGS)


def test_a_folder_becomes_a_detector_that_scores_explains_and_tells_how_reliable_it_is(
    detector: Detector, simulated: Path, tmp_path: Path
) -> None:
    test = [one for one in find_recordings(simulated) if one.split == "test"]
    scores = detector.score([one.path for one in test])
    assert scores["reason"].eq("").all()
    anomalous = pd.Series([one.label == "anomaly" for one in test])
    assert scores.loc[anomalous, "score"].mean() > scores.loc[~anomalous, "score"].mean()
    assert detector.machines["simFan"].scorers == ["spectrum", "change", "embedding"]
    report = reliability_of(detector, "simFan")
    assert report is not None and report.n == 12
    assert detector.explain(test[0].path).sentences
    detector.save(tmp_path / "detector")
    again = Detector.load(tmp_path / "detector").score([test[0].path])
    assert again["score"].tolist() == scores["score"].tolist()[:1]


def test_without_the_embedding_nothing_trains_and_sessions_of_a_table_are_left_out_as_a_whole(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asdcore.fitting.start_training", None)
    settings = SETTINGS.model_copy(update={"normality": NormalitySettings(scorers=("spectrum", "change"))})
    found = [one for one in find_recordings(simulated) if one.split == "train"]
    rows = [{"path": one.path, "machine": "fan", "domain": one.domain} for one in found]
    table = pd.DataFrame(rows).assign(session=[f"day {index % 3}" for index in range(len(rows))])
    fitted = Detector.fit(table, settings, tmp_path / "work")
    report = fitted.machines["fan"].models["spectrum"].report_
    assert (report.groups, report.largest_group) == (3, 4)
    assert len(set(fitted.machines["fan"].calibration.groups_)) == 3
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "features").rglob("*.parquet")}
    Detector.fit(table, settings, tmp_path / "work")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "features").rglob("*.parquet")} == first


def test_the_base_encoder_is_used_as_it_is_and_no_variants_are_computed(simulated: Path, tmp_path: Path) -> None:
    detector = Detector.fit(simulated, SETTINGS.model_copy(update={"training": TrainingSettings()}), tmp_path)
    given, used = load_base().encoder.state_dict(), detector.encoder.encoder.state_dict()
    assert all(torch.equal(given[name], used[name]) for name in given) and detector.encoder.history == []
    assert not list((tmp_path / "features").rglob(f"{EXTENDS}*"))
    test = [one for one in find_recordings(simulated) if one.split == "test"]
    scores = detector.score([one.path for one in test])
    anomalous = pd.Series([one.label == "anomaly" for one in test])
    assert scores.loc[anomalous, "score"].mean() > scores.loc[~anomalous, "score"].mean()


def test_what_cannot_be_fitted_is_said(simulated: Path, tmp_path: Path) -> None:
    with pytest.raises(AsdError, match="needs the columns path and machine; there is no machine"):
        Detector.fit(pd.DataFrame({"path": ["a.wav"]}), SETTINGS)
    with pytest.raises(AsdError, match="none of the 1 recordings can be used"):
        Detector.fit(pd.DataFrame({"path": [tmp_path / "a.wav"], "machine": ["fan"]}), SETTINGS)
    with pytest.raises(AsdError, match="no such file or folder"):
        Detector.fit(tmp_path / "nowhere", SETTINGS)


def test_importing_the_package_is_light_and_its_public_names_are_there() -> None:
    script = (
        "import sys, asdcore, asdcore.settings, asdcore.registry\n"
        "asdcore.registry.NORMALITY_MODELS.names()\n"
        "print(sorted({'torch', 'sklearn', 'scipy', 'librosa', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
    assert all(getattr(asdcore, name).__name__ == name for name in asdcore.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Detektor'"):
        asdcore.Detektor  # noqa: B018
