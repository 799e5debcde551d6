"""The lines about training recordings that a retraining and an enrolment end with."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from asdcore.evaluation.systems import detector_system
from asdcore.settings import NormalitySettings
from tasks import screening


def clips(machine: str, n: int) -> pd.DataFrame:
    names = [f"{machine}{index}" for index in range(n)]
    described = {"machine": machine, "domain": "source", "split": "train", "label": "normal", "session": ""}
    return pd.DataFrame({"recording": names, "path": [f"{name}.wav" for name in names], **described})


def test_a_few_lines_for_a_machine_where_something_stands_out_and_none_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[str] = []

    def screen_training(machine: str, *_: Any) -> SimpleNamespace:
        heard.append(machine)
        first = [[f"pump{index}", "change"] for index in range(3)]
        loud = {"stand_out": 4, "sentence": "pump: listen to these 4 of 20 first", "first": first}
        return SimpleNamespace(facts=loud if machine == "pump" else {"stand_out": 0})

    monkeypatch.setattr(screening, "screen_training", screen_training)
    stores: Any = dict.fromkeys(("mean", "change", "h"))
    chosen = pd.concat([clips("fan", 20), clips("few", 3), clips("pump", 20)], ignore_index=True)
    lines = screening.listen_first(screening.training_screened(stores, chosen, detector_system(NormalitySettings())))
    assert lines == [
        "pump: listen to these 4 of 20 first",
        *(f"  pump{index}.wav (change)" for index in range(3)),
        "  and 1 more",
    ]
    assert heard == ["fan", "pump"]
