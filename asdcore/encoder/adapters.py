"""Low-rank adapters: small trained changes of a model whose own weights stay as they are (LoRA).

Hu et al., *LoRA: low-rank adaptation of large language models* (ICLR 2022, arXiv:2106.09685): the weight W of a linear
layer becomes W + alpha / rank * up @ down, where only ``up`` and ``down`` are trained. As in the paper, the layers are
those of the queries and the values of each attention, ``down`` is random at first and ``up`` zero.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from asdcore.errors import AsdError

ALPHA = 16.0
"""Divided by the rank, so that another rank does not need another learning rate."""
Layers = Mapping[str, Sequence[bool]]
"""Last part of the name of a linear layer: which of the equal parts of its output are adapted. A layer that computes
queries, keys and values together has three."""


class LowRank(nn.Module):
    """The change of a weight, 0 at first. As a parametrization of torch: (outputs, inputs) to the changed weight.

    Args:
        weight: to be changed.
        rank: of the change of each part.
        parts: which of the equal parts of the outputs are changed.
        alpha: the change is scaled by ``alpha / rank``.
    """

    def __init__(self, weight: Tensor, rank: int, parts: Sequence[bool], alpha: float) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.parts, self.scale = tuple(parts), alpha / rank
        self.down = nn.Parameter(torch.empty(sum(parts), rank, inputs))
        self.up = nn.Parameter(torch.zeros(sum(parts), outputs // len(parts), rank))
        for part in self.down:
            nn.init.kaiming_uniform_(part, math.sqrt(5))
        self.to(weight.device)

    def forward(self, weight: Tensor) -> Tensor:
        changes = iter(self.scale * (self.up @ self.down))
        nothing = torch.zeros_like(weight[: len(weight) // len(self.parts)])
        return weight + torch.cat([next(changes) if changed else nothing for changed in self.parts])


@dataclass(frozen=True)
class Adapters:
    """Trained adapters of a model."""

    weights: Mapping[str, Tensor]
    """``up`` and ``down`` of each layer, see `LowRank`, below its name"""
    rank: int
    alpha: float
    history: Sequence[Mapping[str, float]] = ()
    """metrics of each epoch of the training"""


@contextmanager
def adapted(model: nn.Module, layers: Layers, rank: int) -> Iterator[dict[str, LowRank]]:
    """Within the block, the model has untrained adapters; afterwards it is as it was, bit for bit.

    Args:
        model: whose weights do not change.
        layers: which have adapters.
        rank: at most the inputs and the outputs of a part.

    Yields:
        Name of a layer: its adapter.

    Raises:
        AsdError: no such layers, or the rank is too large.
    """
    added = _add(model, layers, rank, ALPHA)
    try:
        yield added
    finally:
        for name in added:
            parametrize.remove_parametrizations(model.get_submodule(name), "weight", leave_parametrized=False)


def weights_of(adapters: Mapping[str, LowRank]) -> dict[str, Tensor]:
    """A copy of the weights of adapters, on the CPU; see `Adapters.weights`."""
    return {
        f"{layer}.{name}": values.detach().cpu().clone()
        for layer, adapter in adapters.items()
        for name, values in adapter.named_parameters()
    }


def merge(model: nn.Module, layers: Layers, adapters: Adapters) -> None:
    """Add the changes to the weights of the model: from now on it costs what it costs without adapters.

    Raises:
        AsdError: the adapters are not of this model.
    """
    added = _add(model, layers, adapters.rank, adapters.alpha)
    expected = {name: values.shape for name, values in weights_of(added).items()}
    if {name: values.shape for name, values in adapters.weights.items()} != expected:
        raise AsdError("the adapters belong to another model: retrain")
    with torch.no_grad():
        for layer, adapter in added.items():
            for name, values in adapter.named_parameters():
                values.copy_(adapters.weights[f"{layer}.{name}"])
            parametrize.remove_parametrizations(model.get_submodule(layer), "weight", leave_parametrized=True)
    model.requires_grad_(False)


def _add(model: nn.Module, layers: Layers, rank: int, alpha: float) -> dict[str, LowRank]:
    found = [
        (name, module, layers[name.rpartition(".")[2]])
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in layers
    ]
    if not found:
        raise AsdError(f"the model has no layers {', '.join(layers)} to be fine-tuned; use training.adapter_rank=0")
    largest = min(min(module.in_features, module.out_features // len(parts)) for _, module, parts in found)
    if rank > largest:
        raise AsdError(f"training.adapter_rank={rank}: adapters of this model have at most rank {largest}")
    added = {name: LowRank(module.weight, rank, parts, alpha) for name, module, parts in found}
    for name, module, _ in found:
        parametrize.register_parametrization(module, "weight", added[name])
    return added
