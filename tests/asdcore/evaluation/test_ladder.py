"""The ladder of faults: from barely audible to obvious."""

from collections.abc import Mapping

import numpy as np
import pytest

from asdcore.datasets.simulate import simulate
from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.evaluation.ladder import fault_ladder
from asdcore.plots.ladder import ladder_plot
from asdcore.registry import FAULTS
from asdcore.settings import NormalitySettings, Settings


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Detector]:
    """Of a simulated fan, by two scorers that need no network."""
    folder = tmp_path_factory.mktemp("ladder")
    simulate(folder, machines=["simFan"], source_train=12, target_train=4, test_per_kind=0, seconds=1.0)
    settings = [Settings(normality=NormalitySettings(scorers=(name,))) for name in ("spectrum", "change")]
    return {own.normality.scorers[0]: Detector.fit(folder, own) for own in settings}


def test_an_added_fault_climbs_from_chance_to_obvious_and_every_detector_hears_the_same(
    detectors: Mapping[str, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FAULTS, "_of_this_process", {})
    FAULTS.register("louder")(lambda sound, rate, strength, rng: (1 + strength) * sound)
    twice = {**detectors, "again": detectors["spectrum"]}
    table = fault_ladder(twice, "simFan", ["louder", "tonal"], (0.0, 2.0), recordings=8, seconds=1.0)
    auc = table.set_index(["fault", "strength", "system"])["auc"]
    assert len(auc) == 2 * 2 * 3
    assert auc["louder", 2.0, "spectrum"] == 1.0
    # Without a fault the recordings are the same, whichever it would have been.
    assert auc["louder", 0.0, "spectrum"] == auc["tonal", 0.0, "spectrum"] == 0.5
    assert all(auc[fault, strength, "again"] == auc[fault, strength, "spectrum"] for fault, strength, _ in auc.index)
    figure = ladder_plot(table, "simFan")
    assert [axes.get_title() for axes in figure.axes] == ["louder", "tonal"]
    drawn = figure.axes[0].lines[0]
    assert np.asarray(drawn.get_ydata()).tolist() == auc["louder", :, "spectrum"].tolist()


def test_what_a_ladder_cannot_be_made_of_is_said(
    detectors: Mapping[str, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FAULTS, "_of_this_process", {})
    with pytest.raises(AsdError, match="fault='rust' is unknown"):
        fault_ladder(detectors, "simFan", ["rust"], recordings=1, seconds=1.0)
    with pytest.raises(AsdError, match="'simValve' is not enrolled"):
        fault_ladder(detectors, "simValve", recordings=1, seconds=1.0)
    FAULTS.register("far too loud")(lambda sound, rate, strength, rng: 1000 * strength * sound)
    with pytest.raises(AsdError, match="fault 'far too loud' at strength 1: this waveform cannot be scored: clipped"):
        fault_ladder(detectors, "simFan", ["far too loud"], [1.0], recordings=1, seconds=1.0)
    with pytest.raises(AsdError, match="recordings=0"):
        fault_ladder(detectors, "simFan", recordings=0)
