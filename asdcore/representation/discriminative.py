"""The objective that tells machines, their conditions and pitch shifts apart."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from asdcore.representation.labels import Labels


class Discriminative(nn.Module):
    """Cosine softmax over conditions x shifts, with sub-clusters (Wilkinghoff 2021) and the adaptive scale of AdaCos
    (Zhang et al. 2019).

    The probability of a class is the sum over its sub-clusters of the softmax over the cosines to all centres, scaled.
    There are at least three classes: one machine's three shifts. The embedding is h; z and its head do not train.

    Args:
        conditions: how many machines x attributes.
        subclusters: centres of a class.
        size: values of h.
    """

    def __init__(self, conditions: int, subclusters: int, size: int) -> None:
        super().__init__()
        self.classes, self.subclusters = 3 * conditions, subclusters
        self.centres = nn.Parameter(torch.randn(self.classes * subclusters, size))
        scale = math.sqrt(2) * math.log(self.classes * subclusters - 1)
        self.register_buffer("scale", torch.tensor(scale))
        self.scale: Tensor

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
        """AdaCos, equations 14 and 15, with the nearest sub-cluster of the class for its centre.

        Args:
            cosine: (n, classes, subclusters).
            classes: (n,).
        """
        own = functional.one_hot(classes, self.classes).bool()
        # log of the mean over the views of the sum over the centres of the other classes
        others = (self.scale * cosine).logsumexp(dim=2).masked_fill(own, -torch.inf)
        log_others = others.logsumexp(dim=(0, 1)) - math.log(len(cosine))
        angle = cosine[own].amax(dim=1).clamp(-1, 1).acos().median()
        return log_others / angle.clamp(max=math.pi / 4).cos()

    def class_of(self, labels: Labels) -> Tensor:
        """(n,) int64: 3 x condition, and 0, 1, 2 for pitch shifted down, not, up."""
        return 3 * labels.condition + labels.shift + 1
