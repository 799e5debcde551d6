"""The sub-cluster AdaCos loss as Wilkinghoff published it, for classes that are mixed.

Sub-clusters: Wilkinghoff, *Sub-cluster AdaCos: learning representations for anomalous sound detection* (IJCNN 2021);
scale: Zhang et al., *AdaCos: adaptively scaling cosine logits* (CVPR 2019). `asdcore.encoder.losses.Discriminative` is
another reading of both, for one class of each view: here labels are fractions of several classes, centres may be fixed,
and the scale adapts as in the published code.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SUBCLUSTERS = 16
"""centres of a class, as published"""


class SubclusterAdaCos(nn.Module):
    """Cross entropy of a softmax over the scaled cosines to several centres of each class.

    Args:
        classes: how many, at least 1.
        size: values of an embedding.
        trainable: False: the centres stay where they were drawn. Random directions of so many dimensions are nearly
            orthogonal, so that fixed centres keep classes apart.
        subclusters: centres of each class, at least 2.
    """

    def __init__(self, classes: int, size: int, trainable: bool, subclusters: int = SUBCLUSTERS) -> None:
        super().__init__()
        self.classes, self.subclusters = classes, subclusters
        centres = nn.init.xavier_uniform_(torch.empty(classes * subclusters, size))
        self.centres = nn.Parameter(centres, requires_grad=trainable)
        self.register_buffer("scale", torch.tensor(math.sqrt(2) * math.log(classes * subclusters - 1)))
        self.scale: Tensor

    def forward(self, embeddings: Tensor, shares: Tensor) -> Tensor:
        """The loss, a scalar; in training the scale adapts first.

        Args:
            embeddings: (n, size).
            shares: (n, classes), at least 0, rows sum to 1: how much of each class a row is.
        """
        cosine = functional.normalize(embeddings, dim=1) @ functional.normalize(self.centres, dim=1).T
        if self.training:
            self.scale.copy_(self.adapted_scale(cosine.detach(), shares))
        probability = (self.scale * cosine).log_softmax(dim=1)
        of_class = probability.reshape(len(cosine), self.classes, self.subclusters).logsumexp(dim=2)
        return -(shares * of_class).sum(dim=1).mean()

    def adapted_scale(self, cosine: Tensor, shares: Tensor) -> Tensor:
        """The scale of AdaCos, a scalar.

        As in the published code, all centres are summed over, those of the class as well, and its angle is the sum of
        the angles to its centres: with several of them it is practically always cut at pi / 4.

        Args:
            cosine: (n, classes * subclusters).
            shares: (n, classes).
        """
        mean_sum = (self.scale * cosine).flatten().logsumexp(dim=0) - math.log(len(cosine))
        angles = cosine.clamp(-1 + 1e-7, 1 - 1e-7).acos()
        weighted = (shares.repeat_interleave(self.subclusters, dim=1) * angles).sum(dim=1)
        angle = (weighted * shares.count_nonzero(dim=1)).median()
        return mean_sum / angle.clamp(max=math.pi / 4).cos()
