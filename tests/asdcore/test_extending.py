"""The examples of docs/extending.md, installed as a package of their own and used by their names."""

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from asdcore.datasets.simulate import fault_of, simulate, waveform
from asdcore.detector import Detector
from asdcore.recordings.names import find_recordings
from asdcore.settings import NormalitySettings, Settings, TrainingSettings
from tests.asdcore.conftest import Recorder
from tests.outside import install

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()


def blocks(language: str) -> str:
    """All code blocks of a language, one after the other."""
    return "\n\n".join(re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def plant_asd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package of the page, as an installer leaves it."""
    folder = tmp_path / "site-packages"
    entry_points = re.sub(r'project\.entry-points\."(.*?)"', r"\1", blocks("toml")).replace('"', "")
    install(folder, "plant-asd", entry_points)
    (folder / "plant_asd.py").write_text(blocks("python"))
    monkeypatch.syspath_prepend(str(folder))
    yield
    sys.modules.pop("plant_asd", None)


def test_the_examples_of_the_page_make_a_package_that_trains_fits_saves_and_scores(
    plant_asd: None, tmp_path: Path, record: Recorder
) -> None:
    settings = Settings(
        training=TrainingSettings(
            encoder="bands", loss="spread", crop_frames=16, batch_size=4, epochs=2, cycles=2, z_size=4, device="cpu"
        ),
        normality=NormalitySettings(scorers=("spectrum", "peak", "embedding"), estimator="median"),
    )
    for seed in range(10):
        record(tmp_path / "recordings" / "fan" / f"{seed}.wav", seed)
    detector = Detector.fit(tmp_path / "recordings", settings)
    kinds = {scorer: type(model).__module__ for scorer, model in detector.machines["fan"].models.items()}
    assert kinds == {"spectrum": "asdcore.normality.gaussian", "peak": "plant_asd", "embedding": "plant_asd"}
    detector.save(tmp_path / "detector")
    files = [record(tmp_path / "fan" / "new.wav", 99)]
    scores = Detector.load(tmp_path / "detector").score(files)["score"]
    assert np.isfinite(scores).all()
    assert scores.tolist() == detector.score(files)["score"].tolist()


def test_the_log_of_the_page_becomes_a_manifest_that_is_read(plant_asd: None, tmp_path: Path, record: Recorder) -> None:
    from plant_asd import manifest_of

    log = pd.read_csv(io.StringIO(blocks("csv")))
    for seed, name in enumerate(log["File"]):
        record(tmp_path / name, seed)
    manifest_of(log).to_csv(tmp_path / "manifest.csv", index=False)
    found = find_recordings(tmp_path)
    assert not any(one.problem for one in found)
    described = [(one.machine, one.split, one.label, one.session, one.attributes.get("fault")) for one in found]
    assert described == [
        ("press 1", "train", "normal", "2026-05-04", None),
        ("press 1", "test", "normal", "2026-05-06", None),
        ("press 1", "test", "anomaly", "2026-05-06", "P7"),
    ]
    with pytest.raises(ValueError, match="unknown results \\['P8'\\]"):
        manifest_of(log.replace("P7", "P8"))


def test_the_fault_of_the_page_is_simulated_by_its_name(plant_asd: None, tmp_path: Path) -> None:
    def sound(label: str, strength: float) -> NDArray[np.float32]:
        fault = None if label == "normal" else "rubbing"
        rng = np.random.default_rng(5)
        return waveform("simFan", domain="source", label=label, fault=fault, strength=strength, seconds=1.0, rng=rng)

    normal = sound("normal", 1.0)
    np.testing.assert_array_equal(sound("anomaly", 0.0), normal)
    assert 0 < np.std(sound("anomaly", 1.0) - normal) < np.std(sound("anomaly", 4.0) - normal) < np.std(normal)
    counts = {"source_train": 1, "target_train": 1, "test_per_kind": 2}
    paths = simulate(tmp_path, machines=["simFan"], seconds=0.5, faults=["rubbing", "tonal"], **counts)
    assert {fault_of(path) for path in paths} == {"", "rubbing", "tonal"}
