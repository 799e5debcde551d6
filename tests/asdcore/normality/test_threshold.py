"""A machine's own threshold: its rate, and its rule over several recordings."""

import numpy as np
import pytest

from asdcore.errors import AsdError
from asdcore.normality.threshold import Threshold, rule_of


@pytest.mark.parametrize(("needed", "last"), [(1, 1), (2, 3), (3, 5), (3, 3)])
def test_false_alarms_begin_as_often_as_expected(needed: int, last: int) -> None:
    threshold = Threshold(0.2, needed, last)
    decisions = (np.random.default_rng(0).random(60_000) < 0.2).astype(int).tolist()
    begun = len(threshold.alarms(decisions)) / len(decisions)
    assert begun == pytest.approx(threshold.per_recording(), rel=0.15)


def test_sessions_that_are_alike_make_fewer_alarms_of_one_recording_and_more_of_several() -> None:
    rng = np.random.default_rng(0)
    # Sessions of 20 recordings whose own rates differ around 5 %.
    decisions = (rng.random((3000, 20)) < rng.beta(0.1, 1.9, size=(3000, 1))).astype(int).ravel().tolist()
    assert np.mean(decisions) == pytest.approx(0.05, abs=0.01)
    one, several = Threshold(0.05), Threshold(0.05, 3, 5)
    assert len(one.alarms(decisions)) / len(decisions) < 0.7 * one.per_recording()
    assert len(several.alarms(decisions)) / len(decisions) > 3 * several.per_recording()


def test_an_alarm_that_lasts_is_one_alarm() -> None:
    assert Threshold(0.05, 2, 3).alarms([0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1]) == [2, 10]
    assert Threshold(0.05).alarms([1, 1, 0, 1]) == [0, 3]


def test_a_machine_stays_in_alarm_until_fewer_are_anomalous() -> None:
    assert Threshold(0.05, 2, 3).in_alarm([1, 1, 0, 1, 0, 0]) == [False, True, True, True, False, False]


@pytest.mark.parametrize("values", [(0.0, 1, 1), (1.0, 1, 1), (0.1, 0, 1), (0.1, 4, 3)])
def test_a_threshold_that_makes_no_sense_is_refused(values: tuple[float, int, int]) -> None:
    with pytest.raises(AsdError):
        Threshold(*values)


@pytest.mark.parametrize("text", ["", "3", "3/", "a/b", "-1/3"])
def test_a_rule_that_cannot_be_read_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(AsdError, match="such as 3/5"):
        rule_of(text)
