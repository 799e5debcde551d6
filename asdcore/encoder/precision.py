"""The arithmetic precision of a training."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from asdcore.errors import AsdError
from asdcore.settings import TrainingSettings


def precision_of(settings: TrainingSettings, device: torch.device) -> str:
    """``float32`` or ``bfloat16``; resolves ``auto`` for this device.

    Raises:
        AsdError: bfloat16 without CUDA; on a CPU it would be nine times slower.
    """
    if settings.precision == "bfloat16" and device.type != "cuda":
        raise AsdError(f"training.precision=bfloat16 needs CUDA, and this is {device.type}; use auto or float32")
    if settings.precision != "auto":
        return settings.precision
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def cast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context that a model computes in; its weights stay float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def arithmetic(settings: TrainingSettings) -> Iterator[None]:
    """Configure TF32 and deterministic algorithms by the settings; restore the previous state afterwards."""
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if settings.deterministic:
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # Required by torch for deterministic matrix products.
    try:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.tf32
        torch.use_deterministic_algorithms(settings.deterministic)
        # The views of a training have one shape: searching for the fastest algorithm pays off.
        torch.backends.cudnn.benchmark = not settings.deterministic
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
        torch.use_deterministic_algorithms(algorithms[0])
        torch.backends.cudnn.benchmark = algorithms[1]
