"""The figure for the crew is drawn of every explanation."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from asdcore.explanation.explanation import MOST_SENTENCES, NOTHING, Explanation, Finding
from asdcore.plots.explanation import explanation_plot, odds

VERDICT = {"path": "a/monday $1.wav", "machine": "pump_2", "p_value": 0.004, "verdict": "anomalous"}


def explanation(*findings: Finding) -> Explanation:
    level = np.linspace(-20, -40, 128)
    values = np.random.default_rng(0).normal(-30, 3, (128, 60)).astype(np.float32)
    return Explanation(values, np.linspace(0, 8000, 129), 0.032, level, level + 1, np.full(128, 3.0), findings)


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


def test_many_findings_are_cut_and_counted() -> None:
    findings = [Finding("louder", (500.0 * i, 500.0 * i + 200), 5.0, 20.0 - i) for i in range(1, 12)]
    said = texts(explanation_plot(explanation(*findings), VERDICT))
    assert any(f"And {len(findings) - MOST_SENTENCES} more" in text for text in said)
    assert str(MOST_SENTENCES + 1) not in said


@pytest.mark.parametrize("p_value", [0.5, 0.02])
def test_the_p_value_of_a_suspect_recording_never_becomes_odds(p_value: float) -> None:
    assert "1 in" not in odds(p_value, "suspect")
