"""All that changes while it trains: what a checkpoint holds."""

from typing import Any, cast

import torch
from torch import nn

from asdcore.home import digest_of
from asdcore.representation.distributed import World
from asdcore.representation.encoder import Encoder
from asdcore.representation.figures import Figures
from asdcore.representation.labels import Labelling
from asdcore.representation.objectives import objective_of
from asdcore.settings import TrainingSettings


class State:
    """A training between two of its steps, at first before the first one.

    It has no random state: after the start nothing is drawn but what `batches` derives from seed and epoch.

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
            self.encoder = Encoder(settings.encoder, settings.z_size)
            self.objective = objective_of(settings, len(labelling.conditions), self.encoder.h_size)
        self.encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective.to(device)
        if settings.objective == "discriminative":
            self.encoder.head.requires_grad_(False)  # It does not train, and other processes must not wait for it.
        model = cast("nn.Module", torch.compile(self.encoder)) if settings.compile else self.encoder
        self.model = world.shared(self.encoder, model, device)
        """the encoder as it trains: compiled or shared, as it may be"""
        self.weights = [*self.encoder.parameters(), *self.objective.parameters()]
        self.optimiser = torch.optim.Adam(self.weights, lr=settings.learning_rate)
        rows = [" ".join((recording, *condition)) for recording, condition in sorted(labelling.of.items())]
        self.made_of = digest_of(settings.digest(), *rows)
        """identifies the training"""
        self.epoch, self.step = 0, 0
        """epochs that have ended, steps of this one that have"""
        self.figures = Figures(device, settings, self.epoch)
        """of this epoch"""
        self.history: list[dict[str, float]] = []
        """figures of the epochs that have ended"""

    @property
    def rate(self) -> float:
        """The learning rate."""
        return float(self.optimiser.param_groups[0]["lr"])

    @rate.setter
    def rate(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def progress(self, steps: int) -> dict[str, float]:
        """How far it is, with so many steps an epoch."""
        return {
            "step": self.epoch * steps + self.step,
            "steps": self.settings.epochs * steps,
            "epoch": self.epoch + 1,
            "epochs": self.settings.epochs,
            "loss": self.figures.loss,
            "learning_rate": self.rate,
        }

    def end_epoch(self) -> dict[str, float]:
        """Go to the start of the next epoch; return the figures of this one."""
        self.history.append({"epoch": self.epoch + 1.0, "learning_rate": self.rate} | self.figures.summary())
        self.epoch, self.step = self.epoch + 1, 0
        self.figures = Figures(self.device, self.settings, self.epoch)
        return self.history[-1]

    def content(self) -> dict[str, Any]:
        """All of it, for a checkpoint.

        Raises:
            AsdError: a loss or gradient was not finite.
        """
        return {
            "figures": self.figures.state(),
            "encoder": self.encoder.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Become what `content` was."""
        self.encoder.load_state_dict(content["encoder"])
        self.objective.load_state_dict(content["objective"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.epoch, self.step, self.history = content["epoch"], content["step"], content["history"]
        self.figures = Figures(self.device, self.settings, self.epoch)
        self.figures.restore(content["figures"])
