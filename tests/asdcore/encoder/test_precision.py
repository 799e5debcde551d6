import pytest
import torch

from asdcore.encoder.precision import arithmetic, cast, precision_of
from asdcore.errors import AsdError
from asdcore.settings import TrainingSettings

CPU = torch.device("cpu")


def test_a_cpu_computes_in_float32_and_refuses_bfloat16() -> None:
    assert precision_of(TrainingSettings(), CPU) == "float32"
    with pytest.raises(AsdError, match=r"training\.precision=bfloat16 needs CUDA, and this is cpu"):
        precision_of(TrainingSettings(precision="bfloat16"), CPU)


def test_float32_casts_nothing() -> None:
    with cast("float32", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("tf32", [False, True])
def test_the_arithmetic_is_set_for_the_training_only(tf32: bool, deterministic: bool) -> None:
    def now() -> tuple[bool, bool, bool, bool]:
        cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        return cuda.allow_tf32, cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled(), cudnn.benchmark

    before = now()
    with arithmetic(TrainingSettings(tf32=tf32, deterministic=deterministic)):
        assert now() == (tf32, tf32, deterministic, not deterministic)
    assert now() == before
