"""The official baseline of DCASE 2023 Task 2: an autoencoder a machine, scored by its error or by the error's distance.

Harada et al. 2023, *First-shot anomaly detection for machine condition monitoring: a domain generalization baseline*
(arXiv:2303.00455). Where the paper is silent, the published code decides: residuals are centred batch by batch, and the
gamma distribution of the threshold is that of batches of training vectors, not of recordings.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from asdcore.errors import AsdError
from asdcore.features.spectrogram import Spectrogram
from asdcore.settings import AutoencoderSettings

FRAMES = 5
HIDDEN, BOTTLENECK = 128, 8

Score = Literal["mse", "mahalanobis"]
SCORES: tuple[Score, ...] = ("mse", "mahalanobis")


class Autoencoder(nn.Module):
    """size - 4 x 128 - 8 - 4 x 128 - size; each hidden layer Linear, BatchNorm (momentum 0.01, eps 1e-3), ReLU.

    Args:
        size: values of a vector, 640 for five frames of 128 bands.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        widths = [size, *[HIDDEN] * 4, BOTTLENECK, *[HIDDEN] * 4]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs, momentum=0.01, eps=1e-3), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(HIDDEN, size))

    def forward(self, x: Tensor) -> Tensor:
        """(n, size) to its reconstruction, (n, size)."""
        reconstructed: Tensor = self.layers(x)
        return reconstructed


@dataclass
class AutoencoderModel:
    """The trained baseline of one machine."""

    network: Autoencoder
    precision_source: Tensor
    """(n_mels, n_mels): inverse covariance of the residuals of source training frames"""
    precision_target: Tensor
    """the same of target; that of source where there is no target recording"""
    thresholds: dict[str, float]
    """score: the value from which a recording is called anomalous"""
    history: list[dict[str, float]]

    def score(self, spectrogram: Spectrogram, score: Score, *, per_frame_mean: bool = False) -> float:
        """The anomaly score of one recording, (n_mels, n_frames) dB.

        ``mse``: mean squared error of the reconstruction. ``mahalanobis``: d' S^-1 d of the mean residual d over all
        frames of all vectors, the smaller of source and target, as published: its code averages the whole matrix of
        cross terms, which is the same. ``per_frame_mean`` averages the distances of the frames instead.
        """
        self.network.eval()
        with torch.inference_mode():
            x = vectors(torch.from_numpy(spectrogram.T.copy()))
            residual = self.network(x) - x
            if score == "mse":
                return float(residual.square().mean())
            frames = residual.reshape(-1, spectrogram.shape[0]).double()
            d = frames if per_frame_mean else frames.mean(dim=0, keepdim=True)
            precisions = (self.precision_source.double(), self.precision_target.double())
            return min(float(((d @ precision) * d).sum(dim=1).mean()) for precision in precisions)

    def to_tensors(self) -> dict[str, Tensor]:
        """Everything fitted but the history, for a safetensors file."""
        tensors = {f"network.{name}": value.contiguous() for name, value in self.network.state_dict().items()}
        tensors |= {f"threshold.{name}": torch.tensor(value) for name, value in self.thresholds.items()}
        return tensors | {"precision_source": self.precision_source, "precision_target": self.precision_target}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "AutoencoderModel":
        """The model that `to_tensors` described."""
        state = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
        network = Autoencoder(state["layers.0.weight"].shape[1])
        network.load_state_dict(state)
        thresholds = {
            name.removeprefix("threshold."): float(value)
            for name, value in tensors.items()
            if name.startswith("threshold.")
        }
        return cls(network.eval(), tensors["precision_source"], tensors["precision_target"], thresholds, [])


def vectors(frames: Tensor) -> Tensor:
    """The windows of five rows of (n_frames, n_mels): (n_frames - 4, 5 * n_mels), oldest frame first. A view, no copy.

    >>> vectors(torch.arange(12.0).reshape(6, 2))[1].tolist()
    [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    """
    n_frames, n_mels = frames.shape
    if n_frames < FRAMES:
        raise AsdError(f"a spectrogram of {n_frames} frames: the autoencoder needs at least {FRAMES}")
    return frames.as_strided((n_frames - FRAMES + 1, FRAMES * n_mels), (n_mels, 1))


def fit_autoencoder(
    recordings: Iterable[tuple[Spectrogram, str]], settings: AutoencoderSettings, device: torch.device
) -> AutoencoderModel:
    """Train the baseline of one machine.

    Args:
        recordings: log-mel spectrogram (n_mels, n_frames), dB, and domain of each normal training recording.
        settings: see `AutoencoderSettings`.
        device: where it is trained.

    Raises:
        AsdError: no recording, or one of fewer than five frames.
    """
    data = _TrainingData.of(recordings, settings, device)
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = Autoencoder(data.windows.shape[1])
    network.to(device)
    # A fused step is one call for all parameters: the network is so small that calls are what costs.
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    history: list[dict[str, float]] = []
    errors: list[float] = []
    for epoch in range(settings.epochs):
        network.train()
        losses = []
        for chosen in data.batches(data.training, generator):
            x = data.windows[chosen]
            loss = functional.mse_loss(network(x), x)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.detach())
        network.eval()
        with torch.inference_mode():
            checks = [
                functional.mse_loss(network(x), x) for x in map(data.windows.__getitem__, data.validation_batches())
            ]
        errors = torch.stack([*losses, *checks]).tolist()
        n = len(losses)
        means = {"loss": float(np.mean(errors[:n])), "validation_loss": float(np.mean(errors[n:]))}
        history.append({"epoch": float(epoch + 1)} | means)
    source, target = _precisions(network, data, generator)
    model = AutoencoderModel(network.cpu(), source.cpu(), target.cpu(), {}, history)
    distances = _batch_distances(model, data, generator)
    quantile = settings.decision_quantile
    model.thresholds = {"mse": gamma_threshold(errors, quantile), "mahalanobis": gamma_threshold(distances, quantile)}
    return model


def gamma_threshold(scores: Sequence[float], quantile: float) -> float:
    """The quantile of a gamma distribution fitted to ``scores``; the plain quantile where none can be fitted."""
    try:
        shape, location, scale = stats.gamma.fit(scores)
        threshold = float(stats.gamma.ppf(quantile, shape, location, scale))
    except (stats.FitError, ValueError, RuntimeError):
        threshold = float("nan")
    return threshold if np.isfinite(threshold) else float(np.quantile(scores, quantile))


@dataclass
class _TrainingData:
    """All training frames in one tensor, and which of its windows may be used."""

    windows: Tensor
    """(n_frames - 4, 5 * n_mels), a view of the frames; those across two recordings are never used"""
    is_target: Tensor
    """(n_frames - 4,) bool"""
    training: Tensor
    validation: Tensor
    batch_size: int

    @classmethod
    def of(
        cls, recordings: Iterable[tuple[Spectrogram, str]], settings: AutoencoderSettings, device: torch.device
    ) -> "_TrainingData":
        parts, usable, targets, start = [], [], [], 0
        for spectrogram, domain in recordings:
            n = vectors(torch.from_numpy(spectrogram.T)).shape[0] if spectrogram.shape[1] >= FRAMES else 0
            if not n:
                raise AsdError(f"a training recording of {spectrogram.shape[1]} frames: at least {FRAMES} are needed")
            parts.append(torch.from_numpy(np.ascontiguousarray(spectrogram.T)))
            usable.append(torch.arange(start, start + n))
            targets.append(torch.full((spectrogram.shape[1],), domain == "target"))
            start += spectrogram.shape[1]
        if not parts:
            raise AsdError("no training recording: the autoencoder has nothing to learn from")
        frames = torch.cat(parts).to(device)
        windows = torch.cat(usable)
        order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(settings.seed))
        n_validation = max(1, round(len(windows) * settings.validation_share))
        split = windows[order]
        return cls(vectors(frames), torch.cat(targets), split[n_validation:], split[:n_validation], settings.batch_size)

    def batches(self, windows: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        """Shuffled batches of window numbers; a single window is no batch, BatchNorm has no variance of it."""
        order = windows[torch.randperm(len(windows), generator=generator)]
        return (chosen for chosen in torch.split(order, self.batch_size) if len(chosen) > 1)

    def validation_batches(self) -> Iterator[Tensor]:
        return iter(torch.split(self.validation, self.batch_size))


def _precisions(network: Autoencoder, data: _TrainingData, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inverse covariances of the residuals' frames, source and target, summed over batches that are centred each."""
    n_mels = data.windows.shape[1] // FRAMES
    sums = {is_target: torch.zeros(n_mels, n_mels, dtype=torch.float64) for is_target in (False, True)}
    counts = {False: 0, True: 0}
    with torch.inference_mode():
        for chosen in data.batches(data.training, generator):
            x = data.windows[chosen]
            residual = (x - network(x)).cpu()
            for is_target in (False, True):
                own = residual[data.is_target[chosen] == is_target]
                frames = own.reshape(-1, n_mels).double()
                centred = frames - frames.mean(dim=0) if len(own) else frames
                sums[is_target] += centred.T @ centred
                counts[is_target] += len(own)
    # The published code divides the sum over five frames a vector by the number of vectors.
    covariances = {t: sums[t] / max(counts[t] - 1, 1) for t in (False, True) if counts[t] > 1}
    if not covariances:
        raise AsdError("no training recording: the autoencoder has nothing to learn from")
    source = _inverse(covariances.get(False, covariances.get(True)))
    return source, _inverse(covariances[True]) if True in covariances else source


def _inverse(covariance: Any) -> Tensor:
    """As published, without shrinkage; a pseudo-inverse where that has none (a band at the floor throughout)."""
    inverse, failed = torch.linalg.inv_ex(covariance)
    if failed or not torch.isfinite(inverse).all():
        inverse = torch.linalg.pinv(covariance, hermitian=True)
    as_float: Tensor = inverse.float()
    return as_float


def _batch_distances(model: AutoencoderModel, data: _TrainingData, generator: torch.Generator) -> list[float]:
    """The Mahalanobis score of each batch of training and validation vectors, as published."""
    n_mels = data.windows.shape[1] // FRAMES
    distances = []
    with torch.inference_mode():
        for chosen in [*data.batches(data.training, generator), *data.validation_batches()]:
            x = data.windows[chosen].cpu()
            d = (model.network(x) - x).reshape(-1, n_mels).double().mean(dim=0)
            precisions = (model.precision_source.double(), model.precision_target.double())
            distances.append(min(float(d @ precision @ d) for precision in precisions))
    return distances
