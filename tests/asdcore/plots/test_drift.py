"""Drift over time, drawn."""

from io import BytesIO

import numpy as np
import pandas as pd
import pytest

from asdcore.plots.drift import MOST_MACHINES, drift_plot


def history(runs: int, machines: int) -> pd.DataFrame:
    at = pd.date_range("2026-05-01", periods=runs, freq="h", tz="UTC")
    rows = [
        (f"pump {m}", time, 1, 10, 0.01, np.nan, 0.2 + m, m == machines - 1) for time in at for m in range(machines)
    ]
    names = ["machine", "at", "alarms", "scored", "asked", "shift_embedding", "shift_change", "drifted"]
    return pd.DataFrame(rows, columns=names)


@pytest.mark.parametrize("runs", [1, 30])
def test_every_line_differs_the_legend_hides_none_and_the_largest_shift_is_drawn(runs: int) -> None:
    figure = drift_plot(history(runs, 20))
    fractions, shifts = figure.axes
    lines = fractions.get_lines()[:-1]
    assert len(lines) == MOST_MACHINES and lines[0].get_label() == "pump 19"  # The one that has drifted.
    assert len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines}) == MOST_MACHINES
    assert fractions.get_legend() is None and len(figure.legends) == 1
    assert shifts.get_lines()[0].get_ydata()[0] == pytest.approx(19.2)
    assert all(low == 0 for low, _ in (axes.get_ylim() for axes in figure.axes))
    figure.savefig(BytesIO(), format="png", dpi=40)
