import numpy as np
import pytest

from asdcore.encoder.schedule import learning_rate
from asdcore.settings import TrainingSettings


@pytest.mark.parametrize("steps_per_epoch", [1, 7])
def test_the_learning_rate_has_four_cycles_from_the_initial_rate_to_the_lowest(steps_per_epoch: int) -> None:
    settings = TrainingSettings(learning_rate=0.5, epochs=40, cycles=4)
    rates = [learning_rate(step, steps_per_epoch, settings) for step in range(40 * steps_per_epoch)]
    cycles = np.reshape(rates, (4, -1))
    assert (cycles == cycles[0]).all()
    assert cycles[0][0] == 0.5
    assert cycles[0][-1] == 0.5 / 1000
    assert (np.diff(cycles[0]) < 0).all()
    half = len(cycles[0]) // 2
    assert cycles[0][half - 1] > (0.5 + 0.5 / 1000) / 2 > cycles[0][half]


def test_the_warm_up_rises_in_equal_steps_to_the_rate_of_the_cycle() -> None:
    plain = TrainingSettings(epochs=40, cycles=4)
    warm = plain.model_copy(update={"warmup_steps": 3})
    ratios = [learning_rate(step, 7, warm) / learning_rate(step, 7, plain) for step in range(6)]
    assert ratios == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
