"""Low-rank adapters are exact: the model stays as it is, and nothing is lost by saving, merging or resuming."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from asdcore.baselines.adapter_training import AdapterObjective, train_adapters
from asdcore.baselines.discrimination import Waveforms
from asdcore.detector import Detector
from asdcore.encoder.adapters import ALPHA, Adapters, LowRank, adapted, weights_of
from asdcore.encoder.frozen import build_frozen, load_encoder, training_history
from asdcore.encoder.pretrained.base import PretrainedEncoder
from asdcore.errors import AsdError
from asdcore.evaluation.systems import single_systems, systems_named
from asdcore.plots.evaluation import training_plot
from asdcore.settings import NormalitySettings, Settings, TrainingSettings
from asdcore.storage.files import digest_of_file
from tests.asdcore.conftest import Recorder
from tests.asdcore.encoder.pretrained.conftest import DEPTH, FAMILIES, WIDTH, Clip, Publish

RANK = 3
CPU = torch.device("cpu")


def built(family: str, folder: Path) -> PretrainedEncoder:
    encoder = build_frozen(family, folder)
    assert isinstance(encoder, PretrainedEncoder)
    return encoder


def random_adapters(encoder: PretrainedEncoder) -> Adapters:
    """As a training might leave them."""
    torch.manual_seed(1)
    with adapted(encoder.model, encoder.adaptable, RANK) as added:
        weights = {name: 0.1 * torch.randn_like(values) for name, values in weights_of(added).items()}
    return Adapters(weights, RANK, ALPHA, [{"epoch": 1.0, "loss": 2.0}])


def settings(epochs: int = 2, **changed: Any) -> TrainingSettings:
    return TrainingSettings(
        encoder="ced",
        source="folder",
        adapter_rank=RANK,
        epochs=epochs,
        cycles=1,
        batch_size=4,
        device="cpu",
        **changed,
    )


@pytest.fixture
def tones() -> Waveforms:
    """Eight clips of two classes, some shorter: tones of about 500 and 2000 Hz with noise."""
    rng = np.random.default_rng(0)
    classes = np.arange(8) % 2
    sounds = []
    for number, above in enumerate(classes):
        time = np.arange(4000 + 200 * (number % 3)) / 16_000
        pitch = (2000 if above else 500) * rng.uniform(0.98, 1.02)
        sounds.append((np.sin(2 * np.pi * pitch * time) + 0.1 * rng.normal(size=len(time))).astype(np.float32))
    return Waveforms(sounds, torch.from_numpy(classes), 16_000)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def test_untrained_adapters_change_nothing_and_leave_nothing_behind(publish: Publish, clip: Clip, family: str) -> None:
    encoder, sound = built(family, publish(family)), clip(0.4, 16_000)
    before, weights = encoder.embed(sound, 16_000), {n: v.clone() for n, v in encoder.model.state_dict().items()}
    with adapted(encoder.model, encoder.adaptable, RANK) as added:
        assert encoder.embed(sound, 16_000).tobytes() == before.tobytes()
        for adapter in added.values():
            nn.init.normal_(adapter.up)
        assert not np.allclose(encoder.embed(sound, 16_000), before)
    after = encoder.model.state_dict()
    assert after.keys() == weights.keys() and all(torch.equal(after[name], weights[name]) for name in weights)
    assert encoder.embed(sound, 16_000).tobytes() == before.tobytes()


def test_queries_and_values_of_every_attention_have_adapters(publish: Publish, family: str) -> None:
    weights = random_adapters(built(family, publish(family))).weights
    # Up and down, of queries and values, in each layer.
    assert sum(values.numel() for values in weights.values()) == 2 * 2 * DEPTH * RANK * WIDTH


def test_merged_adapters_are_the_low_rank_path_beside_the_layer() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 12), torch.randn(5, 8)
    adapter = LowRank(layer.weight, 2, (True, False, True), alpha=6.0)
    nn.init.normal_(adapter.up)
    merged = nn.functional.linear(x, adapter(layer.weight), layer.bias)
    query, key, value = layer(x).split(4, dim=1)
    path = [x @ adapter.down[part].T @ adapter.up[part].T * (6.0 / 2) for part in (0, 1)]
    torch.testing.assert_close(merged, torch.cat([query + path[0], key, value + path[1]], dim=1))


def test_merged_and_unmerged_adapters_embed_alike_and_again_after_saving(
    publish: Publish, clip: Clip, tmp_path: Path, family: str
) -> None:
    folder, sound = publish(family), clip(0.4, 16_000)
    encoder = built(family, folder)
    adapters = random_adapters(encoder)
    frozen = encoder.embed(sound, 16_000)
    with adapted(encoder.model, encoder.adaptable, RANK) as added:
        for layer, adapter in added.items():
            adapter.load_state_dict({name: adapters.weights[f"{layer}.{name}"] for name in ("up", "down")})
        unmerged = encoder.embed(sound, 16_000)
    encoder.adapt(adapters)
    merged = encoder.embed(sound, 16_000)
    np.testing.assert_allclose(merged, unmerged, rtol=1e-5, atol=1e-6)
    assert not np.allclose(merged, frozen)
    assert not any(weight.requires_grad for weight in encoder.model.parameters())
    file = tmp_path / "encoder.safetensors"
    encoder.save(file)
    assert load_file(file).keys() == adapters.weights.keys(), "only the adapters are stored"
    again = load_encoder(file)
    assert isinstance(again, PretrainedEncoder) and again.adapters is not None
    assert again.embed(sound, 16_000).tobytes() == merged.tobytes()
    again.save(tmp_path / "again.safetensors")
    assert digest_of_file(tmp_path / "again.safetensors") == digest_of_file(file)
    assert training_history(file) == again.history == [{"epoch": 1.0, "loss": 2.0}]


def test_adapters_refuse_another_base(publish: Publish, tmp_path: Path) -> None:
    folder = publish("ced")
    encoder = built("ced", folder)
    encoder.adapt(random_adapters(encoder))
    encoder.save(tmp_path / "encoder.safetensors")
    with (folder / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(AsdError, match="no longer that of the encoder 'ced'"):
        load_encoder(tmp_path / "encoder.safetensors")


def test_what_does_not_fit_is_refused(publish: Publish, tmp_path: Path, tones: Waveforms) -> None:
    encoder = built("ced", publish("ced"))
    with pytest.raises(AsdError, match="adapter_rank=33: adapters of this model have at most rank 32"):
        train_adapters(encoder, tones, settings().model_copy(update={"adapter_rank": 33}), tmp_path)
    adapters = random_adapters(encoder)
    with pytest.raises(AsdError, match="belong to another model"):
        built("beats", publish("beats")).adapt(adapters)
    encoder.adapt(adapters)
    with pytest.raises(AsdError, match="has adapters already"):
        encoder.adapt(adapters)
    same = Waveforms(tones.samples, torch.zeros(8, dtype=torch.int64), 16_000)
    with pytest.raises(AsdError, match="all training recordings are of one class"):
        train_adapters(encoder, same, settings(), tmp_path)
    with pytest.raises(ValueError, match="needs processes=1 and an encoder of ast, ced"):
        settings(processes=2)
    with pytest.raises(ValueError, match="adapter_rank=2 needs"):
        TrainingSettings(encoder="resnet18", adapter_rank=2)


def test_the_gradient_of_a_batch_is_that_of_the_whole_loss(
    publish: Publish, tones: Waveforms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asdcore.baselines.adapter_training.mixed", lambda waveforms, shares, _: (waveforms, shares))
    tones = Waveforms([sound[:4000] for sound in tones.samples], tones.classes, 16_000)
    encoder, chosen = built("eat", publish("eat")), torch.arange(4)
    torch.manual_seed(0)
    with adapted(encoder.model, encoder.adaptable, RANK) as added:
        for adapter in added.values():
            nn.init.normal_(adapter.up, std=0.1)
        objective = AdapterObjective(encoder, added, tones, CPU)
        scale = objective.loss.scale.clone()

        def gradients() -> list[Tensor]:
            taken = [weight.grad.clone() for weight in objective.parameters() if weight.grad is not None]
            objective.zero_grad()
            objective.loss.scale.copy_(scale)
            return taken

        objective.backward(chosen, torch.Generator())
        cached = gradients()
        embeddings = torch.stack([encoder.embedding(tones.samples[index]) for index in range(4)])
        objective.loss(embeddings, nn.functional.one_hot(tones.classes[:4], 2).float()).backward()
        at_once = gradients()
    assert len(cached) == len(at_once) == 2 * 2 * DEPTH // 2 + 1
    for one, two in zip(cached, at_once, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("family", [pytest.param("ast", marks=pytest.mark.slow), "ced", "beats"])
def test_training_changes_the_adapters_alone_and_tells_the_classes_apart(
    publish: Publish, tones: Waveforms, tmp_path: Path, family: str
) -> None:
    folder = publish(family)
    encoder, digest = built(family, folder), digest_of_file(folder / "model.safetensors")
    before = {name: values.clone() for name, values in encoder.model.state_dict().items()}
    adapters = train_adapters(encoder, tones, settings(epochs=8, learning_rate=5e-3), tmp_path / "checkpoints")
    after = encoder.model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert digest_of_file(folder / "model.safetensors") == digest
    assert all(values.any() for values in adapters.weights.values())
    assert adapters.history[-1]["loss"] < adapters.history[0]["loss"]
    assert {"epoch", "loss", "chance", "effective_rank_h", "spread_h"} <= adapters.history[0].keys()

    def gap() -> float:
        h = np.stack([encoder.embed(sound, 16_000) for sound in tones.samples])
        h = h / np.linalg.norm(h, axis=1, keepdims=True)
        same = (tones.classes[:, None] == tones.classes).numpy()
        cosine = h @ h.T
        return float(cosine[same].mean() - cosine[~same].mean())

    frozen = gap()
    encoder.adapt(adapters)
    assert gap() > frozen + 0.2 * abs(frozen)


def test_a_detector_is_fitted_with_adapters_saved_and_scores(
    publish: Publish, record: Recorder, tmp_path: Path
) -> None:
    machines = [("fan", seed) for seed in range(10)] + [("pump", seed) for seed in range(10, 20)]
    files = [record(tmp_path / "in" / name / f"{seed}.wav", seed, 0.5) for name, seed in machines]
    chosen = Settings(
        training=settings(2).model_copy(update={"source": str(publish("ced"))}),
        normality=NormalitySettings(scorers=("spectrum", "embedding"), estimator="knn"),
    )
    detector = Detector.fit(tmp_path / "in", chosen)
    assert [epoch["epoch"] for epoch in detector.encoder.history] == [1.0, 2.0]
    detector.save(tmp_path / "detector")
    scores = Detector.load(tmp_path / "detector").score(files)["score"]
    assert np.isfinite(scores).all() and scores.tolist() == detector.score(files)["score"].tolist()
    training_plot(detector.encoder.history).canvas.draw()


def test_only_systems_of_the_encoder_of_the_settings_have_adapters() -> None:
    systems = systems_named(["knn-h", "ced:knn-h", "base:knn-h", "wilkinghoff-2024", "paper-ml"], NormalitySettings())
    assert [system.training(settings()).adapter_rank for system in single_systems(systems)] == [RANK, 0, 0, 0, 0]  # type: ignore[arg-type]


def test_a_stopped_training_resumes_to_the_same_adapters(publish: Publish, tones: Waveforms, tmp_path: Path) -> None:
    folder = publish("ced")
    whole = train_adapters(built("ced", folder), tones, settings(), tmp_path / "whole", "tones")

    class StoppedError(Exception):
        pass

    def stop(_: object) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        train_adapters(built("ced", folder), tones, settings(), tmp_path / "stopped", "tones", on_epoch=stop)
    epochs: list[dict[str, float]] = []
    resumed = train_adapters(
        built("ced", folder), tones, settings(), tmp_path / "stopped", "tones", epochs.append, pytest.fail
    )
    assert [epoch["epoch"] for epoch in epochs] == [2.0]
    assert resumed.history == whole.history
    assert resumed.weights.keys() == whole.weights.keys()
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)
    with pytest.raises(AsdError, match="other recordings or settings"):
        train_adapters(built("ced", folder), tones, settings(), tmp_path / "stopped", "others")
    largest = max(file.stat().st_size for file in (tmp_path / "whole").iterdir())
    assert largest < (folder / "model.safetensors").stat().st_size / 2, "a checkpoint has no weights of the model"
