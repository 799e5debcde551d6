"""Extension points: what a package from outside adds by entry points, used by its name in the settings."""

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from asdcore.detector import Detector
from asdcore.encoder.frozen import FrozenEncoder
from asdcore.errors import AsdError
from asdcore.registry import ENCODERS, FAULTS, LOSSES, NORMALITY_MODELS, SCORERS, Registry
from asdcore.settings import NormalitySettings, Settings, TrainingSettings
from tests.asdcore.conftest import Recorder
from tests.outside import install


def test_what_another_package_adds_is_trained_fitted_saved_and_scored_by_its_names(
    outside: Path, tmp_path: Path, record: Recorder
) -> None:
    settings = Settings(
        training=TrainingSettings(
            encoder="bands", loss="spread", crop_frames=16, batch_size=4, epochs=2, cycles=2, z_size=4, device="cpu"
        ),
        normality=NormalitySettings(scorers=("peak", "embedding"), estimator="median", false_alarm_rate=0.2),
    )
    for seed in range(10):
        record(tmp_path / "recordings" / "fan" / f"{seed}.wav", seed)
    detector = Detector.fit(tmp_path / "recordings", settings)
    assert type(detector.encoder.encoder).__name__ == "Bands"
    assert {type(model).__name__ for model in detector.machines["fan"].models.values()} == {"MedianModel"}
    detector.save(tmp_path / "detector")
    files = [record(tmp_path / "fan" / "new.wav", 99)]
    loaded = Detector.load(tmp_path / "detector")
    assert loaded.score(files)["score"].tolist() == detector.score(files)["score"].tolist()
    assert np.isfinite(loaded.score(files)["score"]).all()


def test_without_the_package_the_detector_is_refused_with_the_name_that_is_missing(
    outside: Path, tmp_path: Path, record: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(normality=NormalitySettings(scorers=("peak",)))
    for seed in range(10):
        record(tmp_path / "recordings" / "fan" / f"{seed}.wav", seed)
    Detector.fit(tmp_path / "recordings", settings).save(tmp_path / "detector")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(outside)])
    with pytest.raises(AsdError, match="scorer 'peak' is none of spectrum, change"):
        Detector.load(tmp_path / "detector")


def test_names_are_listed_without_an_import_and_a_built_in_one_cannot_be_taken(outside: Path) -> None:
    assert NORMALITY_MODELS.names()[-3:] == ["broken", "median", "misnamed"]
    assert (SCORERS.names()[-1], LOSSES.names()[-1], ENCODERS.names()[-1]) == ("peak", "spread", "loudness")
    assert "outside_asd" not in sys.modules
    assert NORMALITY_MODELS.get("ml").__module__ == "asdcore.normality.gaussian"
    assert "median" in NormalitySettings.model_json_schema()["properties"]["estimator"]["enum"]


def test_a_package_that_cannot_be_loaded_is_named(outside: Path) -> None:
    with pytest.raises(AsdError, match=r"normality model 'broken' of the package outside-asd 1\.2 cannot be loaded"):
        NORMALITY_MODELS.get("broken")


def test_a_model_that_calls_itself_otherwise_is_refused(outside: Path) -> None:
    from asdcore.normality.base import model_class

    with pytest.raises(AsdError, match="must be a NormalityModel whose name is 'misnamed'"):
        model_class("misnamed")


def test_two_packages_with_the_same_name_are_both_named(outside: Path) -> None:
    install(outside, "another", "[asd.losses]\nspread = another:Spread\n")
    with pytest.raises(AsdError, match=r"offered by another 1\.2 and outside-asd 1\.2"):
        LOSSES.get("spread")


def test_what_a_notebook_registers_is_used_by_its_name_and_a_cell_that_runs_again_replaces_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, record: Recorder
) -> None:
    monkeypatch.setattr(ENCODERS, "_of_this_process", {})
    with pytest.raises(ValidationError, match="'level' is none of"):
        TrainingSettings(encoder="level")
    for size in (2, 3):

        @ENCODERS.register("level")
        class Level(FrozenEncoder):
            def embed(self, samples: NDArray[np.float32], sample_rate: int, size: int = size) -> NDArray[np.float32]:
                return np.array([part.std() for part in np.array_split(samples, size)], np.float32)

    settings = Settings(training=TrainingSettings(encoder="level"), normality=NormalitySettings(scorers=("embedding",)))
    for seed in range(10):
        record(tmp_path / "recordings" / "fan" / f"{seed}.wav", seed)
    detector = Detector.fit(tmp_path / "recordings", settings)
    assert detector.machines["fan"].models["embedding"].n_features_in_ == 3
    detector.save(tmp_path / "detector")
    files = [record(tmp_path / "fan" / "new.wav", 99)]
    loaded = Detector.load(tmp_path / "detector")
    assert loaded.score(files)["score"].tolist() == detector.score(files)["score"].tolist()
    monkeypatch.setattr(ENCODERS, "_of_this_process", {})
    with pytest.raises(AsdError, match="encoder 'level' is none of base"):
        Detector.load(tmp_path / "detector")


def test_a_notebook_cannot_take_a_name_that_there_is(outside: Path) -> None:
    with pytest.raises(AsdError, match="normality model 'ml' is built in: choose another name"):
        NORMALITY_MODELS.register("ml")
    with pytest.raises(AsdError, match=r"'median' is of the package outside-asd 1\.2: choose another name"):
        NORMALITY_MODELS.register("median")


def test_an_unknown_name_lists_those_that_there_are(outside: Path) -> None:
    with pytest.raises(AsdError, match=r"scorer 'ears' is none of spectrum, change, .*, peak"):
        SCORERS.get("ears")
    with pytest.raises(ValidationError, match=r"'triplet' is none of nt_xent, .*, spread"):
        TrainingSettings(loss="triplet")


@pytest.mark.parametrize("registry", [ENCODERS, LOSSES, NORMALITY_MODELS, SCORERS, FAULTS], ids=lambda r: r.kind)
def test_every_built_in_name_can_be_loaded(registry: Registry[object]) -> None:
    for name in registry.built_in:
        assert callable(registry.get(name))
        assert name in registry
