"""What an encoder is trained for: all objectives behind one face.

An objective is a module. It is called with h (2n, h_size), z (2n, z_size) and the `Labels` of the 2n views of a batch,
the originals first, and gives the loss, a scalar. Its own weights, if it has any, train with the encoder's, and are no
part of the encoder.
"""

from torch import Tensor, nn

from asdcore.representation.contrastive import NTXent, SupervisedContrastive
from asdcore.representation.discriminative import Discriminative
from asdcore.representation.labels import Labels
from asdcore.settings import TrainingSettings


class Combined(nn.Module):
    """`Discriminative` and ``weight`` times `NTXent`."""

    def __init__(self, discriminative: Discriminative, contrastive: NTXent, weight: float) -> None:
        super().__init__()
        self.discriminative, self.contrastive, self.weight = discriminative, contrastive, weight

    def forward(self, h: Tensor, z: Tensor, labels: Labels) -> Tensor:
        loss: Tensor = self.discriminative(h, z, labels) + self.weight * self.contrastive(h, z, labels)
        return loss


Objective = NTXent | SupervisedContrastive | Discriminative | Combined


def objective_of(settings: TrainingSettings, conditions: int, h_size: int) -> Objective:
    """The objective that the settings name.

    Args:
        settings: see `TrainingSettings`.
        conditions: how many machines x attributes there are to tell apart.
        h_size: values of h.
    """
    if settings.objective == "supervised_contrastive":
        return SupervisedContrastive(settings.temperature)
    contrastive = NTXent(settings.temperature)
    if settings.objective == "nt_xent":
        return contrastive
    discriminative = Discriminative(conditions, settings.subclusters, h_size)
    if settings.objective == "discriminative":
        return discriminative
    return Combined(discriminative, contrastive, settings.contrastive_weight)
