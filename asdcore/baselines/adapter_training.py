"""Fine-tune a published model by low-rank adapters on the waveforms of all machines.

Zheng et al., *Improving anomalous sound detection via low-rank adaptation fine-tuning of pre-trained audio models*
(arXiv:2409.07016), with what this project has: the adapted model tells apart every machine, section, domain and
combination of attributes by the sub-cluster AdaCos loss, where the paper has ArcFace, and with mixup, where it masks
the spectrogram.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from asdcore.baselines.adacos import SubclusterAdaCos
from asdcore.baselines.discrimination import Objective, Waveforms, minimise
from asdcore.baselines.exchange import mixed
from asdcore.baselines.two_branch import fitted
from asdcore.encoder.adapters import ALPHA, Adapters, LowRank, adapted, weights_of
from asdcore.encoder.checkpoint import Checkpoints
from asdcore.encoder.metrics import effective_rank, spread
from asdcore.encoder.network import choose_device
from asdcore.encoder.precision import arithmetic
from asdcore.encoder.pretrained.base import PretrainedEncoder
from asdcore.encoder.schedule import learning_rate
from asdcore.errors import AsdError
from asdcore.progress import say
from asdcore.settings import TrainingSettings
from asdcore.storage.files import digest_of


class AdapterObjective(Objective):
    """The loss of a model with adapters. The weights of the model are no parameters of it.

    Args:
        encoder: its model has the adapters.
        adapters: to be trained.
        data: to train them on.
        device: to train on.
    """

    name = "adapters"
    rate_setting = "training.learning_rate"

    def __init__(
        self, encoder: PretrainedEncoder, adapters: dict[str, LowRank], data: Waveforms, device: torch.device
    ) -> None:
        super().__init__()
        self.encoder, self.data, self.device = encoder, data, device
        self.adapters = nn.ModuleList(adapters.values())
        self.classes = int(data.classes.max()) + 1
        size = encoder.embed(data.samples[0], data.sample_rate).size
        self.loss = SubclusterAdaCos(self.classes, size, trainable=True)

    def backward(self, chosen: Tensor, generator: torch.Generator) -> dict[str, float]:
        """See `Objective.backward`. The activations of one recording are in memory at a time.

        GradCache (Gao et al. 2021): first the embeddings of all, then the loss and its gradient with respect to them,
        then each recording again.
        """
        sounds = [self.data.samples[index] for index in chosen.tolist()]
        longest = max(map(len, sounds))
        shares = functional.one_hot(self.data.classes[chosen], self.classes).float()
        waveforms, shares = mixed(torch.stack([fitted(sound, longest) for sound in sounds]), shares, generator)
        prepared = [self.encoder.prepared(waveform.numpy(), self.data.sample_rate) for waveform in waveforms]
        shares = shares.to(self.device)
        with torch.no_grad():
            h = torch.stack([self.encoder.embedding(waveform).to(self.device) for waveform in prepared])
        metrics = {"effective_rank_h": effective_rank(h.cpu()), "spread_h": spread(h.cpu())}
        metrics["chance"] = self._chance(h, shares)
        loss = self.loss(h.requires_grad_(), shares)
        loss.backward()
        assert h.grad is not None
        for waveform, gradient in zip(prepared, h.grad, strict=True):
            embedding = self.encoder.embedding(waveform)
            embedding.backward(gradient.to(embedding.device))  # type: ignore[no-untyped-call]
        return {"loss": float(loss.detach()), **metrics}

    def _chance(self, h: Tensor, shares: Tensor) -> float:
        """The loss if the embedding of every recording were the mean."""
        self.loss.eval()  # Its scale must not adapt to it.
        with torch.no_grad():
            loss = float(self.loss(h.mean(dim=0).expand_as(h), shares))
        self.loss.train()
        return loss


def train_adapters(
    encoder: PretrainedEncoder,
    data: Waveforms,
    settings: TrainingSettings,
    checkpoints: Path,
    recordings: str = "",
    on_epoch: Callable[[dict[str, float]], None] = lambda _: None,
    on_warning: Callable[[str], None] = say,
) -> Adapters:
    """Train adapters for a model; resume after the last epoch of a training that was stopped.

    The model itself stays as it is, bit for bit; `PretrainedEncoder.adapt` has it embed with the adapters.

    Args:
        encoder: without adapters.
        data: of all machines.
        settings: ``adapter_rank``, ``epochs``, ``batch_size``, ``seed``, the learning rate and its schedule.
        checkpoints: folder for a checkpoint after each epoch.
        recordings: a digest of them, so that no other training is resumed.
        on_epoch: called with the metrics at the end of each epoch.
        on_warning: called with a message for each checkpoint that cannot be used.

    Raises:
        AsdError: all recordings are of one class, the rank is too large, or the loss is not finite.
    """
    if int(data.classes.max()) == 0:
        raise AsdError(
            "adapters learn to tell apart machines, sections, domains and attributes, but all training recordings are "
            "of one class: add other machines, or use training.adapter_rank=0"
        )
    device = choose_device(settings.device)
    encoder.to(device)
    store = Checkpoints(checkpoints, digest_of(encoder.digest, settings.digest(), recordings), on_warning)
    with torch.random.fork_rng(devices=[]), arithmetic(settings):
        torch.manual_seed(settings.seed)
        with adapted(encoder.model, encoder.adaptable, settings.adapter_rank) as adapters:
            objective = AdapterObjective(encoder, adapters, data, device).to(device)
            optimiser = torch.optim.Adam(objective.parameters())
            rate = partial(learning_rate, settings=settings)
            history = minimise(objective, optimiser, len(data.samples), settings, rate, store, on_epoch)
            weights = weights_of(adapters)
    encoder.to(torch.device("cpu"))
    return Adapters(weights, settings.adapter_rank, ALPHA, history)
