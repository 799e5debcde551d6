from io import BytesIO

import numpy as np
import pytest

from asdcore.normality.base import model_class
from asdcore.normality.machine import MachineModel
from asdcore.plots.reliability import qq_plot


@pytest.mark.parametrize("scorers", [["spectrum"], ["spectrum", "change", "embedding"]])
@pytest.mark.parametrize("estimator", ["ml", "knn"])
def test_each_scorer_has_its_panel_with_every_recording_that_can_be_drawn(estimator: str, scorers: list[str]) -> None:
    rng = np.random.default_rng(0)
    machine = MachineModel({name: model_class(estimator)().fit(rng.normal(size=(50, 4))) for name in scorers})
    figure = qq_plot(machine, "泵 2")
    assert [axes.get_title().split(" ")[0] for axes in figure.axes] == scorers
    drawn = [len(line.get_xdata()) for axes in figure.axes for line in axes.lines if line.get_marker() == "."]  # type: ignore[arg-type]
    assert drawn == ([50] * len(scorers) if estimator == "ml" else [])
    figure.savefig(BytesIO(), format="png")
