"""Published models through the whole road: frozen, with adapters, and what is refused before a server starts."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from asdcore.datasets.simulate import simulate
from asdcore.encoder.pretrained.base import PretrainedEncoder
from asdcore.errors import AsdError
from asdcore.settings import RecordingSettings, Settings
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home
from flows.benchmark import benchmark
from flows.cli.app import app
from flows.retrain import retrain
from flows.score import score
from flows.train import train
from tasks.registered import load_detector
from tasks.tracking import client
from tests.asdcore.encoder.pretrained.conftest import CED, CED_CONFIG, random_weights, write

SCORED = {"scorers": ["spectrum", "embedding"], "false_alarm_rate": 0.2}


def settings(encoder: str, source: Path, **training: object) -> Settings:
    known = {"encoder": encoder, "source": str(source), "device": "cpu", **training}
    return Settings.model_validate({"training": known, "normality": SCORED})


def write_as_published(family: str, folder: Path) -> Path:
    """Random weights in the shape of the published AST, or of CED-tiny."""
    torch.manual_seed(0)
    if family == "ast":
        from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

        ASTForAudioClassification(ASTConfig()).save_pretrained(folder)
        ASTFeatureExtractor().save_pretrained(folder)
        return folder
    from asdcore.encoder.pretrained.ced import transformer_of
    from asdcore.encoder.pretrained.checkpoint import PublishedModel

    config = {"model_type": "ced", "embed_dim": 192, "num_heads": 3, "depth": 12, "n_mels": 64, "target_length": 1012}
    model = transformer_of(PublishedModel(folder, config, ()))
    return write(folder, config, {f"encoder.{name}": tuple(value.shape) for name, value in model.state_dict().items()})


@pytest.mark.flow
@pytest.mark.slow
@pytest.mark.parametrize(("family", "millions", "size"), [("ast", 86, 768), ("ced", 5.5, 192)])
def test_a_model_of_the_published_shape_is_registered_and_scores(
    prefect_api: str, tmp_path: Path, family: str, millions: float, size: int
) -> None:
    folder, home, place = write_as_published(family, tmp_path / "models" / family), tmp_path / "home", tmp_path / "in"
    simulate(place, machines=["simFan"], source_train=3, target_train=1, test_per_kind=0, seconds=1.0)
    few = settings(family, folder)
    few = few.model_copy(update={"recordings": RecordingSettings(minimum_training_recordings=4)})
    retrain(recordings=place, settings=few, home=home)
    detector, version = load_detector(Home.at(home))
    assert isinstance(detector.encoder, PretrainedEncoder)
    weights = sum(parameter.numel() for parameter in detector.encoder.model.parameters())
    assert (version, weights / 1e6) == ("1", pytest.approx(millions, rel=0.02))
    assert detector.machines["simFan"].models["embedding"].n_features_in_ == size
    recording = next(place.rglob("*.wav"))
    table = pd.read_parquet(score(recordings=[recording], machine="simFan", home=home)["table"])
    assert np.isfinite(table["score"]).all() and len(table) == 1


@pytest.mark.flow
@pytest.mark.slow
def test_adapters_are_trained_once_registered_and_score(
    prefect_api: str, small_machines: Path, tmp_path: Path, environment: None
) -> None:
    folder, home = write(tmp_path / "ced", CED_CONFIG, CED), tmp_path / "home"
    digest = digest_of_file(folder / "model.safetensors")
    adapting = settings("ced", folder, adapter_rank=2, epochs=2, cycles=1, batch_size=8)
    done = retrain(recordings=small_machines / "simFan", settings=adapting, home=home)
    assert digest_of_file(folder / "model.safetensors") == digest
    detector, version = load_detector(Home.at(home))
    encoder = detector.encoder
    assert isinstance(encoder, PretrainedEncoder) and encoder.adapters is not None
    assert (version, encoder.adapters.rank, len(encoder.history)) == ("1", 2, 2)
    (file,) = [file for file in (home / "runs" / "encoders").iterdir() if load_file(file)]
    assert load_file(file).keys() == encoder.adapters.weights.keys()
    losses = client(Home.at(home)).get_metric_history(done["run"], "training/loss")
    assert [metric.step for metric in losses] == [1, 2]
    assert "adapters of rank 2 were trained" in done["report"]
    recording = next((small_machines / "simFan").rglob("*.wav"))
    table = pd.read_parquet(score(recordings=[recording], home=home)["table"])
    assert np.isfinite(table["score"]).all() and table["machine"].tolist() == ["simFan"]
    # What was trained is not trained again: not by `asd train`, nor for another system.
    written = file.stat().st_mtime_ns
    assert train(settings=adapting, home=home)["encoder"] == str(file)
    compared = benchmark(systems=["knn-h", "ced:knn-h"], settings=adapting, home=home)
    assert "is frozen: it was not trained" in compared["report"] and "adapters of rank 2" in compared["report"]
    scores = pd.read_parquet(home / compared["scores"]).groupby("system")["score"].apply(np.array)
    assert not np.allclose(scores["knn-h"], scores["ced:knn-h"])
    assert file.stat().st_mtime_ns == written
    folder.rename(tmp_path / "elsewhere")
    enrolled = CliRunner().invoke(app, ["enroll", "simFan", "--home", str(home)])
    assert isinstance(enrolled.exception, AsdError) and "ced: no such folder" in str(enrolled.exception)
    assert "Starting Prefect" not in enrolled.output


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "1000"})
    assert done.exit_code == 2, done.output
    assert "Starting Prefect" not in done.output
    return done.output


def test_a_pickle_is_refused_with_the_converter_before_a_server_starts(tmp_path: Path) -> None:
    pickle = tmp_path / "pytorch_model.bin"
    torch.save(random_weights(CED), pickle)
    (tmp_path / "config.json").write_text(json.dumps(CED_CONFIG))
    chosen = ["--set", "training.encoder=ced", "--set", f"training.source={tmp_path}", "--home", str(tmp_path / "home")]
    for command in (["retrain"], ["train", "--set", "training.adapter_rank=2"], ["benchmark", "--systems", "detector"]):
        assert f"`asd convert {pickle} FOLDER`" in refused(*command, *chosen)
    assert not (tmp_path / "home").exists()


def test_what_is_no_encoder_or_no_system_is_refused_before_a_server_starts(tmp_path: Path) -> None:
    home = ["--home", str(tmp_path / "home")]
    gone = ["--set", f"training.source={tmp_path / 'gone'}"]
    assert "gone: no such folder" in refused("retrain", "--set", "training.encoder=ced", *gone, *home)
    assert "encoder 'cde' is none of base" in refused("retrain", "--set", "training.encoder=cde", *home)
    assert "the encoder base is not trained" in refused("train", *home)
    assert "no system detectr; there are paper-ml" in refused("benchmark", "--systems", "detectr", *home)
    assert "gone: no such folder" in refused("benchmark", "--systems", "spectrum,ced:knn-h", *gone, *home)
    assert "needs source" in refused("benchmark", "--systems", "ced:detector", *home)
    assert not (tmp_path / "home").exists()


def test_adapters_do_not_start_from_another_encoder(tmp_path: Path) -> None:
    with pytest.raises(AsdError, match=r"adapters are always trained from the start, not from .*other\.safetensors"):
        train.fn(settings=settings("ced", tmp_path, adapter_rank=2), warm_start=tmp_path / "other.safetensors")
