"""The gradient of one batch, computed at once or in micro-batches, with the negatives of the whole batch."""

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
        model: encoder, possibly compiled or distributed.
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
        # Both views of a recording belong to the same micro-batch.
        rows = [
            torch.cat([indices, indices + n]) for indices in torch.split(torch.arange(n, device=x.device), micro_batch)
        ]
        order = torch.cat(rows).argsort()
        with torch.no_grad(), _statistics_kept(model), cast():
            pairs = [model(x[indices]) for indices in rows]
        layers = [_exact(torch.cat(layer))[order].requires_grad_() for layer in zip(*pairs, strict=True)]
        h, z = map(world.gather, layers)
        loss = loss_function(h, z, labels)
        loss.backward()
        for indices in rows:
            with ExitStack() as stack:
                if isinstance(model, DistributedDataParallel) and indices is not rows[-1]:
                    stack.enter_context(model.no_sync())
                with cast():
                    again = model(x[indices])
                # A loss may not use an embedding, such as z in discriminative.
                pairs = [(_exact(a), e.grad[indices]) for a, e in zip(again, layers, strict=True) if e.grad is not None]
                torch.autograd.backward([a for a, _ in pairs], [gradient for _, gradient in pairs])
    world.average(list(loss_function.parameters()))
    return loss, h, z


def _exact(embeddings: Tensor) -> Tensor:
    """The loss is computed in float32 whatever the precision of the encoder."""
    return embeddings.float() if embeddings.dtype is torch.bfloat16 else embeddings


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """Freeze the running statistics of batch normalisation: the micro-batches are passed through a second time."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
