"""What protocol.md and the published code say of the official baseline, computed here a second time."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy import stats
from torch import nn

from asdcore.baselines import autoencoder as module
from asdcore.baselines.autoencoder import (
    SCORES,
    Autoencoder,
    AutoencoderModel,
    fit_autoencoder,
    gamma_threshold,
    vectors,
)
from asdcore.errors import AsdError
from asdcore.features.spectrogram import Spectrogram
from asdcore.settings import AutoencoderSettings

CPU = torch.device("cpu")
WIDTHS = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
FAST = AutoencoderSettings(epochs=2, batch_size=64)
Recordings = list[tuple[Spectrogram, str]]


def spectrogram(seed: int, frames: int = 60, bands: int = 128) -> Spectrogram:
    """Levels of the bands that go up and down together, in noise."""
    rng = np.random.default_rng(seed)
    level = np.linspace(-40, -70, bands)[:, None] + 5 * np.sin(np.arange(frames) / 7 + rng.uniform(0, 6))
    return (level + rng.normal(size=(bands, frames))).astype(np.float32)


def recordings(source: int = 4, target: int = 2, bands: int = 128) -> Recordings:
    domains = ["source"] * source + ["target"] * target
    return [(spectrogram(seed, 50 + 3 * seed, bands), domain) for seed, domain in enumerate(domains)]


@pytest.fixture(scope="module")
def model() -> AutoencoderModel:
    return fit_autoencoder(recordings(), FAST, CPU)


def residual_frames(model: AutoencoderModel, one: Spectrogram) -> NDArray[np.float64]:
    """(5 * (n_frames - 4), 128), stacked by hand: the five frames of each vector in turn."""
    stacked = np.stack([one[:, t : t + 5].T.ravel() for t in range(one.shape[1] - 4)])
    with torch.inference_mode():
        delta = model.network.eval()(torch.from_numpy(stacked)).numpy() - stacked
    return delta.reshape(-1, 128).astype(np.float64)


def test_the_network_has_as_many_parameters_as_its_layers_by_plain_arithmetic() -> None:
    network = Autoencoder(640)
    linear = sum((inputs + 1) * outputs for inputs, outputs in pairwise(WIDTHS))
    normalised = sum(2 * outputs for outputs in WIDTHS[1:-1])  # a scale and a shift each
    assert linear + normalised == 267_928
    assert sum(parameter.numel() for parameter in network.parameters()) == 267_928
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_each_hidden_layer_is_linear_batch_norm_and_relu_and_the_last_is_linear() -> None:
    layers = list(Autoencoder(640).layers)
    assert [type(layer) for layer in layers] == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 9 + [nn.Linear]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in linear] + [linear[-1].out_features] == WIDTHS
    assert all(layer.bias is not None for layer in linear)
    normalised = [layer for layer in layers if isinstance(layer, nn.BatchNorm1d)]
    assert {(layer.momentum, layer.eps, layer.affine) for layer in normalised} == {(0.01, 1e-3, True)}
    assert [layer.num_features for layer in normalised] == WIDTHS[1:-1]


def test_a_vector_is_five_frames_oldest_first_and_no_copy() -> None:
    one = spectrogram(0, 9)
    frames = torch.from_numpy(one.T.copy())
    made = vectors(frames)
    assert made.shape == (5, 640) and made.data_ptr() == frames.data_ptr()
    for start in range(5):
        for k in range(5):
            assert made[start, 128 * k : 128 * (k + 1)].tolist() == one[:, start + k].tolist()
            assert made[start].view(5, 128)[k].tolist() == one[:, start + k].tolist()


def test_frames_that_are_not_contiguous_make_the_same_vectors() -> None:
    one = spectrogram(0, 9)
    assert torch.equal(vectors(torch.from_numpy(one.T)), vectors(torch.from_numpy(one.T.copy())))


def test_no_vector_lies_across_two_recordings_and_each_knows_its_domain() -> None:
    own = recordings()
    data = module._TrainingData.of(own, FAST, CPU)
    inside = {one[:, t : t + 5].T.tobytes(): domain == "target" for one, domain in own for t in range(one.shape[1] - 4)}
    chosen = torch.cat([data.training, data.validation])
    made = {data.windows[i].numpy().tobytes(): bool(data.is_target[i]) for i in chosen}
    assert len(chosen) == len(made) and made == inside
    assert len(data.validation) == -(-len(chosen) // 10)


def test_the_batches_of_an_epoch_are_all_training_vectors_once_in_another_order() -> None:
    data = module._TrainingData.of(recordings(), FAST, CPU)
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(list(data.batches(generator))) for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == sorted(data.training.tolist())
    assert first.tolist() != second.tolist()
    assert {len(batch) for batch in list(data.batches(generator))[:-1]} == {64}


def test_the_mse_score_is_the_mean_squared_error_of_all_values(model: AutoencoderModel) -> None:
    one = spectrogram(20, 33)
    assert model.score(one, "mse") == pytest.approx(np.square(residual_frames(model, one)).mean(), rel=1e-5)


def test_the_published_score_is_the_mean_of_the_whole_matrix_of_cross_terms(model: AutoencoderModel) -> None:
    one = spectrogram(20, 33)
    delta = residual_frames(model, one)
    assert delta.shape == (29 * 5, 128)
    matrices = [delta @ p.numpy() @ delta.T for p in (model.precision_source, model.precision_target)]
    assert model.score(one, "mahalanobis") == pytest.approx(min(m.mean() for m in matrices), rel=1e-6)
    of_frames = min(np.diag(m).mean() for m in matrices)
    assert model.score(one, "mahalanobis", per_frame_mean=True) == pytest.approx(of_frames, rel=1e-6)
    assert of_frames > 1.002 * model.score(one, "mahalanobis")


def test_the_nearer_domain_counts(model: AutoencoderModel) -> None:
    one, near, far = spectrogram(20), torch.eye(128, dtype=torch.float64), 4 * torch.eye(128, dtype=torch.float64)
    scores = [
        AutoencoderModel(model.network, source, target, {}, []).score(one, "mahalanobis")
        for source, target in ((near, far), (far, near), (near, near), (far, far))
    ]
    assert scores[0] == scores[1] == scores[2] == scores[3] / 4


@pytest.mark.parametrize("target", [0, 2])
def test_covariances_are_the_published_ones(target: int) -> None:
    data = module._TrainingData.of(recordings(3, target), FAST, CPU)
    torch.manual_seed(0)
    network = Autoencoder(640).eval()
    made = module._covariances(network, data, torch.Generator().manual_seed(5))
    sums, counts = np.zeros((2, 128, 128)), [0, 0]
    for batch in data.batches(torch.Generator().manual_seed(5)):
        x = data.windows[batch]
        with torch.inference_mode():
            diff = (x - network(x)).numpy()
        for domain, rows in enumerate((~data.is_target[batch], data.is_target[batch])):
            if rows.any():
                frames = diff[rows.numpy()].reshape(-1, 128).astype(np.float64)
                counts[domain] += int(rows.sum())
                for frame in frames - frames.mean(axis=0):
                    sums[domain] += np.outer(frame, frame)
    expected_source = sums[0] / (counts[0] - 1)
    expected_target = sums[1] / (counts[1] - 1) if target else expected_source
    np.testing.assert_allclose(made[0].numpy(), expected_source, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(made[1].numpy(), expected_target, rtol=1e-9, atol=1e-12)


def test_the_precision_is_the_plain_inverse() -> None:
    residual = np.random.default_rng(0).normal(size=(400, 128)) * np.geomspace(1e-2, 10, 128)
    covariance = residual.T @ residual / 399
    np.testing.assert_allclose(
        module._inverse(torch.from_numpy(covariance)).numpy() @ covariance, np.eye(128), rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("frames", [60, 400])
def test_bands_without_variance_and_too_few_frames_do_not_swamp_the_score(frames: int) -> None:
    residual = np.random.default_rng(0).normal(size=(frames, 128)) * np.r_[np.full(3, 1e-6), np.ones(125)]
    inverse = module._inverse(torch.from_numpy(residual.T @ residual / (frames - 1)))
    assert torch.linalg.eigvalsh(inverse).min() > 0
    # What training did not show is far away when it shows up, and of no weight while it does not.
    quiet, loud = (torch.from_numpy(np.r_[np.full(3, level), np.zeros(125)]) for level in (1e-6, 1.0))
    assert quiet @ inverse @ quiet < 1e-3 and loud @ inverse @ loud > 1e5
    if frames == 400:
        heard = np.linalg.inv(residual[:, 3:].T @ residual[:, 3:] / 399)
        np.testing.assert_allclose(inverse[3:, 3:].numpy(), heard, rtol=1e-4, atol=1e-5)


def test_silence_can_be_trained_with_and_scored() -> None:
    silence = np.full((16, 60), -156.5, dtype=np.float32)
    fitted = fit_autoencoder([(silence, "source"), (silence, "target")], FAST, CPU)
    values = [*fitted.thresholds.values(), *(fitted.score(silence, score) for score in SCORES)]
    assert np.isfinite(values).all()


@pytest.mark.parametrize("domain", ["source", "target"])
def test_a_machine_of_one_domain_has_one_covariance(domain: str, tmp_path: Path) -> None:
    fitted = fit_autoencoder([(spectrogram(seed), domain) for seed in range(3)], FAST, CPU)
    assert torch.equal(fitted.precision_source, fitted.precision_target)
    save_file(fitted.to_tensors(), tmp_path / "one.safetensors")
    read = AutoencoderModel.from_tensors(load_file(tmp_path / "one.safetensors"))
    assert torch.equal(read.precision_target, fitted.precision_source)


def test_the_threshold_is_the_90th_percentile_of_a_gamma_distribution() -> None:
    scores = stats.gamma.rvs(3.0, loc=2.0, scale=1.5, size=20_000, random_state=0).tolist()
    assert gamma_threshold(scores, 0.9) == pytest.approx(stats.gamma.ppf(0.9, 3.0, 2.0, 1.5), rel=0.01)
    assert gamma_threshold(scores, 0.9) == stats.gamma(*stats.gamma.fit(scores)).ppf(0.9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("scores", "low", "high"), [([2.0], 2, 2), ([2.0] * 9, 2, 2), ([0.0, 0.0], 0, 0)])
def test_where_no_gamma_distribution_fits_the_threshold_is_the_quantile(
    scores: list[float], low: float, high: float
) -> None:
    assert low <= gamma_threshold(scores, 0.9) <= high


def test_the_thresholds_are_of_the_scores_of_batches_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[float]] = []

    def kept(scores: list[float], quantile: float) -> float:
        assert quantile == FAST.decision_quantile
        given.append(scores)
        return 1.0

    monkeypatch.setattr(module, "gamma_threshold", kept)
    fitted = fit_autoencoder(recordings(), FAST, CPU)
    data = module._TrainingData.of(recordings(), FAST, CPU)
    errors, distances = given
    n_training, n_validation = (-(-len(windows) // 64) for windows in (data.training, data.validation))
    assert len(errors) == len(distances) == n_training + n_validation
    # Of the mean squared error: what the last epoch saw while it trained, and the validation after it.
    assert np.mean(errors[:n_training]) == pytest.approx(fitted.history[-1]["loss"])
    assert np.mean(errors[n_training:]) == pytest.approx(fitted.history[-1]["validation_loss"])
    # Of the distance: the validation batches come last, each scored like a recording.
    delta = []
    with torch.inference_mode():
        for batch in torch.split(data.validation, 64):
            x = data.windows[batch]
            delta.append((fitted.network(x) - x).reshape(-1, 128).double().mean(dim=0))
    precisions = (fitted.precision_source, fitted.precision_target)
    expected = [min(float(d @ precision @ d) for precision in precisions) for d in delta]
    assert distances[n_training:] == pytest.approx(expected, rel=1e-4)


def test_the_same_seed_gives_the_same_model_and_another_seed_another() -> None:
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    one, again, other = (
        fit_autoencoder(recordings(bands=16), FAST.model_copy(update={"seed": seed}), CPU).to_tensors()
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, one[name]) for name, value in again.items())
    assert not torch.equal(other["network.layers.0.weight"], one["network.layers.0.weight"])


def test_what_is_read_from_a_file_scores_and_decides_the_same(model: AutoencoderModel, tmp_path: Path) -> None:
    save_file(model.to_tensors(), tmp_path / "model.safetensors")
    read = AutoencoderModel.from_tensors(load_file(tmp_path / "model.safetensors"))
    assert read.thresholds == model.thresholds and set(read.thresholds) == set(SCORES)
    for score in SCORES:
        assert read.score(spectrogram(9), score) == model.score(spectrogram(9), score)


def test_training_lowers_the_loss_and_a_strange_sound_scores_higher() -> None:
    longer = FAST.model_copy(update={"epochs": 40, "batch_size": 16})
    fitted = fit_autoencoder(recordings(bands=16), longer, CPU)
    first, *_, last = fitted.history
    assert [row["epoch"] for row in fitted.history] == list(range(1, 41))
    assert last["loss"] < 0.1 * first["loss"] and last["validation_loss"] < 0.1 * first["validation_loss"]
    normal, strange = (spectrogram(30, bands=16) for _ in range(2))
    strange[6:8] += 30
    for score in SCORES:
        assert fitted.score(strange, score) > 1.5 * fitted.score(normal, score)


def test_other_numbers_of_bands_work_too() -> None:
    fitted = fit_autoencoder(recordings(bands=16), FAST, CPU)
    assert fitted.precision_source.shape == (16, 16)
    assert np.isfinite(fitted.score(spectrogram(9, bands=16), "mahalanobis"))


def test_a_recording_of_five_frames_is_one_vector_and_of_four_too_short(model: AutoencoderModel) -> None:
    for score in SCORES:
        assert np.isfinite(model.score(spectrogram(9, 5), score))
        with pytest.raises(AsdError, match=r"4 frames.*at least 5"):
            model.score(spectrogram(9, 4), score)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no training recording"),
        ([(spectrogram(0), "source"), (spectrogram(1, 4), "source")], "4 frames"),
        ([(spectrogram(0, 5), "source")], "1 vectors.*too few"),
        ([(spectrogram(0, 6), "source")], "2 vectors.*too few"),
    ],
)
def test_what_cannot_be_trained_with_is_said(given: Recordings, said: str) -> None:
    with pytest.raises(AsdError, match=said):
        fit_autoencoder(given, FAST, CPU)


def test_a_loss_that_diverges_is_said_with_the_remedy() -> None:
    with pytest.raises(AsdError, match=r"learning_rate than 1e\+30"):
        fit_autoencoder(recordings(), FAST.model_copy(update={"learning_rate": 1e30}), CPU)
