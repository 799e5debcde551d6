"""The spectrograms of a report: one scale, and the places of the findings."""

import base64
import io
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread

from asdcore.explanation.findings import Finding
from asdcore.plots.marked_spectrogram import MOST_FRAMES, decibel_bar, marked_spectrogram, scale_of

EDGES = np.linspace(0, 8000, 129)


def image(figure: ET.Element) -> np.ndarray:
    (found,) = figure.iter("image")
    return imread(io.BytesIO(base64.b64decode(found.get("href", "").partition(",")[2])), format="png")


def drawn(values: np.ndarray, *findings: Finding, numbered: bool = True) -> ET.Element:
    text = marked_spectrogram(values, EDGES, 0.032, scale_of(values), findings, "what it is", numbered=numbered)
    return ET.fromstring(text)


def test_louder_is_darker_and_high_frequencies_are_above() -> None:
    values = np.full((128, 50), -40.0, np.float32)
    values[100:, 10:20] = 0.0
    shades = image(drawn(values))
    assert shades.shape == (128, 50)
    assert shades[:28, 10:20].max() == 0.0 and shades[28:].min() == 1.0


def test_one_scale_covers_both() -> None:
    quiet, loud = np.full((4, 5), -30.0, np.float32), np.full((4, 5), 10.0, np.float32)
    assert scale_of(quiet, loud) == (-30.0, 10.0)
    assert scale_of(loud, quiet - 100) == (-50.0, 10.0)
    marks = [text.text for text in ET.fromstring(decibel_bar((-30.0, 10.0))).iter("text")]
    assert marks == ["dB", "−30", "−20", "−10", "0", "10"]


def test_a_click_is_seen_in_the_picture_of_a_long_recording() -> None:
    values = np.full((128, 20_000), -40.0, np.float32)
    values[:, 12_345] = 0.0
    values[:, :100] = 0.0  # The top of the scale is a quantile.
    shades = image(drawn(values))
    assert shades.shape[1] == MOST_FRAMES
    assert shades[0, int(12_345 / 20_000 * MOST_FRAMES)] == 0.0


def test_findings_are_marked_where_and_when_they_are() -> None:
    values = np.random.default_rng(0).normal(size=(128, 125)).astype(np.float32)
    finding = Finding("knocks", (2000.0, 4000.0), 8.0, 6.0, ((1.0, 2.0), (3.0, 3.5)))
    figure = drawn(values, finding)
    first, second = [rect for rect in figure.iter("rect") if "mark" in rect.get("class", "")]
    height = float(figure.find("image").get("height"))  # type: ignore[union-attr, arg-type]
    assert float(first.get("height", 0)) == pytest.approx(height / 4, abs=0.1)
    assert float(first.get("width", 0)) == pytest.approx(2 * float(second.get("width", 0)), abs=0.1)
    assert [text.text for text in figure.iter("text") if text.get("class") == "number"] == ["1"]
    (only,) = [rect for rect in drawn(values, finding, numbered=False).iter("rect") if "mark" in rect.get("class", "")]
    assert only.get("width") == figure.find("image").get("width")  # type: ignore[union-attr]


def test_less_than_usual_is_marked_as_less() -> None:
    values = np.zeros((128, 50), np.float32)
    kinds = {"louder": (5.0, "more"), "missing": (-5.0, "less"), "gaps": (5.0, "less")}
    for kind, (decibels, word) in kinds.items():
        times = ((0.1, 0.2),) if kind == "gaps" else ()
        figure = drawn(values, Finding(kind, (500.0, 900.0), decibels, 6.0, times))  # type: ignore[arg-type]
        assert [rect.get("class") for rect in figure.iter("rect")][1:] == [f"mark {word}"]
