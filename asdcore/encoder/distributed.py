"""Synchronisation of a training in several processes, each with its part of every batch.

The convention of gradients: every process computes the loss of the whole batch, from the embeddings of all processes.
The backward pass of gathering and synchronisation sums over the processes, and `DistributedDataParallel` takes the
mean over them, so that the weights get the gradient that one process with the whole batch would have.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from asdcore.errors import AsdError


@dataclass(frozen=True)
class World:
    """The processes of a training: rank of this one, and their number."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> "World":
        """The initialised process group of `torchrun`, or a single process."""
        if not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    def gather(self, views: Tensor) -> Tensor:
        """The views of all processes, (2n, size) each with the originals first, as (2n x processes, size), the
        originals of all first; with gradient.
        """
        if self.size == 1:
            return views
        every = _Gather.apply(views, self)  # type: ignore[no-untyped-call]
        halves: Tensor = every.unflatten(0, (self.size, 2, -1)).transpose(0, 1).flatten(0, 2)
        return halves

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether ``flag`` is true in any process; all get the same answer at the same step."""
        if self.size == 1:
            return flag
        flags = torch.tensor(float(flag), device=device)
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags)

    def divisible(self, batch_size: int) -> int:
        """The largest batch size up to ``batch_size`` that divides evenly among the processes.

        Raises:
            AsdError: there are fewer than two recordings per process.
        """
        size = batch_size // self.size * self.size
        if size < 2 * self.size and self.size > 1:
            raise AsdError(f"a batch of {batch_size} recordings is too small for training.processes={self.size}")
        return size

    def one_by_one(self) -> Iterator[int]:
        """Yield in the first process before the others."""
        if self.rank > 0:
            self.wait()
        yield self.rank
        if self.rank == 0:
            self.wait()

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            distributed.barrier()

    def average(self, weights: list[nn.Parameter]) -> None:
        """Average gradients that every process has computed itself, so that they are equal to the last bit."""
        for weight in weights:
            if self.size > 1 and weight.grad is not None:
                distributed.all_reduce(weight.grad)
                weight.grad /= self.size

    def shared(self, encoder: nn.Module, model: nn.Module, device: torch.device) -> nn.Module:
        """``model``, which computes ``encoder``, so that all processes get the mean of their gradients."""
        if self.size == 1:
            return model
        synchronise(encoder, device)
        places = [torch.cuda.current_device()] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=places, broadcast_buffers=False)


def synchronise(module: nn.Module, device: torch.device) -> None:
    """Give each batch normalisation in ``module`` the statistics of the views of all processes.

    On CUDA with `torch.nn.SyncBatchNorm`, which supports no other device; else with `SynchronisedBatchNorm`. Names and
    weights do not change.
    """
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = SynchronisedBatchNorm


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the views of all processes, which have the same number of views."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        world = World.here()
        y: Tensor
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps, world)  # type: ignore[no-untyped-call]
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            count = x.numel() / x.shape[1] * world.size
            share = 0.1 if self.momentum is None else self.momentum
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * count / (count - 1), share)
        return y


class _Gather(Function):
    """All rows of all processes; the gradient of the own rows is the sum over the processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World) -> Tensor:
        ctx.world = world
        every = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world.size)]
        distributed.all_gather(every, rows.contiguous())
        return torch.cat(every)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        return gradient.chunk(ctx.world.size)[ctx.world.rank], None


class _Normalise(Function):
    """(n, channels, height, width) normalised by mean and variance over the views of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, world: World
    ) -> tuple[Tensor, Tensor, Tensor]:
        own = torch.stack(torch.var_mean(x, (0, 2, 3), correction=0))
        every = [torch.empty_like(own) for _ in range(world.size)]
        distributed.all_gather(every, own)
        variances, means = torch.stack(every).unbind(1)
        mean = means.mean(dim=0)
        variance = (variances + (means - mean).square()).mean(dim=0)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.world = world
        ctx.mark_non_differentiable(mean, variance)
        return functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        dy = gradients[0]
        x, weight, mean, scale = ctx.saved_tensors
        unit = (x - _channels(mean)) * _channels(scale)
        own = torch.stack([dy.sum((0, 2, 3)), (dy * unit).sum((0, 2, 3))])
        every = own.clone()
        distributed.all_reduce(every)
        of_mean, of_scale = every / (x.numel() / x.shape[1] * ctx.world.size)
        dx = _channels(weight * scale) * (dy - _channels(of_mean) - unit * _channels(of_scale))
        return dx, own[1], own[0], None, None


def _channels(values: Tensor) -> Tensor:
    return values[:, None, None]
