"""The state of a training: the content of a checkpoint."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from asdcore.encoder.distributed import World
from asdcore.encoder.labels import Labelling
from asdcore.encoder.losses import build_loss
from asdcore.encoder.metrics import EpochMetrics
from asdcore.encoder.network import TrainedEncoder, build_encoder
from asdcore.errors import AsdError
from asdcore.features.normalisation import Normalisation
from asdcore.settings import TrainingSettings
from asdcore.storage.files import digest_of, digest_of_file


class State:
    """A training between two steps, initially before the first one.

    It has no random state: after initialisation, all random numbers are derived from seed and epoch by `batches`.

    Args:
        settings: see `TrainingSettings`.
        labelling: of the training recordings.
        device: where it trains.
        world: the processes that it trains in.
    """

    def __init__(self, settings: TrainingSettings, labelling: Labelling, device: torch.device, world: World) -> None:
        self.settings, self.device = settings, device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.encoder = build_encoder(settings.encoder, settings.z_size)
            self.loss_function = build_loss(settings, len(labelling.conditions), self.encoder.h_size)
        self.encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss_function.to(device)
        if not self.loss_function.uses_z:
            # It is not trained, and other processes must not wait for its gradients.
            self.encoder.head.requires_grad_(False)
        model = cast("nn.Module", torch.compile(self.encoder)) if settings.compile else self.encoder
        self.model = world.shared(self.encoder, model, device)
        """the encoder in training, possibly compiled or distributed"""
        self.weights = [*self.encoder.parameters(), *self.loss_function.parameters()]
        self.optimiser = torch.optim.Adam(self.weights, lr=settings.learning_rate)
        rows = [" ".join((recording, *condition)) for recording, condition in sorted(labelling.of.items())]
        self.fingerprint = digest_of(settings.digest(), *rows)
        """identifies the training"""
        self.epoch, self.step = 0, 0
        """number of finished epochs, and of finished steps of the current one"""
        self.metrics = EpochMetrics(device, settings, self.epoch)
        """of this epoch"""
        self.history: list[dict[str, float]] = []
        """metrics of the epochs that have ended"""
        self.best: dict[str, Tensor] | None = None
        """the encoder of the epoch with the lowest validation loss"""

    @property
    def rate(self) -> float:
        """The learning rate."""
        return float(self.optimiser.param_groups[0]["lr"])

    @rate.setter
    def rate(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def progress(self, steps: int) -> dict[str, float]:
        """The progress, given the number of steps per epoch."""
        return {
            "step": self.epoch * steps + self.step,
            "steps": self.settings.epochs * steps,
            "epoch": self.epoch + 1,
            "epochs": self.settings.epochs,
            "loss": self.metrics.loss,
            "learning_rate": self.rate,
        }

    def warm_start(self, path: Path) -> None:
        """Start from the weights of a trained encoder.

        Raises:
            AsdError: its architecture or size differs.
        """
        source = TrainedEncoder.load(path).encoder
        settings = self.settings
        if (source.architecture, source.z_size) != (settings.encoder, settings.z_size):
            raise AsdError(
                f"{path}: {source.architecture} with z_size={source.z_size} cannot start a training of "
                f"{settings.encoder} with z_size={settings.z_size}"
            )
        self.encoder.load_state_dict(source.state_dict())
        self.fingerprint = digest_of(self.fingerprint, digest_of_file(path))

    @property
    def stopped_early(self) -> bool:
        """Whether the validation loss has not fallen for ``patience`` epochs."""
        losses = [row["validation_loss"] for row in self.history if "validation_loss" in row]
        return bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= self.settings.patience

    def trained(self, normalisation: Normalisation) -> TrainedEncoder:
        """The encoder, with early stopping that of the epoch with the lowest validation loss."""
        if self.best is not None:
            self.encoder.load_state_dict(self.best)
        return TrainedEncoder(self.encoder.cpu().eval(), normalisation, self.history)

    def end_epoch(self, validation: dict[str, float]) -> dict[str, float]:
        """Advance to the next epoch; return the metrics of the finished one."""
        about = {"epoch": self.epoch + 1.0, "learning_rate": self.rate}
        self.history.append(about | self.metrics.summary() | validation)
        losses = [row["validation_loss"] for row in self.history] if validation else []
        if losses and losses.index(min(losses)) == len(losses) - 1:
            self.best = {name: tensor.clone() for name, tensor in self.encoder.state_dict().items()}
        self.epoch, self.step = self.epoch + 1, 0
        self.metrics = EpochMetrics(self.device, self.settings, self.epoch)
        return self.history[-1]

    def content(self) -> dict[str, Any]:
        """The state as a dictionary, for a checkpoint.

        Raises:
            AsdError: a loss or gradient was not finite.
        """
        return {
            "metrics": self.metrics.state(),
            "encoder": self.encoder.state_dict(),
            "loss_function": self.loss_function.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "best": self.best,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Restore a state from `content`."""
        self.encoder.load_state_dict(content["encoder"])
        self.loss_function.load_state_dict(content["loss_function"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.epoch, self.step, self.history = content["epoch"], content["step"], content["history"]
        self.best = content["best"]
        self.metrics = EpochMetrics(self.device, self.settings, self.epoch)
        self.metrics.restore(content["metrics"])
