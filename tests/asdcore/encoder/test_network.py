import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from asdcore.encoder.network import TrainedEncoder, build_encoder, choose_device
from asdcore.errors import AsdError
from asdcore.features.normalisation import Normalisation

CPU = torch.device("cpu")


def random_encoder(seed: int = 0) -> TrainedEncoder:
    rng = np.random.default_rng(seed)
    mean, deviation = (rng.normal(size=(16, 1)).astype(np.float32) for _ in range(2))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = build_encoder("resnet18", 8)
    return TrainedEncoder(encoder.eval(), Normalisation(mean, deviation), [{"epoch": 1.0, "loss": 0.1 + 0.2}])


def spectrograms(*frames: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(16, n, generator=generator) for n in frames]


def test_resnet18_has_the_parameters_of_the_paper_of_he_with_one_input_channel() -> None:
    # From Table 1 of He et al.: 3x3 convolutions without bias, 1x1 shortcuts where the width changes, two parameters
    # of batch normalisation for each channel that a convolution puts out.
    stem = 7 * 7 * 1 * 64 + 2 * 64
    stages = 0
    for inputs, width in ((64, 64), (64, 128), (128, 256), (256, 512)):
        stages += 9 * inputs * width + 3 * 9 * width * width + 4 * 2 * width
        if inputs != width:
            stages += inputs * width + 2 * width
    assert stem + stages == 11_170_240

    encoder = build_encoder("resnet18", z_size=128)
    assert sum(p.numel() for p in encoder.layers.parameters()) == stem + stages
    assert sum(p.numel() for p in encoder.head.parameters()) == 512 * 512 + 512 + 512 * 128 + 128


def test_resnet50_has_the_parameters_of_the_paper_of_he_with_one_input_channel() -> None:
    # The known 25,557,032 less the classifier of 1000 classes and two of the three input channels of the stem.
    encoder = build_encoder("resnet50")
    expected = 25_557_032 - (2048 * 1000 + 1000) - 2 * 7 * 7 * 64
    assert sum(p.numel() for p in encoder.layers.parameters()) == expected


@pytest.mark.parametrize(("architecture", "h_size"), [("resnet18", 512), ("resnet50", 2048)])
def test_h_and_z_have_their_sizes(architecture: str, h_size: int) -> None:
    encoder = build_encoder(architecture, z_size=24).eval()
    h, z = encoder(torch.zeros(2, 1, 32, 40))
    assert encoder.h_size == h_size
    assert h.shape == (2, h_size)
    assert z.shape == (2, 24)


def test_the_stages_halve_the_spectrogram_as_in_the_paper_of_he() -> None:
    sizes = []
    x = torch.zeros(1, 1, 128, 224)
    for layer in build_encoder().eval().layers:
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes[0] == (64, 64, 112)  # stem
    assert sizes[2] == sizes[4] == (64, 32, 56)
    assert [sizes[i] for i in (6, 8, 10)] == [(128, 16, 28), (256, 8, 14), (512, 4, 7)]


@pytest.mark.parametrize("frames", [1, 2, 16, 31, 700])
def test_a_spectrogram_of_any_length_has_one_finite_embedding(frames: int) -> None:
    ((h, z),) = random_encoder().embed(spectrograms(frames), CPU)
    assert h.shape == (512,) and z.shape == (8,)
    assert torch.isfinite(h).all() and torch.isfinite(z).all()


def test_alone_and_in_a_sequence_of_many_a_recording_has_the_same_embedding_bit_for_bit() -> None:
    encoder, many = random_encoder(), spectrograms(40, 16, 93, 40, 128)
    together = list(encoder.embed(many, CPU))
    for spectrogram, (h, z) in zip(many, together, strict=True):
        ((h_alone, z_alone),) = encoder.embed([spectrogram], CPU)
        assert torch.equal(h, h_alone) and torch.equal(z, z_alone)


def test_embedding_is_done_in_evaluation_mode_and_changes_no_weight() -> None:
    trained = random_encoder()
    trained.encoder.train()
    before = {name: tensor.clone() for name, tensor in trained.encoder.state_dict().items()}
    list(trained.embed(spectrograms(40, 50), CPU))
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.encoder.state_dict().items())


def test_between_two_embeddings_gradients_can_be_taken() -> None:
    for _ in random_encoder().embed(spectrograms(20, 20), CPU):
        x = torch.ones(3, requires_grad=True)
        x.sum().backward()
        assert x.grad is not None


def test_a_saved_encoder_comes_back_bit_for_bit(tmp_path: Path) -> None:
    trained = random_encoder()
    trained.save(tmp_path / "encoder.safetensors")
    loaded = TrainedEncoder.load(tmp_path / "encoder.safetensors")

    before, after = trained.encoder.state_dict(), loaded.encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    np.testing.assert_array_equal(loaded.normalisation.mean, trained.normalisation.mean)
    np.testing.assert_array_equal(loaded.normalisation.deviation, trained.normalisation.deviation)
    assert loaded.history == trained.history
    assert not loaded.encoder.training


@pytest.mark.usefixtures("narrow_encoder")
def test_a_trained_encoder_embeds_the_same_before_and_after_it_was_saved(undisturbed, tmp_path: Path) -> None:
    # Training uses another memory layout than a loaded encoder has: the bits must not depend on it.
    undisturbed.encoder.save(tmp_path / "encoder.safetensors")
    loaded = TrainedEncoder.load(tmp_path / "encoder.safetensors")
    for before, after in zip(
        undisturbed.encoder.embed(spectrograms(24, 200), CPU), loaded.embed(spectrograms(24, 200), CPU), strict=True
    ):
        assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


@pytest.mark.parametrize("damage", ["missing", "a folder", "empty", "text", "truncated", "no metadata", "other layers"])
def test_a_file_that_is_no_encoder_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "encoder.safetensors"
    random_encoder().save(path)
    whole = path.read_bytes()
    path.unlink()
    one = {"normalisation.mean": torch.zeros(16, 1), "normalisation.deviation": torch.ones(16, 1)}
    metadata = {"about": json.dumps({"architecture": "resnet18", "z_size": 8, "history": []})}
    if damage == "a folder":
        path.mkdir()
    elif damage == "no metadata":
        save_file(one, path)
    elif damage == "other layers":
        save_file(one, path, metadata)
    elif damage != "missing":
        path.write_bytes({"empty": b"", "text": b"no encoder at all", "truncated": whole[: len(whole) // 2]}[damage])
    with pytest.raises(AsdError, match=r"encoder\.safetensors: cannot be read as an encoder"):
        TrainedEncoder.load(path)


def test_the_device_is_the_one_that_was_named_or_the_best_there_is() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device("auto") == torch.device(best)


@pytest.mark.parametrize("name", ["cuda", "mps", "tpu"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(name: str) -> None:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there.get(name):
        pytest.skip(f"{name} is there")
    with pytest.raises(AsdError, match=f"device={name}: not available here; use .*cpu"):
        choose_device(name)
