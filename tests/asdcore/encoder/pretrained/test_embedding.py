"""What the published models make of a clip, on small random ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from asdcore.detector import Detector
from asdcore.encoder.frozen import build_frozen, load_encoder
from asdcore.encoder.pretrained.base import PretrainedEncoder
from asdcore.settings import NormalitySettings, Settings, TrainingSettings
from tests.asdcore.conftest import Recorder
from tests.asdcore.encoder.pretrained.conftest import FAMILIES, WIDTH, Clip, Publish


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(params=FAMILIES)
def encoder(request: pytest.FixtureRequest, publish: Publish) -> PretrainedEncoder:
    built = build_frozen(request.param, publish(request.param))
    assert isinstance(built, PretrainedEncoder)
    return built


def test_a_clip_becomes_one_vector_and_the_same_one_again(encoder: PretrainedEncoder, clip: Clip) -> None:
    first, again = (encoder.embed(clip(0.8, 16_000), 16_000) for _ in range(2))
    assert first.shape == (WIDTH,)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("seconds", [0.0005, 0.02, 0.1, 0.65, 3.3])
def test_a_clip_may_have_any_length(encoder: PretrainedEncoder, clip: Clip, seconds: float) -> None:
    embedding = encoder.embed(clip(seconds, 16_000), 16_000)
    assert embedding.shape == (WIDTH,)
    assert np.isfinite(embedding).all()


def test_the_rate_of_the_recording_does_not_matter(encoder: PretrainedEncoder, clip: Clip) -> None:
    at_16, at_44 = encoder.embed(clip(0.8, 16_000), 16_000), encoder.embed(clip(0.8, 44_100), 44_100)
    another = encoder.embed(clip(0.8, 16_000)[::-1].cumsum().astype(np.float32), 16_000)
    assert cosine(at_16, at_44) > 0.999
    assert cosine(at_16, another) < cosine(at_16, at_44)


def test_silence_has_an_embedding(encoder: PretrainedEncoder) -> None:
    assert np.isfinite(encoder.embed(np.zeros(16_000, np.float32), 16_000)).all()


def test_a_long_clip_of_equal_parts_is_embedded_as_one_of_them(encoder: PretrainedEncoder, clip: Clip) -> None:
    # The hum has a period of 0.02 s, so all windows of it are the same but for the noise and the ends.
    part = np.tile(clip(0.02, 16_000), 50)
    assert cosine(encoder.embed(part, 16_000), encoder.embed(np.tile(part, 6), 16_000)) > 0.95


def test_nothing_of_a_model_is_trained(encoder: PretrainedEncoder) -> None:
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_the_device_is_where_it_is_sent(encoder: PretrainedEncoder, clip: Clip) -> None:
    assert encoder.to(torch.device("cpu")) is encoder
    assert encoder.embed(clip(0.1, 16_000), 16_000).shape == (WIDTH,)


@pytest.mark.parametrize("family", ["ast", "ced"])
def test_a_detector_is_fitted_saved_and_scores_with_it(
    publish: Publish, record: Recorder, tmp_path: Path, family: str
) -> None:
    files = [record(tmp_path / "recordings" / "fan" / f"{seed}.wav", seed) for seed in range(10)]
    settings = Settings(
        training=TrainingSettings(encoder=family, source=str(publish(family)), device="cpu"),
        normality=NormalitySettings(scorers=("spectrum", "embedding"), estimator="knn"),
    )
    detector = Detector.fit(tmp_path / "recordings", settings)
    detector.save(tmp_path / "detector")
    scores = Detector.load(tmp_path / "detector").score(files)
    assert np.isfinite(scores["score"]).all()
    assert scores["score"].tolist() == detector.score(files)["score"].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_same_after_saving_and_loading(publish: Publish, clip: Clip, tmp_path: Path, family: str) -> None:
    encoder = build_frozen(family, publish(family))
    encoder.save(tmp_path / "encoder.safetensors")
    loaded = load_encoder(tmp_path / "encoder.safetensors")
    assert isinstance(loaded, PretrainedEncoder)
    np.testing.assert_array_equal(loaded.embed(clip(0.3, 16_000), 16_000), encoder.embed(clip(0.3, 16_000), 16_000))
