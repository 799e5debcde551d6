"""The gradient of one batch: whole, or in chunks that together have the negatives of the whole batch."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from asdcore.representation.distributed import World
from asdcore.representation.labels import Labels
from asdcore.representation.objectives import Objective

Cast = Callable[[], AbstractContextManager[object]]


def backward(
    model: nn.Module, objective: Objective, x: Tensor, labels: Labels, *, world: World, chunk: int | None, cast: Cast
) -> tuple[Tensor, Tensor, Tensor]:
    """Add the gradient of the loss of a batch to that of the weights.

    Args:
        model: encoder, compiled or shared with other processes, as it may be.
        objective: see `objectives`.
        x: (2n, 1, n_mels, n_frames), the views of this process, the originals first.
        labels: of the views of all processes.
        world: the processes.
        chunk: recordings whose activations are held at a time; None: all. GradCache (Gao et al. 2021): the embeddings
            of all chunks first, without their activations, then the loss and its gradient with respect to them, then
            each chunk again. It costs one forward pass more. The loss has the negatives of the whole batch, but batch
            normalisation sees a chunk at a time.
        cast: makes the context of the precision that the model computes in.

    Returns:
        The loss, and h and z of the views of all processes.
    """
    n = len(x) // 2
    if chunk is None or chunk >= n:
        with cast():
            h, z = model(x)
        h, z = world.gather(_exact(h)), world.gather(_exact(z))
        loss = objective(h, z, labels)
        loss.backward()
    else:
        # Both views of a recording in the same chunk.
        rows = [torch.cat([part, part + n]) for part in torch.split(torch.arange(n, device=x.device), chunk)]
        order = torch.cat(rows).argsort()
        with torch.no_grad(), _statistics_kept(model), cast():
            pairs = [model(x[part]) for part in rows]
        own = [_exact(torch.cat(layer))[order].requires_grad_() for layer in zip(*pairs, strict=True)]
        h, z = map(world.gather, own)
        loss = objective(h, z, labels)
        loss.backward()
        for part in rows:
            with ExitStack() as stack:
                if isinstance(model, DistributedDataParallel) and part is not rows[-1]:
                    stack.enter_context(model.no_sync())
                with cast():
                    again = model(x[part])
                # An objective may leave out an embedding: z in discriminative.
                pairs = [(_exact(a), e.grad[part]) for a, e in zip(again, own, strict=True) if e.grad is not None]
                torch.autograd.backward([a for a, _ in pairs], [gradient for _, gradient in pairs])
    world.average(list(objective.parameters()))
    return loss, h, z


def _exact(embeddings: Tensor) -> Tensor:
    """The objective is computed in float32 whatever the encoder was."""
    return embeddings.float() if embeddings.dtype is torch.bfloat16 else embeddings


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """The running statistics of batch normalisation stay as they are: the chunks come a second time."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
