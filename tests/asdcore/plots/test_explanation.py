"""The figure for the crew is drawn of every explanation."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from asdcore.explanation.explanation import MOST_SENTENCES, NOTHING, Comparison, Explanation, Triggers
from asdcore.explanation.findings import Finding
from asdcore.normality.odds import odds
from asdcore.plots.explanation import explanation_plot

VERDICT = {"path": "a/monday $1.wav", "machine": "pump_2", "p_value": 0.004, "verdict": "anomalous"}


def explanation(*findings: Finding, triggered_by: Triggers | None = None) -> Explanation:
    level = np.linspace(-20, -40, 128)
    values = np.random.default_rng(0).normal(-30, 3, (128, 60)).astype(np.float32)
    averages = Comparison(level, level + 1, np.full(128, 3.0))
    changes = Comparison(np.full(128, 4.0), np.full(128, 3.5), np.full(128, 0.3))
    edges = np.linspace(0, 8000, 129)
    return Explanation(values, edges, 0.032, averages, changes, findings, triggered_by or {})


def texts(figure: Figure) -> list[str]:
    figure.savefig(io.BytesIO(), dpi=40)
    return [found.get_text() for found in figure.findobj(Text) if found.get_text()]


def test_the_title_says_machine_decision_and_how_rare_it_is() -> None:
    said = texts(explanation_plot(explanation(), VERDICT))
    assert "pump_2: ANOMALOUS" in said
    assert "monday $1.wav\nabout 1 in 250 normal recordings of this machine looks as strange (p = 0.004)" in said
    assert NOTHING in said[-1].replace("\n", " ") or any(NOTHING[:40] in text for text in said)
    assert "pump_2: normal" in texts(explanation_plot(explanation(), VERDICT | {"verdict": "normal"}))


def test_every_finding_is_numbered_in_the_spectrogram_and_levels_in_the_spectrum_too() -> None:
    findings = (
        Finding("component", (1000.0, 1200.0), 9.0, 7.0),
        Finding("knocks", (2000.0, 5000.0), 8.0, 6.0, ((0.2, 0.3), (1.0, 1.1))),
        Finding("quieter", (6000.0, 7000.0), -5.0, 5.0),
    )
    figure = explanation_plot(explanation(*findings), VERDICT)
    said = texts(figure)
    assert [said.count(number) for number in ("1", "2", "3")] == [2, 1, 2]
    (below,) = [text for text in said if "1  " in text]
    assert "2 short loud moments at 0.2, 1.1 s" in below or "2 short loud moments" in below


def test_the_bands_of_a_change_are_marked_beside_what_is_usual() -> None:
    findings = (Finding("changing", (3000.0, 4000.0), 2.1, 8.0), Finding("louder", (1000.0, 1200.0), 9.0, 9.0))
    figure = explanation_plot(explanation(*findings, triggered_by={"change": ("change",)}), VERDICT)
    said = texts(figure)
    assert "from frame to frame" in said
    assert [said.count(number) for number in ("1", "2")] == [2, 2]
    (panel,) = [axes for axes in figure.axes if axes.get_title() == "from frame to frame"]
    (band,) = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((48, 64))
    (below,) = [text for text in said if "1  " in text]
    assert below.splitlines()[0] == "Triggered by change: findings of change come first."
    assert below.splitlines()[1].startswith("1  3.0-4.0 kHz changes from frame to frame more than usual: by 2.1 dB")


def test_without_a_change_only_the_average_is_beside_the_spectrogram() -> None:
    figure = explanation_plot(explanation(Finding("louder", (1000.0, 1200.0), 9.0, 9.0)), VERDICT)
    assert len(figure.axes) == 2


def test_many_findings_are_cut_and_counted() -> None:
    findings = [Finding("louder", (500.0 * i, 500.0 * i + 200), 5.0, 20.0 - i) for i in range(1, 12)]
    said = texts(explanation_plot(explanation(*findings), VERDICT))
    assert any(f"And {len(findings) - MOST_SENTENCES} more" in text for text in said)
    assert str(MOST_SENTENCES + 1) not in said


@pytest.mark.parametrize("p_value", [0.5, 0.02])
def test_the_p_value_of_a_suspect_recording_never_becomes_odds(p_value: float) -> None:
    assert "1 in" not in odds(p_value, "suspect")
