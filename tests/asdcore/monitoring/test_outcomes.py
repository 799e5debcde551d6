"""The first line of every report: faults caught, false alarms in unseen sessions."""

import numpy as np
import pandas as pd

from asdcore.monitoring.outcomes import FAULTY, HEARD, UNKNOWN, UNSEEN, outcome_lines, outcomes, with_session_heard


def scored(*rows: tuple[str, str, str, bool | None]) -> pd.DataFrame:
    """label, verdict, session, session_heard of each recording of one machine; anomalies score highest."""
    table = pd.DataFrame(rows, columns=["label", "verdict", "session", "session_heard"])
    score = np.arange(len(table)) + 100.0 * (table["label"] == "anomaly")
    return table.assign(machine="fan", score=score, session_heard=table["session_heard"].astype("boolean"))


def test_sessions_of_the_training_are_told_from_unseen_and_unknown_ones() -> None:
    rows = [
        ("fan", "train", "normal", "monday"),
        ("fan", "test", "normal", "monday"),
        ("fan", "test", "normal", "friday"),
        ("fan", "test", "normal", ""),
        ("pump", "test", "normal", "monday"),
        ("pump", "train", "unknown", "friday"),
        ("pump", "test", "normal", "friday"),
    ]
    table = pd.DataFrame(rows, columns=["machine", "split", "label", "session"])
    heard = with_session_heard(table)["session_heard"].tolist()
    assert heard == [True, True, False, pd.NA, False, False, False]


def test_suspect_and_anomalous_are_counted_together_and_apart() -> None:
    table = outcomes(
        scored(
            ("anomaly", "anomalous", "broken", False),
            ("anomaly", "suspect", "broken", False),
            ("anomaly", "normal", "broken", False),
            ("normal", "suspect", "tuesday", False),
            ("normal", "normal", "wednesday", False),
            ("normal", "anomalous", "monday", True),
            ("normal", "normal", "", None),
            ("unknown", "anomalous", "tuesday", False),
        )
    ).set_index("recordings_of")
    assert table[["n", "anomalous", "suspect", "sessions"]].T.to_dict("list") == {
        FAULTY: [3, 1, 1, 1],
        UNSEEN: [2, 0, 1, 2],
        HEARD: [1, 1, 0, 1],
        UNKNOWN: [1, 0, 0, 0],
    }
    (line,) = outcome_lines(table.reset_index(), 0.05)
    assert line == (
        "fan: caught 2 of 3 faulty recordings (95 % interval 9 to 99 %; 1 of them only suspect), "
        "false alarms 1 of 2 normal recordings of 2 unseen sessions (1 to 99 %; 1 of them only suspect), "
        "1 of 1 normal recordings of 1 session of the training (3 to 100 %), "
        "0 of 1 normal recordings, sessions unknown (0 to 98 %); 5 % asked; AUC 100.0 %"
    )


def test_a_machines_own_rate_is_named_and_that_of_the_others_is_not() -> None:
    both = pd.concat([scored(("normal", "normal", "b", False)).assign(machine=name) for name in ("fan", "pump")])
    fan, pump = outcome_lines(outcomes(both), 0.1, {"fan": 0.05})
    assert fan.endswith("; 5 % asked, its own rate") and pump.endswith("; 10 % asked")


def test_a_machine_without_faulty_or_without_normal_recordings_has_no_auc() -> None:
    (line,) = outcome_lines(outcomes(scored(("normal", "normal", "b", False))), 0.1)
    assert line.startswith(
        "fan: no faulty test recordings, false alarms 0 of 1 normal recordings of 1 unseen session ("
    )
    assert "AUC" not in line
    (line,) = outcome_lines(outcomes(scored(("anomaly", "normal", "", None))), 0.1)
    assert "caught 0 of 1 faulty recordings" in line and "no normal test recordings" in line


def test_an_infinite_score_ranks_highest() -> None:
    table = scored(("anomaly", "anomalous", "broken", False), ("normal", "normal", "tuesday", False))
    table["score"] = [np.inf, 1.0]
    assert outcomes(table)["auc"].tolist() == [1.0, 1.0]


def test_without_verdicts_nothing_is_claimed() -> None:
    table = scored(("normal", "normal", "b", False)).assign(verdict=None)
    assert outcome_lines(outcomes(table), 0.1) == []
