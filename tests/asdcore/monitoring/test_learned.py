"""What a champion thinks of new recordings that are labelled normal."""

import numpy as np
import pandas as pd
import pytest

from asdcore.monitoring.learned import Learned, learned, rank_p_value, to_decide
from asdcore.normality.calibration import Calibration
from asdcore.normality.machine import NORMAL, SUSPECT


def judged(scores: list[float], strange: int, session: str = "") -> pd.DataFrame:
    """New recordings, of which the last ones, with the highest scores, are suspect."""
    names = [f"{session}{index}" for index in range(len(scores))]
    verdicts = [NORMAL] * (len(scores) - strange) + [SUSPECT] * strange
    rows = {"recording": names, "path": [f"/new/{name}.wav" for name in names], "session": session}
    return pd.DataFrame(rows | {"score": sorted(scores), "verdict": verdicts})


@pytest.fixture
def calibration() -> Calibration:
    return Calibration().fit(np.random.default_rng(0).normal(size=60))


def test_faults_of_which_few_are_suspect_are_known_by_their_ranks(calibration: Calibration) -> None:
    rng = np.random.default_rng(1)
    faults = learned(calibration, judged(rng.normal(1.2, size=12).tolist(), 1))
    assert "12 recordings newly labelled normal sound stranger to the champion" in faults.objection("pump", 0.01)
    assert "(11.wav, 10.wav, 9.wav first)" in faults.objection("pump", 0.01)


def test_unchanged_recordings_are_objected_to_once_in_a_hundred_times_at_most() -> None:
    rng = np.random.default_rng(2)
    refused = [
        bool(learned(Calibration().fit(rng.normal(size=40)), judged(rng.normal(size=10).tolist(), 0)).objection("a", 0))
        for _ in range(500)
    ]
    assert np.mean(refused) <= 0.02


def test_one_new_session_says_no_more_than_a_single_recording_where_sessions_are_known() -> None:
    rng = np.random.default_rng(3)
    days = np.repeat(np.arange(8), 6)
    calibration = Calibration().fit(rng.normal(size=8)[days] + 0.2 * rng.normal(size=48), groups=days)
    loud = 2 + 0.2 * rng.normal(size=6)
    assert rank_p_value(calibration, loud, ["2026-05-09"] * 6) > 0.01
    assert rank_p_value(calibration, np.tile(loud, 5), np.repeat(np.arange(5), 6)) < 0.01
    assert rank_p_value(calibration, [], []) == 1


def test_all_of_a_strange_session_wait_and_of_another_one_only_what_is_strange(calibration: Calibration) -> None:
    rng = np.random.default_rng(4)
    faults, day = judged([2.0] * 12, 5, "monday"), judged(rng.normal(size=12).tolist(), 1, "tuesday")
    waiting, objections = to_decide("pump", calibration, pd.concat([faults, day]), 0.01)
    assert set(waiting) == {*faults["recording"], "tuesday11"}
    assert len(objections) == 1 and "calls 5 suspect or anomalous" in objections[0]
    assert to_decide("pump", calibration, faults.iloc[:0], 0.01) == ([], [])
    assert Learned(0, 0, 1.0).objection("pump", 0.01) == ""
