"""The examples of docs/extending.md, installed as a package of their own and used by their names."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from asdcore.detector import Detector
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
