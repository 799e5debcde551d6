"""The first pictures: faults caught, false alarms."""

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from asdcore.monitoring.outcomes import COLUMNS, FAULTY, UNSEEN
from asdcore.monitoring.reliability import Achieved, Reliability
from asdcore.plots.colours import ANOMALY, SOURCE, SUSPECT, TARGET
from asdcore.plots.outcomes import outcomes_plot, reliability_plot


def texts(figure: Figure) -> list[str]:
    figure.savefig(BytesIO(), format="png", dpi=40)
    return [text.get_text() for text in figure.axes[0].texts]


def test_faults_caught_and_false_alarms_are_bars_with_their_counts_interval_and_the_rate_asked_for() -> None:
    rows = [
        ("泵 2", FAULTY, 20, 5, 10, 0.5, 0.9, 2, 0.9),
        ("泵 2", UNSEEN, 10, 0, 1, 0.0, 0.45, 2, 0.9),
        ("fan", UNSEEN, 8, 0, 0, 0.0, 0.37, 1, np.nan),
    ]
    figure = outcomes_plot(pd.DataFrame(rows, columns=COLUMNS), "Caught", 0.01, {"fan": 0.05})
    said = texts(figure)
    assert said == ["fan", "false alarms 0 of 8", r"\u6cf5 2", "caught 15 of 20", "false alarms 1 of 10"]
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"normal, {UNSEEN}",
        "faulty",
        f"normal, {UNSEEN}",
    ]
    assert sorted(bar.get_width() for bar in axes.patches) == pytest.approx([10, 25, 25, 50, 90, 100])
    vertical = [
        line.get_xdata()[0] for line in axes.get_lines() if line.get_linestyle() == ":" and len(line.get_xdata())
    ]
    assert vertical == [5, 1]


def test_the_first_picture_of_a_reliability_report_is_false_alarms_beside_the_rate_asked_for() -> None:
    achieved = {"source": Achieved.of(0, 40), "target": Achieved.of(1, 10), "all": Achieved.of(1, 50)}
    test = {"source": Achieved.of(0, 6), "all": Achieved.of(0, 6)}
    report = Reliability("use with care", 0, [], 50, {}, 0.02, {}, achieved, test)
    figure = reliability_plot(report, "pump")
    assert texts(figure) == ["0 of 40", "1 of 10", "1 of 50", "0 of 6"]
    assert reliability_plot(Reliability("reliable", 0, [], 50, {}, 0.02, {}, {}, {}), "pump").axes


def test_the_colours_differ_as_greys() -> None:
    greys = sorted(
        sum(weight * int(colour[i : i + 2], 16) for weight, i in ((0.299, 1), (0.587, 3), (0.114, 5)))
        for colour in (SOURCE, TARGET, ANOMALY, SUSPECT)
    )
    assert np.diff(greys).min() > 20
