"""Train the two-branch network on the waveforms of all machines.

The task is to tell apart every machine, section, domain and combination of attributes; mixup, the exchange of
statistics and that of the branches' embeddings make it harder. As in the last version of the published code (see
`asdcore.baselines.two_branch`); an earlier one has a loss for each exchange instead of one for both.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from asdcore.baselines.adacos import SubclusterAdaCos
from asdcore.baselines.discrimination import Objective, Waveforms, minimise, parts
from asdcore.baselines.exchange import drawn, exchanged_classes, exchanged_features, mixed
from asdcore.baselines.two_branch import TwoBranch, fitted
from asdcore.encoder.checkpoint import Checkpoints
from asdcore.errors import AsdError
from asdcore.settings import TwoBranchSettings

WEIGHT_DECAY = 1e-5
"""times the sum of the squared weights of convolutions and linear layers, gates apart"""


class TwoLosses(Objective):
    """The network with its two losses, which are added.

    The plain one has fixed centres. The self-supervised one has trained centres for nine times as many classes:
    each exchange, StatEx and FeatEx, makes three of one.

    Args:
        network: to be trained.
        data: to train it on.
        device: to train on.
    """

    name = "two-branch network"
    rate_setting = "two_branch.learning_rate"

    def __init__(self, network: TwoBranch, data: Waveforms, device: torch.device) -> None:
        super().__init__()
        self.network, self.data, self.device = network, data, device
        self.classes = classes = int(data.classes.max()) + 1
        self.plain = SubclusterAdaCos(classes, network.size, trainable=False)
        self.self_supervised = SubclusterAdaCos(9 * classes, network.size, trainable=True)
        self.decayed = [
            module.weight for name, module in network.named_modules()
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear) and ".gate." not in name
        ]  # fmt: skip

    def backward(self, chosen: Tensor, generator: torch.Generator) -> dict[str, float]:
        """See `Objective.backward`."""
        classes = self.data.classes[chosen].to(self.device)
        loss = self(_waveforms(self.data, chosen, self.device), classes, generator)
        loss.backward()
        return {"loss": float(loss.detach())}

    def forward(self, waveforms: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
        """The loss, a scalar, of waveforms (n, samples) of these classes (n,). ``generator``: on the CPU."""
        shares = functional.one_hot(classes, self.classes).to(waveforms.dtype)
        waveforms, shares = mixed(waveforms, shares, generator)
        statistics, features = (drawn(len(classes), generator).to(waveforms.device) for _ in range(2))
        spectrum, spectrograms = self.network.branches(waveforms, statistics)
        plain = self.plain(torch.cat([spectrum, spectrograms], dim=1), shares)
        spectrograms = exchanged_features(spectrograms, features)
        shares = exchanged_classes(exchanged_classes(shares, statistics), features)
        other: Tensor = self.self_supervised(torch.cat([spectrum, spectrograms], dim=1), shares)
        decay = torch.stack([weight.square().sum() for weight in self.decayed]).sum()
        loss: Tensor = plain + other + WEIGHT_DECAY * decay
        return loss


def train_two_branch(
    data: Waveforms,
    windows: Sequence[int],
    settings: TwoBranchSettings,
    device: torch.device,
    checkpoints: Path,
    fingerprint: str,
    on_warning: Callable[[str], None],
) -> tuple[TwoBranch, list[dict[str, float]]]:
    """Train the network; resume from a checkpoint of a training that was stopped.

    The running means of the batch normalisations are computed again after the training, from the recordings as they
    are: those of the training have seen few batches where recordings are few.

    Args:
        data: of all machines.
        windows: see `TwoBranch`.
        settings: see `TwoBranchSettings`.
        device: where it is trained.
        checkpoints: folder for a checkpoint after each epoch.
        fingerprint: of the inputs, so that no other training is resumed.
        on_warning: called with a message for each checkpoint that cannot be used.

    Returns:
        The network, on the CPU, and epoch and loss of each epoch.

    Raises:
        AsdError: fewer than two recordings; they are too short; the loss is not finite.
    """
    if len(data.samples) < 2:
        raise AsdError(f"{len(data.samples)} training recording: the two-branch network needs at least 2")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        objective = TwoLosses(TwoBranch(data.length, windows), data, device)
    objective.to(device)
    trained = [weight for weight in objective.parameters() if weight.requires_grad]
    optimiser = torch.optim.Adam(trained, eps=1e-7)
    store = Checkpoints(checkpoints, fingerprint, on_warning)
    history = minimise(objective, optimiser, len(data.samples), settings, lambda *_: settings.learning_rate, store)
    order = torch.arange(len(data.samples))
    update_bn((_waveforms(data, part, device) for part in parts(order, settings.batch_size)), objective.network)
    return objective.network.eval().cpu(), history


def _waveforms(data: Waveforms, chosen: Tensor, device: torch.device) -> Tensor:
    return torch.stack([fitted(data.samples[index], data.length) for index in chosen.tolist()]).to(device)
