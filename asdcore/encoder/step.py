"""The gradient of one batch: whole, or in micro-batches that together have the negatives of the whole batch."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from asdcore.encoder.distributed import World
from asdcore.encoder.labels import Labels
from asdcore.encoder.losses import Loss

Cast = Callable[[], AbstractContextManager[object]]


def backward(
    model: nn.Module,
    loss_function: Loss,
    x: Tensor,
    labels: Labels,
    *,
    world: World,
    micro_batch: int | None,
    cast: Cast,
) -> tuple[Tensor, Tensor, Tensor]:
    """Add the gradient of the loss of a batch to that of the weights.

    Args:
        model: encoder, compiled or shared with other processes, as it may be.
        loss_function: see `losses`.
        x: (2n, 1, n_mels, n_frames), the views of this process, the originals first.
        labels: of the views of all processes.
        world: the processes.
        micro_batch: recordings whose activations are in memory at a time; None: all. GradCache (Gao et al. 2021): first
            the embeddings of all micro-batches, without their activations, then the loss and its gradient with respect
            to them, then each micro-batch again. It costs one more forward pass. The loss has the negatives of the
            whole batch, but batch normalisation sees one micro-batch at a time.
        cast: makes the context of the precision that the model computes in.

    Returns:
        The loss, and h and z of the views of all processes.
    """
    n = len(x) // 2
    if micro_batch is None or micro_batch >= n:
        with cast():
            h, z = model(x)
        h, z = world.gather(_exact(h)), world.gather(_exact(z))
        loss = loss_function(h, z, labels)
        loss.backward()
    else:
        # Both views of a recording in the same chunk.
        rows = [torch.cat([part, part + n]) for part in torch.split(torch.arange(n, device=x.device), micro_batch)]
        order = torch.cat(rows).argsort()
        with torch.no_grad(), _statistics_kept(model), cast():
            pairs = [model(x[part]) for part in rows]
        own = [_exact(torch.cat(layer))[order].requires_grad_() for layer in zip(*pairs, strict=True)]
        h, z = map(world.gather, own)
        loss = loss_function(h, z, labels)
        loss.backward()
        for part in rows:
            with ExitStack() as stack:
                if isinstance(model, DistributedDataParallel) and part is not rows[-1]:
                    stack.enter_context(model.no_sync())
                with cast():
                    again = model(x[part])
                # A loss may leave out an embedding: z in discriminative.
                pairs = [(_exact(a), e.grad[part]) for a, e in zip(again, own, strict=True) if e.grad is not None]
                torch.autograd.backward([a for a, _ in pairs], [gradient for _, gradient in pairs])
    world.average(list(loss_function.parameters()))
    return loss, h, z


def _exact(embeddings: Tensor) -> Tensor:
    """The loss is computed in float32 whatever the encoder was."""
    return embeddings.float() if embeddings.dtype is torch.bfloat16 else embeddings


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """The running statistics of batch normalisation stay as they are: the micro-batches come a second time."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
