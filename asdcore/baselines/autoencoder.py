"""The official baseline of DCASE 2023 Task 2: one autoencoder per machine, scored by its error or its distance.

Harada et al. 2023, *First-shot anomaly detection for machine condition monitoring: a domain generalization baseline*
(arXiv:2303.00455). Where the paper is silent, the published code decides: residuals are centred batch by batch, and the
gamma distribution of the threshold is that of batches of training vectors, not of recordings.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Literal

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
    """(n_mels, n_mels) float64: inverse covariance of the residuals of source training frames"""
    precision_target: Tensor
    """the same of target; that of source if there is no target recording"""
    thresholds: dict[str, float]
    """score: the value above which a recording is called anomalous"""
    history: list[dict[str, float]]

    def score(self, spectrogram: Spectrogram, score: Score, *, per_frame_mean: bool = False) -> float:
        """The anomaly score of one recording.

        Args:
            spectrogram: (n_mels, n_frames) dB.
            score: ``mse``: mean squared error of the reconstruction; ``mahalanobis``: d' S^-1 d of the mean residual d
                over all frames of all vectors, the smaller of source and target. That is the published score: its code
                averages the whole matrix of cross terms of the frames, which is the same.
            per_frame_mean: ``mahalanobis`` averages the distances of the frames instead.

        Returns:
            Higher: more anomalous.

        Raises:
            AsdError: fewer than five frames.
        """
        self.network.eval()
        with torch.inference_mode():
            x = vectors(torch.from_numpy(spectrogram.T))
            residual = self.network(x) - x
            if score == "mse":
                return float(residual.square().mean())
            frames = residual.reshape(-1, len(spectrogram)).double()
            return _distance(frames, (self.precision_source, self.precision_target), per_frame_mean)

    def to_tensors(self) -> dict[str, Tensor]:
        """All fitted values except the history, for a safetensors file."""
        tensors = {f"network.{name}": value.contiguous() for name, value in self.network.state_dict().items()}
        tensors |= {
            f"threshold.{name}": torch.tensor(value, dtype=torch.float64) for name, value in self.thresholds.items()
        }
        tensors |= {"precision_source": self.precision_source, "precision_target": self.precision_target}
        # Copies: safetensors refuses shared memory, which source and target have if there are no target recordings.
        return {name: value.contiguous().clone() for name, value in tensors.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "AutoencoderModel":
        """The model from the tensors of `to_tensors`."""
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
    """The windows of five rows of (n_frames, n_mels): (n_frames - 4, 5 * n_mels), oldest frame first.

    A view, no copy, of frames that are contiguous.

    >>> vectors(torch.arange(12.0).reshape(6, 2))[1].tolist()
    [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    """
    n_frames, n_mels = frames.shape
    if n_frames < FRAMES:
        raise AsdError(f"a spectrogram of {n_frames} frames: the autoencoder needs at least {FRAMES}")
    return frames.contiguous().as_strided((n_frames - FRAMES + 1, FRAMES * n_mels), (n_mels, 1))


def fit_autoencoder(
    recordings: Iterable[tuple[Spectrogram, str]], settings: AutoencoderSettings, device: torch.device
) -> AutoencoderModel:
    """Train the baseline of one machine.

    Args:
        recordings: log-mel spectrogram (n_mels, n_frames), dB, and domain of each normal training recording.
        settings: see `AutoencoderSettings`.
        device: where it is trained.

    Returns:
        The model, on the CPU.

    Raises:
        AsdError: no recording, or one of fewer than five frames; too few vectors to train with; a loss that diverged.
    """
    data = _TrainingData.of(recordings, settings, device)
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = Autoencoder(data.windows.shape[1])
    network.to(device)
    # A fused step is one call for all parameters: with such a small network the number of calls dominates the time.
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    history: list[dict[str, float]] = []
    errors: list[float] = []
    for epoch in range(settings.epochs):
        network.train()
        losses = []
        for chosen in data.batches(generator):
            x = data.windows.index_select(0, chosen)
            loss = functional.mse_loss(network(x), x)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.detach())
        network.eval()
        with torch.inference_mode():
            of_validation = (data.windows.index_select(0, chosen) for chosen in data.validation_batches())
            checks = [functional.mse_loss(network(x), x) for x in of_validation]
        errors = torch.stack([*losses, *checks]).tolist()
        if not np.isfinite(errors).all():
            raise AsdError(
                f"the autoencoder's loss is not finite in epoch {epoch + 1}: "
                f"choose a smaller learning_rate than {settings.learning_rate:g}"
            )
        n = len(losses)
        means = {"loss": float(np.mean(errors[:n])), "validation_loss": float(np.mean(errors[n:]))}
        history.append({"epoch": float(epoch + 1)} | means)
    source, target = (_inverse(covariance) for covariance in _covariances(network, data, generator))
    distances = _batch_distances(network, (source, target), data, generator)
    quantile = settings.decision_quantile
    thresholds = {"mse": gamma_threshold(errors, quantile), "mahalanobis": gamma_threshold(distances, quantile)}
    return AutoencoderModel(network.cpu(), source, target, thresholds, history)


def gamma_threshold(scores: Sequence[float], quantile: float) -> float:
    """The quantile of a gamma distribution fitted to ``scores``; the empirical quantile if the fit fails."""
    try:
        with np.errstate(all="ignore"):  # If all scores are equal, their skewness is 0 / 0.
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
    """numbers of windows"""
    validation: Tensor
    batch_size: int

    @classmethod
    def of(
        cls, recordings: Iterable[tuple[Spectrogram, str]], settings: AutoencoderSettings, device: torch.device
    ) -> "_TrainingData":
        parts, usable, targets, start = [], [], [], 0
        for spectrogram, domain in recordings:
            frames = torch.from_numpy(np.ascontiguousarray(spectrogram.T))
            parts.append(frames)
            usable.append(torch.arange(start, start + len(vectors(frames))))
            targets.append(torch.full((len(frames),), domain == "target"))
            start += len(frames)
        if not parts:
            raise AsdError("no training recording: the autoencoder needs at least one")
        windows = torch.cat(usable)
        order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(settings.seed))
        validation, training = windows[order].tensor_split([ceil(len(windows) * settings.validation_fraction)])
        if len(training) < 2:
            raise AsdError(
                f"{len(windows)} vectors of {FRAMES} frames, {len(validation)} of them for validation: "
                "too few to train an autoencoder; give it more or longer recordings"
            )
        return cls(
            vectors(torch.cat(parts).to(device)),
            torch.cat(targets).to(device),
            training.to(device),
            validation.to(device),
            settings.batch_size,
        )

    def batches(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Shuffled batches of training windows; a single window is skipped, since BatchNorm needs a variance."""
        order = torch.randperm(len(self.training), generator=generator).to(self.training.device)
        return (chosen for chosen in torch.split(self.training[order], self.batch_size) if len(chosen) > 1)

    def validation_batches(self) -> Iterator[Tensor]:
        return iter(torch.split(self.validation, self.batch_size))


def _covariances(network: Autoencoder, data: _TrainingData, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Covariances of the residuals' frames, source and target, as published: each batch is centred, then summed.

    Returns:
        Twice (n_mels, n_mels) float64, on the CPU; where a domain has fewer than two vectors, that of the other.
    """
    n_mels = data.windows.shape[1] // FRAMES
    sums, counts = torch.zeros(2, n_mels, n_mels, dtype=torch.float64), [0, 0]
    with torch.inference_mode():
        for chosen in data.batches(generator):
            x = data.windows.index_select(0, chosen)
            residual, is_target = (x - network(x)).cpu(), data.is_target[chosen].cpu()
            for domain, members in enumerate((~is_target, is_target)):
                selected = residual[members]
                if len(selected):
                    frames = selected.reshape(-1, n_mels).double()
                    centred = frames - frames.mean(dim=0)
                    sums[domain] += centred.T @ centred
                    counts[domain] += len(selected)
    # The published code divides the sum over the five frames of each vector by the number of vectors.
    source, target = (total / max(count - 1, 1) for total, count in zip(sums, counts, strict=True))
    if counts[0] < 2:
        source = target
    return source, source if counts[1] < 2 else target


def _inverse(covariance: Tensor) -> Tensor:
    """The inverse, without shrinkage, as published.

    The published code computes in float32. Directions with less variance than its rounding (a band at the floor
    throughout, fewer frames than bands) come out of its inversion as noise that swamps every score; here they have that
    much variance.
    """
    variances, directions = torch.linalg.eigh(covariance)
    rounding = torch.finfo(torch.float32)
    seen = variances.clamp(min=max(float(variances[-1]) * rounding.eps, rounding.tiny))
    inverse: Tensor = (directions / seen) @ directions.T
    return inverse


def _distance(frames: Tensor, precisions: Sequence[Tensor], per_frame_mean: bool) -> float:
    """d' S^-1 d of the mean d of residuals (n, n_mels), or the mean over all d; the smallest of the precisions S^-1."""
    d = frames if per_frame_mean else frames.mean(dim=0, keepdim=True)
    return min(float(((d @ precision) * d).sum(dim=1).mean()) for precision in precisions)


def _batch_distances(
    network: Autoencoder, precisions: Sequence[Tensor], data: _TrainingData, generator: torch.Generator
) -> list[float]:
    """The Mahalanobis score of each batch of training and validation vectors, as published."""
    n_mels = data.windows.shape[1] // FRAMES
    distances = []
    with torch.inference_mode():
        for chosen in [*data.batches(generator), *data.validation_batches()]:
            x = data.windows.index_select(0, chosen)
            frames = (network(x) - x).cpu().reshape(-1, n_mels).double()
            distances.append(_distance(frames, precisions, per_frame_mean=False))
    return distances
