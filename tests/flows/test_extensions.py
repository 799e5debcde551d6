"""What a package from outside adds, through the whole road."""

from pathlib import Path

import pandas as pd
import pytest

from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.benchmark import benchmark
from flows.enroll import enroll
from flows.retrain import retrain
from flows.score import score
from tasks.encoder import training_key
from tasks.registered import load_detector
from tasks.stage import Artifact

pytestmark = pytest.mark.flow

SETTINGS = {
    "training": {
        "encoder": "bands", "loss": "spread", "crop_frames": 16, "batch_size": 8, "epochs": 2, "cycles": 2, "z_size": 4
    },
    "normality": {"scorers": ["peak", "change", "embedding"], "estimator": "median", "false_alarm_rate": 0.2},
}  # fmt: skip


def test_an_encoder_a_loss_a_model_and_a_scorer_from_outside_are_trained_registered_and_score(
    prefect_api: str, outside: Path, small_machines: Path, tmp_path: Path
) -> None:
    settings = Settings.model_validate(SETTINGS)
    done = retrain(recordings=small_machines / "simFan", settings=settings, home=tmp_path / "home")
    assert {"detector", "peak", "median-h"} <= set(done["official_scores"])
    detector, version = load_detector(Home.at(tmp_path / "home"))
    assert (version, type(detector.encoder.encoder).__name__) == ("1", "Bands")
    assert type(detector.machines["simFan"].models["peak"]).__name__ == "MedianModel"
    enrolled = enroll("simValve", small_machines / "simValve", home=tmp_path / "home")
    assert enrolled["machines"] == ["simFan", "simValve"]
    table = pd.read_parquet(score(recordings=[small_machines], home=tmp_path / "home")["table"])
    assert table["score"].notna().all() and set(table["machine"]) == {"simFan", "simValve"}


def test_other_code_of_an_encoder_from_outside_is_another_training(
    outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_recordings: pd.DataFrame
) -> None:
    import sys

    from tasks import code

    settings = Settings.model_validate(SETTINGS)
    rows = two_recordings

    def key() -> str:
        sys.modules.pop("outside_asd", None)
        for cached in (code._module, code._named_in, code._structure, code.code_of_class):
            cached.cache_clear()
        with Home.at(tmp_path / "home").at_work():
            return training_key(Artifact(tmp_path, "store"), rows, settings.training, settings, None)

    before = key()
    assert key() == before
    module = outside / "outside_asd.py"
    module.write_text(module.read_text().replace("torch.tanh", "torch.sigmoid"))
    assert key() != before


@pytest.mark.slow
def test_a_frozen_encoder_from_outside_is_a_system_of_the_benchmark_and_a_registered_detector(
    prefect_api: str, outside: Path, small_machines: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    systems = ["detector", "loudness:detector", "loudness:knn-h", "spectrum"]
    compared = benchmark(recordings=small_machines, systems=systems, home=home)
    assert set(compared["official_scores"]) == set(systems)
    assert "loudness, is frozen" in compared["report"]
    settings = Settings.model_validate({"training": {"encoder": "loudness"}, "normality": {"false_alarm_rate": 0.2}})
    retrain(recordings=small_machines / "simFan", settings=settings, home=home)
    enrolled = enroll("simValve", small_machines / "simValve", home=home)
    assert enrolled["machines"] == ["simFan", "simValve"]
    detector, _ = load_detector(Home.at(home))
    assert type(detector.encoder).__name__ == "Loudness"
    table = pd.read_parquet(score(recordings=[small_machines], home=home)["table"])
    assert table["score"].notna().all() and set(table["machine"]) == {"simFan", "simValve"}
