"""The two-branch network against the published code: its layers, its loss, its training."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from asdcore.baselines.adacos import SUBCLUSTERS, SubclusterAdaCos
from asdcore.baselines.discrimination import Waveforms, read_waveforms
from asdcore.baselines.exchange import drawn, exchanged_classes, exchanged_features, exchanged_statistics, mixed
from asdcore.baselines.two_branch import WINDOWS, SamePadding, TwoBranch, TwoBranchEncoder
from asdcore.baselines.two_branch_training import TwoLosses, train_two_branch
from asdcore.encoder.frozen import build_frozen
from asdcore.errors import AsdError
from asdcore.evaluation.systems import VectorSystem, systems_named
from asdcore.settings import NormalitySettings, RecordingSettings, TrainingSettings, TwoBranchSettings
from tests.asdcore.conftest import Recorder

PUBLISHED = 288_000
"""samples, 18 s at 16 kHz"""
CPU = torch.device("cpu")

# The layers of the published Keras model, as Keras counts: a batch normalisation has four values per channel, two of
# them running statistics; no layer has a bias. Squeeze-and-excitation: 2 * c * c / 16.
SPECTRUM = {
    "conv 256, stride 64": 256 * 1 * 128,
    "conv 64, stride 32": 64 * 128 * 128,
    "conv 16, stride 4": 16 * 128 * 128,
    "gates": 3 * 2 * 128 * 8,
    "dense, of 18 positions": 18 * 128 * 128,
    "dense": 3 * 128 * 128,
    "batch norm": 4 * 4 * 128,
    "embedding": 128 * 128,
}
SPECTROGRAM = {
    "batch norm of the bands": 4 * 513,
    "conv 7, stride 2": 7 * 7 * 16 + 4 * 16,
    "block 2": 4 * (9 * 16 * 16) + 2 * (2 * 16 * 1) + 3 * 4 * 16,
    "block 3": 9 * 16 * 32 + 3 * (9 * 32 * 32) + 2 * (2 * 32 * 2) + 16 * 32 + 4 * (16 + 32 + 32 + 32),
    "block 4": 9 * 32 * 64 + 3 * (9 * 64 * 64) + 2 * (2 * 64 * 4) + 32 * 64 + 4 * (32 + 64 + 64 + 64),
    "block 5": 9 * 64 * 128 + 3 * (9 * 128 * 128) + 2 * (2 * 128 * 8) + 64 * 128 + 4 * (64 + 128 + 128 + 128),
    "batch norm of 16 bands x 128": 4 * 16 * 128,
    "embedding": 16 * 128 * 128,
}


def values(module: nn.Module) -> int:
    """Parameters and running statistics."""
    running = [buffer for name, buffer in module.named_buffers() if "running" in name]
    return sum(tensor.numel() for tensor in [*module.parameters(), *running])


def test_the_branches_have_the_parameters_of_the_published_network() -> None:
    network = TwoBranch(PUBLISHED)
    assert (values(network.spectrum), sum(SPECTRUM.values())) == (1_712_128, 1_712_128)
    assert (values(network.spectrograms), sum(SPECTROGRAM.values())) == (979_348, 979_348)


def test_the_branches_have_the_shapes_of_the_published_network() -> None:
    network = TwoBranch(PUBLISHED).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    branch = network.spectrograms[0]
    seen = {"spectrum": network.spectrum.layers[8], "bands": branch.bands, "image": branch.layers, "head": branch.head}
    for name, module in seen.items():
        module.register_forward_hook(lambda _, __, output, name=name: shapes.update({name: tuple(output.shape)}))
    with torch.inference_mode():
        assert network(torch.randn(1, PUBLISHED)).shape == (1, 256)
    # 561 frames of 513 bands; the published network takes the maximum over 18 frames, which are all there are.
    assert shapes == {
        "spectrum": (1, 128, 18), "bands": (1, 513, 561), "image": (1, 128, 18, 16), "head": (1, 128)
    }  # fmt: skip


def test_several_resolutions_are_several_spectrogram_branches() -> None:
    network = TwoBranch(16_000, WINDOWS["multi_resolution"]).eval()
    waveforms = torch.randn(2, 16_000)
    spectrum, spectrograms = network.branches(waveforms)
    assert (spectrum.shape, spectrograms.shape, network.size) == ((2, 128), (2, 3 * 128), 512)
    same, exchanged = network.branches(waveforms, torch.tensor([True, False]))
    assert torch.equal(same, spectrum)
    changed = (exchanged != spectrograms).reshape(2, 3, 128).any(dim=2)
    assert changed.tolist() == [[True] * 3, [False] * 3]
    assert values(network.spectrograms[1]) == sum(SPECTROGRAM.values())


def test_no_layer_has_a_bias() -> None:
    layers = [m for m in TwoBranch(16_000).modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    assert layers and all(layer.bias is None for layer in layers)


def test_padding_is_that_of_tensorflow() -> None:
    layer = SamePadding(nn.Conv1d(1, 1, 4, 2, bias=False))
    nn.init.constant_(layer.convolution.weight, 1.0)
    # ceil(5 / 2) values; of the three that are padded one is on the left.
    assert layer(torch.tensor([[[1.0, 2, 3, 4, 5]]])).tolist() == [[[6.0, 14.0, 9.0]]]


def test_the_loss_is_the_cross_entropy_of_the_published_code() -> None:
    torch.manual_seed(0)
    loss = SubclusterAdaCos(5, 8, trainable=True, subclusters=3)
    embeddings, shares = torch.randn(6, 8), torch.softmax(torch.randn(6, 5), dim=1)
    first = float(loss.scale)
    assert first == pytest.approx(math.sqrt(2) * math.log(14))
    result = float(loss(embeddings, shares).detach())
    x, w = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (embeddings.numpy(), loss.centres.detach().numpy()))
    cosine = x @ w.T
    # Three angles of about pi / 2 together are more than pi / 4.
    scale = math.log(np.exp(first * cosine).sum(axis=1).mean()) / math.cos(math.pi / 4)
    assert float(loss.scale) == pytest.approx(scale, rel=1e-5)
    odds = np.exp(scale * cosine)
    probability = (odds / odds.sum(axis=1, keepdims=True)).reshape(6, 5, 3).sum(axis=2)
    assert result == pytest.approx(-(shares.numpy() * np.log(probability)).sum(axis=1).mean(), rel=1e-5)
    loss.eval()
    loss(embeddings, shares)
    assert float(loss.scale) == pytest.approx(scale, rel=1e-5)


def test_waveforms_and_classes_are_mixed_alike() -> None:
    rows = torch.eye(64)
    waveforms, shares = mixed(rows, rows, torch.Generator().manual_seed(0))
    torch.testing.assert_close(waveforms, shares)
    assert shares.sum(dim=1).tolist() == pytest.approx([1.0] * 64)
    torch.testing.assert_close(shares.diagonal() + shares.flip(1).diagonal(), torch.ones(64))
    assert 20 < int((shares.diagonal() == 1).sum()) < 44


def test_about_half_of_the_rows_are_drawn() -> None:
    assert 20 < int(drawn(64, torch.Generator().manual_seed(0)).sum()) < 44


def test_exchanged_rows_have_the_statistics_of_the_reversed_batch_and_the_others_stay_as_they_are() -> None:
    rng = np.random.default_rng(0)
    spectra = rng.gamma(1.0, size=(4, 513, 7)) * rng.uniform(0.1, 10, (4, 1, 7))
    rows = torch.tensor([True, False, True, True])
    result = exchanged_statistics(torch.from_numpy(spectra), rows).numpy()
    assert np.array_equal(result[1], spectra[1])
    # Of each frame over its bands; the deviation is that of all values, as in TensorFlow.
    mean, deviation = spectra.mean(axis=1, keepdims=True), spectra.std(axis=1, keepdims=True)
    expected = (spectra - mean) / deviation * deviation[::-1] + mean[::-1]
    for row in (0, 2, 3):
        assert result[row] == pytest.approx(expected[row], rel=1e-9)
        assert result[row].mean(axis=0) == pytest.approx(mean[3 - row, 0], rel=1e-9)
        assert result[row].std(axis=0) == pytest.approx(deviation[3 - row, 0], rel=1e-9)


def test_silent_frames_get_the_mean_of_the_other_recording() -> None:
    spectra = torch.stack([torch.zeros(513, 2), torch.rand(513, 2)])
    result = exchanged_statistics(spectra, torch.tensor([True, True]))
    torch.testing.assert_close(result[0], spectra[1].mean(dim=0).expand(513, 2))
    assert not result[1].any()


def test_exchanged_spectrograms_make_classes_of_their_own() -> None:
    rows = torch.eye(64)
    chosen = drawn(64, torch.Generator().manual_seed(0))
    spectrograms, shares = exchanged_features(rows, chosen), exchanged_classes(rows, chosen)
    assert torch.equal(spectrograms[~chosen], rows[~chosen])
    assert torch.equal(spectrograms[chosen], rows.flip(0)[chosen])
    plain, own, other = shares.split(64, dim=1)
    assert torch.equal(plain[~chosen], rows[~chosen]) and not own[~chosen].any() and not other[~chosen].any()
    assert torch.equal(own[chosen], 0.5 * rows[chosen]) and torch.equal(other[chosen], 0.5 * rows.flip(0)[chosen])
    assert not plain[chosen].any()


def test_the_losses_have_fixed_centres_of_each_class_and_trained_ones_of_nine_times_as_many() -> None:
    objective = TwoLosses(TwoBranch(4096), Waveforms([], torch.arange(5), 16_000), CPU)
    shapes = {name: (tuple(w.shape), w.requires_grad) for name, w in objective.named_parameters() if "centres" in name}
    assert shapes == {
        "plain.centres": ((5 * SUBCLUSTERS, 256), False),
        "self_supervised.centres": ((9 * 5 * SUBCLUSTERS, 256), True),
    }


def test_both_exchanges_make_nine_classes_of_one() -> None:
    statistics, features = torch.tensor([[True, False, False], [False, True, True]])
    shares = exchanged_classes(exchanged_classes(torch.eye(3), statistics), features)
    assert shares.sum(dim=1).tolist() == [1.0] * 3
    # Blocks of FeatEx, each of three blocks of StatEx, each of three classes.
    blocks = shares.reshape(3, 3, 3, 3)
    assert blocks[0, 0].tolist() == [[0, 0, 0], [0.5, 0, 0], [0, 0, 0.5]]
    assert blocks[1, 1].tolist() == blocks[1, 2].tolist() == [[0, 0.5, 0], [0, 0, 0], [0, 0, 0]]
    assert blocks[2, 1].tolist() == [[0, 0, 0.5], [0, 0, 0], [0, 0, 0]]
    assert blocks[2, 2].tolist() == [[0, 0, 0], [0.25, 0, 0], [0, 0, 0.25]]


def test_both_losses_see_exchanged_statistics_and_only_the_self_supervised_one_exchanged_embeddings() -> None:
    torch.manual_seed(0)
    objective = TwoLosses(TwoBranch(4096), Waveforms([], torch.arange(6), 16_000), CPU).eval()
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, loss in (("plain", objective.plain), ("self_supervised", objective.self_supervised)):
        loss.register_forward_hook(lambda _, inputs, __, name=name: seen.update({name: inputs}))
    waveforms = torch.randn(6, 4096)
    objective(waveforms, torch.arange(6), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    waveforms, shares = mixed(waveforms, torch.eye(6), generator)
    statistics, features = drawn(6, generator), drawn(6, generator)
    assert 0 < int(statistics.sum()) < 6 and 0 < int(features.sum()) < 6
    spectrum, spectrograms = objective.network.branches(waveforms, statistics)
    assert torch.equal(seen["plain"][0], torch.cat([spectrum, spectrograms], dim=1))
    assert torch.equal(seen["plain"][1], shares)
    exchanged = exchanged_features(spectrograms, features)
    assert torch.equal(seen["self_supervised"][0], torch.cat([spectrum, exchanged], dim=1))
    assert torch.equal(seen["self_supervised"][1], exchanged_classes(exchanged_classes(shares, statistics), features))


def tones(n: int = 16, samples: int = 4096) -> Waveforms:
    """Two classes: tones of about 500 and 2000 Hz with noise."""
    rng = np.random.default_rng(0)
    time = np.arange(samples) / 16_000
    classes = np.arange(n) % 2
    pitches = np.where(classes, 2000, 500) * rng.uniform(0.98, 1.02, n)
    sounds = [np.sin(2 * np.pi * pitch * time) + 0.1 * rng.normal(size=samples) for pitch in pitches]
    return Waveforms([sound.astype(np.float32) for sound in sounds], torch.from_numpy(classes), 16_000)


def train(
    data: Waveforms, folder: Path, epochs: int, learning_rate: float = 1e-3
) -> tuple[TwoBranch, list[dict[str, float]]]:
    settings = TwoBranchSettings(epochs=epochs, batch_size=4, learning_rate=learning_rate)
    return train_two_branch(data, (1024,), settings, CPU, folder, "tones", pytest.fail)


def test_training_tells_classes_apart_and_a_stopped_one_resumes_to_the_same_network(tmp_path: Path) -> None:
    data = tones()
    whole, history = train(data, tmp_path / "whole", 4)
    assert history[-1]["loss"] < history[0]["loss"]
    with torch.inference_mode():
        embeddings = nn.functional.normalize(whole(torch.from_numpy(np.stack(data.samples))), dim=1)
    cosine = embeddings @ embeddings.T
    same = data.classes[:, None] == data.classes
    assert cosine[same].mean() > cosine[~same].mean() + 0.2
    train(data, tmp_path / "stopped", 2)
    resumed, other = train(data, tmp_path / "stopped", 4)
    assert other == history
    for one, two in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_what_can_not_be_trained_is_said(tmp_path: Path) -> None:
    with pytest.raises(AsdError, match="1 training recording: the two-branch network needs at least 2"):
        train(tones(1), tmp_path, 1)
    with pytest.raises(AsdError, match=r"3000 samples: the network needs at least 3072; lengthen two_branch\.seconds"):
        train(tones(2, 3000), tmp_path, 1)
    with pytest.raises(AsdError, match=r"not finite in epoch \d: choose a smaller two_branch\.learning_rate"):
        train(tones(8), tmp_path, 9, learning_rate=1e30)


def test_waveforms_are_read_with_a_class_for_each_condition_and_refused_where_they_do_not_fit(
    tmp_path: Path, record: Recorder
) -> None:
    files = [record(tmp_path / f"{seed}.wav", seed) for seed in range(4)]
    about = {"machine": ["fan", "fan", "fan", "pump"], "section": "00", "domain": "source"}
    table = pd.DataFrame({"recording": list("abcd"), **about, "attributes": ["{}", '{"rpm": "900"}', "{}", "{}"]})
    data = read_waveforms(table, files, RecordingSettings(), seconds=0.5)
    assert (data.length, [len(samples) for samples in data.samples]) == (8000, [8000] * 4)
    assert data.classes[0] == data.classes[2] and len(set(data.classes.tolist())) == 3
    with pytest.raises(AsdError, match="the first 3 of 4 training clips need more than"):
        read_waveforms(table, files, RecordingSettings(), seconds=0.5, memory=2 * 8000 * 4)


def test_a_saved_network_embeds_as_an_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = TwoBranch(4096).eval()
    network.save(tmp_path / "network.safetensors", 16_000, [])
    encoder = build_frozen("two_branch", tmp_path / "network.safetensors")
    assert isinstance(encoder, TwoBranchEncoder) and encoder.digest
    sound = np.random.default_rng(0).normal(size=2048).astype(np.float32)
    embedding = encoder.embed(sound, 16_000)
    assert embedding.shape == (256,) and np.linalg.norm(embedding) == pytest.approx(1, rel=1e-6)
    # A short one is repeated, of a long one the beginning counts.
    assert encoder.embed(np.tile(sound, 3), 16_000).tolist() == embedding.tolist()
    with pytest.raises(AsdError, match=r"trained at 16000 Hz, the recordings are read at 8000 Hz"):
        encoder.embed(sound, 8_000)


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"something else")
    with pytest.raises(AsdError, match=r"other: no two-branch network .*`asd benchmark` trains one"):
        build_frozen("two_branch", tmp_path / "other")
    with pytest.raises(AsdError, match="needs its weights"):
        build_frozen("two_branch", None)


def test_systems_by_the_network_train_their_own_even_if_the_settings_name_weights() -> None:
    system, other = systems_named(["wilkinghoff-2024", "multi_resolution:knn-h"], NormalitySettings())
    assert isinstance(system, VectorSystem) and isinstance(other, VectorSystem)
    settings = TrainingSettings(encoder="ced", source="models/ced")
    assert (system.training(settings).encoder, system.training(settings).source) == ("two_branch", None)
    assert (other.training(settings).encoder, other.training(settings).source) == ("multi_resolution", None)
