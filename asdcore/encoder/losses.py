"""Training losses.

A `Loss` is a module. It is called with h (2n, h_size), z (2n, z_size) and the `Labels` of the 2n views of a batch,
the originals first, and returns the loss, a scalar. Its own weights, if any, are trained with the encoder's, but are
not part of the encoder. To add one, register a subclass in the entry point group ``asd.losses``; see
`asdcore.registry`.
"""

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from asdcore.encoder.labels import Labels
from asdcore.registry import LOSSES
from asdcore.settings import TrainingSettings


def nt_xent(z_original: Tensor, z_variant: Tensor, temperature: float) -> Tensor:
    """The normalised temperature-scaled cross entropy (paper, equation 1; Chen et al. 2020).

    Args:
        z_original: (n, z_size), one row per recording.
        z_variant: (n, z_size), the same recordings in the same order.
        temperature: tau. The similarity of the normalised embeddings is divided by it; the paper's equation prints it
            inside the normalisation, where it would cancel.

    Returns:
        The mean over all 2n views of minus the log probability of the partner among the other 2n - 1 views. A scalar.
    """
    n = len(z_original)
    partner = torch.arange(2 * n, device=z_original.device).roll(n)
    return functional.cross_entropy(_similarity(torch.cat([z_original, z_variant]), temperature), partner)


def supervised_contrastive(z: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss L_out (Khosla et al. 2020, equation 2).

    Args:
        z: (n, z_size), one row per view.
        classes: (n,) int64. The positives of a view are the other views of its class.
        temperature: tau, as of `nt_xent`.

    Returns:
        The mean over all views that have positives; 0 if none has. A scalar.
    """
    similarity = _similarity(z, temperature)
    log_probability = similarity.log_softmax(dim=1)
    positive = (classes[:, None] == classes) & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    count = positive.sum(dim=1)
    # torch.where, not a product: the probability of a view itself is 0, and its log times False would be NaN.
    loss = -torch.where(positive, log_probability, 0.0).sum(dim=1) / count.clamp(min=1)
    return loss.sum() / (count > 0).sum().clamp(min=1)


def _similarity(z: Tensor, temperature: float) -> Tensor:
    """Cosines of all pairs of views over tau; of a view with itself: -inf."""
    unit = functional.normalize(z, dim=1)
    similarity = unit @ unit.T / temperature
    return similarity.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)


class Loss(nn.Module):
    """Training losses."""

    uses_z = True
    """False: the loss does not depend on z, and the projection head is not trained."""

    @classmethod
    def of(cls, settings: TrainingSettings, conditions: int, h_size: int) -> Self:
        """Build the loss from settings.

        Args:
            settings: see `TrainingSettings`.
            conditions: number of classes, machines x attributes.
            h_size: values of h.
        """
        return cls()

    def forward(self, h: Tensor, z: Tensor, labels: Labels) -> Tensor:
        """The loss, a scalar, of h (2n, h_size) and z (2n, z_size) of the 2n views of a batch, the originals first."""
        raise NotImplementedError


class _Contrastive(Loss):
    """A loss of the similarities of z, with a temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    @classmethod
    def of(cls, settings: TrainingSettings, conditions: int, h_size: int) -> Self:
        return cls(settings.temperature)


class NTXent(_Contrastive):
    """`nt_xent` of z: the original and the variant of a recording are partners, all other views are not."""

    def forward(self, h: Tensor, z: Tensor, labels: Labels) -> Tensor:
        n = len(z) // 2
        return nt_xent(z[:n], z[n:], self.temperature)


class SupervisedContrastive(_Contrastive):
    """`supervised_contrastive` of z: views of the same machine with the same shift are positives."""

    def forward(self, h: Tensor, z: Tensor, labels: Labels) -> Tensor:
        return supervised_contrastive(z, 3 * labels.machine + labels.shift, self.temperature)


class Discriminative(Loss):
    """Cosine softmax over conditions x shifts, with sub-clusters (Wilkinghoff 2021) and the adaptive scale of AdaCos
    (Zhang et al. 2019).

    The probability of a class is the sum over its sub-clusters of the softmax over the cosines to all centres, scaled.
    There are at least three classes: one machine's three shifts. The embedding is h; z and its head do not train.

    Args:
        conditions: how many machines x attributes.
        subclusters: centres of a class.
        size: values of h.
    """

    uses_z = False

    def __init__(self, conditions: int, subclusters: int, size: int) -> None:
        super().__init__()
        self.classes, self.subclusters = 3 * conditions, subclusters
        self.centres = nn.Parameter(torch.randn(self.classes * subclusters, size))
        scale = math.sqrt(2) * math.log(self.classes * subclusters - 1)
        self.register_buffer("scale", torch.tensor(scale))
        self.scale: Tensor

    @classmethod
    def of(cls, settings: TrainingSettings, conditions: int, h_size: int) -> Self:
        return cls(conditions, settings.subclusters, h_size)

    def forward(self, h: Tensor, z: Tensor, labels: Labels) -> Tensor:
        """The mean over the views of minus the log probability of their class; in training the scale adapts first."""
        classes = self.class_of(labels)
        cosine = functional.normalize(h, dim=1) @ functional.normalize(self.centres, dim=1).T
        cosine = cosine.reshape(len(h), self.classes, self.subclusters)
        if self.training:
            self.scale.copy_(self.adapted_scale(cosine.detach(), classes))
        logits = (self.scale * cosine).logsumexp(dim=2)
        return functional.cross_entropy(logits, classes)

    def adapted_scale(self, cosine: Tensor, classes: Tensor) -> Tensor:
        """AdaCos, equations 14 and 15, with the nearest sub-cluster of the class as its centre.

        Args:
            cosine: (n, classes, subclusters).
            classes: (n,).
        """
        is_class = functional.one_hot(classes, self.classes).bool()
        # log of the mean over the views of the sum over the centres of the other classes
        others = (self.scale * cosine).logsumexp(dim=2).masked_fill(is_class, -torch.inf)
        log_others = others.logsumexp(dim=(0, 1)) - math.log(len(cosine))
        angle = cosine[is_class].amax(dim=1).clamp(-1, 1).acos().median()
        return log_others / angle.clamp(max=math.pi / 4).cos()

    def class_of(self, labels: Labels) -> Tensor:
        """(n,) int64: 3 x condition, and 0, 1, 2 for pitch shifted down, not, up."""
        return 3 * labels.condition + labels.shift + 1


class Combined(Loss):
    """`Discriminative` and ``weight`` times `NTXent`."""

    def __init__(self, discriminative: Discriminative, contrastive: NTXent, weight: float) -> None:
        super().__init__()
        self.discriminative, self.contrastive, self.weight = discriminative, contrastive, weight

    @classmethod
    def of(cls, settings: TrainingSettings, conditions: int, h_size: int) -> Self:
        parts = Discriminative.of(settings, conditions, h_size), NTXent.of(settings, conditions, h_size)
        return cls(*parts, settings.contrastive_weight)

    def forward(self, h: Tensor, z: Tensor, labels: Labels) -> Tensor:
        loss: Tensor = self.discriminative(h, z, labels) + self.weight * self.contrastive(h, z, labels)
        return loss


def build_loss(settings: TrainingSettings, conditions: int, h_size: int) -> Loss:
    """The loss that the settings name; see `Loss.of`.

    Raises:
        AsdError: the package that adds it cannot be loaded.
    """
    return LOSSES.get(settings.loss).of(settings, conditions, h_size)
