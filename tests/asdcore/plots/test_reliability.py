from io import BytesIO

import numpy as np
import pytest

from asdcore.normality.machine import SCORERS, MachineModel
from asdcore.normality.models import NormalityModel
from asdcore.plots.reliability import qq_plot


@pytest.mark.parametrize("estimator", ["ml", "knn"])
def test_each_eye_has_its_panel_with_every_recording_that_can_be_drawn(estimator: str) -> None:
    rng = np.random.default_rng(0)
    machine = MachineModel({scorer: NormalityModel(estimator).fit(rng.normal(size=(50, 4))) for scorer in SCORERS})  # type: ignore[arg-type]
    figure = qq_plot(machine, "泵 2")
    assert [axes.get_title().split(" ")[0] for axes in figure.axes] == list(SCORERS)
    drawn = [len(line.get_xdata()) for axes in figure.axes for line in axes.lines if line.get_marker() == "."]  # type: ignore[arg-type]
    assert drawn == ([50, 50] if estimator == "ml" else [])
    figure.savefig(BytesIO(), format="png")
