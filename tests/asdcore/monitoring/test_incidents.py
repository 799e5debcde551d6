"""Incidents: they open once, last, and close, whatever is scored again and whoever writes at the same time."""

import multiprocessing
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asdcore.errors import AsdError
from asdcore.monitoring.following import NORMALS_TO_CLOSE, Rule, begin_following, follow, suspect_rate
from asdcore.monitoring.incident_store import reading
from asdcore.monitoring.incidents import (
    Incident,
    challenger_promoted,
    challenger_refused,
    close_incident,
    incidents,
    machine_renamed,
    machine_retired,
    open_incidents,
    run_completed,
    run_failed,
    streak_length,
)
from asdcore.normality.calibration import Calibration
from asdcore.normality.threshold import Threshold
from asdcore.storage.files import atomic_write
from asdcore.storage.home import Home

RULE = Rule(Threshold(0.05), streak=3)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.at(tmp_path / "home")
    begin_following(home)
    return home


def store_scores(
    home: Home, verdicts: str, names: Sequence[str] | None = None, machine: str = "pump", in_training: bool = False
) -> None:
    """A score table; each letter is a recording: n(ormal), s(uspect), a(nomalous), - not scored."""
    number = len(list(home.scores.glob("score-*")))
    names = names or [f"{number}-{index}" for index in range(len(verdicts))]
    words = {"n": "normal", "s": "suspect", "a": "anomalous", "-": ""}
    p_values = {"n": 0.5, "s": 0.04, "a": 0.01, "-": np.nan}
    rows = [
        {
            "path": f"/data/{name}.wav",
            "recording": f"{machine}-{name}",
            "machine": machine,
            "score": 1 / p_values[letter],
            "p_value": p_values[letter],
            "verdict": words[letter],
            "decision": pd.NA if letter == "-" else int(letter == "a"),
            "in_training": in_training,
        }
        for name, letter in zip(names, verdicts, strict=True)
    ]
    home.scores.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).astype({"decision": "Int64", "in_training": "boolean"}).to_parquet(
        home.scores / f"score-20260101T000000-{number:04d}.parquet"
    )


def store_drift(home: Home, sentences: Sequence[str], recordings: int = 20) -> None:
    number = len(list(home.scores.glob("drift-*")))
    row = {"machine": "pump", "sentences": list(sentences), "recordings": recordings, "not_scored": 0}
    home.scores.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row]).to_parquet(home.scores / f"drift-20260101T000000{number:06d}.parquet")


def followed(home: Home, rule: Rule = RULE) -> list[Incident]:
    follow(home, lambda machine: rule)
    return open_incidents(home)


def messages(home: Home) -> list[str]:
    with reading(home) as stored:
        assert stored is not None
        return [event for (event,) in stored.run("SELECT event FROM messages ORDER BY n")]


def test_an_anomaly_opens_once_names_its_worst_recording_and_closes_after_normal_ones(home: Home) -> None:
    store_scores(home, "na")
    (incident,) = followed(home)
    assert (incident.kind, incident.machine, incident.recordings) == ("anomaly", "pump", 1)
    assert incident.worst == "/data/0-1.wav" and incident.worst_p_value == 0.01
    assert "1 recording anomalous" in incident.sentence and "0-1.wav" in incident.sentence
    store_scores(home, "as" + "n" * (NORMALS_TO_CLOSE - 1))
    (incident,) = followed(home)
    assert incident.recordings == 3 and incident.normal_since == NORMALS_TO_CLOSE - 1
    assert messages(home) == ["opened"]
    store_scores(home, "n")
    assert followed(home) == []
    (incident,) = incidents(home)
    assert incident.closed is not None and incident.closed_by == "10 normal recordings in a row"
    assert messages(home) == ["opened", "closed"]


def test_an_incident_that_opens_in_a_run_lasts_until_a_later_one(home: Home) -> None:
    store_scores(home, "a" + "n" * 30)
    assert len(followed(home)) == 1
    store_scores(home, "n")
    assert followed(home) == []


def test_a_recording_counts_once_however_often_it_is_scored(home: Home) -> None:
    for _ in range(3):
        store_scores(home, "an", names=["x", "y"])
    (incident,) = followed(home)
    assert (incident.recordings, incident.normal_since) == (1, 1)
    close_incident(home, incident.id, "anna")
    store_scores(home, "an", names=["x", "y"])
    assert followed(home) == []


def test_training_recordings_and_those_not_scored_neither_open_nor_close(home: Home) -> None:
    store_scores(home, "aaaa", in_training=True)
    store_scores(home, "----")
    assert followed(home) == []
    store_scores(home, "a")
    store_scores(home, "n" * 20, in_training=True)
    store_scores(home, "-" * 20)
    assert followed(home)[0].normal_since == 0


def test_suspect_recordings_open_an_incident_only_in_a_row_of_the_machines_length(home: Home) -> None:
    store_scores(home, "ssnss")
    assert followed(home) == []
    store_scores(home, "s")
    (incident,) = followed(home)
    assert incident.kind == "suspect streak" and incident.recordings == 3
    store_scores(home, "ss")
    assert followed(home)[0].recordings == 5


def test_no_suspect_streak_opens_beside_an_anomaly_and_an_anomaly_opens_beside_a_streak(home: Home) -> None:
    store_scores(home, "asss")
    assert [incident.kind for incident in followed(home)] == ["anomaly"]
    store_scores(home, "sssa", machine="fan")
    assert {one.kind for one in followed(home) if one.machine == "fan"} == {"anomaly", "suspect streak"}


def test_an_alarm_rule_of_the_machine_is_followed_across_runs(home: Home) -> None:
    rule = Rule(Threshold(0.05, 3, 5), streak=9)
    store_scores(home, "ana")
    assert followed(home, rule) == []
    store_scores(home, "na")
    (incident,) = followed(home, rule)
    assert incident.recordings == 3
    close_incident(home, incident.id, "anna")
    store_scores(home, "n")
    assert followed(home, rule) == []


def test_drift_opens_where_it_begins_and_closes_with_a_conclusive_run_without_it(home: Home) -> None:
    store_drift(home, ["The level has changed."], recordings=1)
    assert followed(home) == []
    store_drift(home, ["The sound drifts."])
    store_drift(home, ["The sound drifts.", "And more."])
    (incident,) = followed(home)
    assert (incident.kind, incident.recordings) == ("drift", 40) and incident.sentence == "The sound drifts. And more."
    store_drift(home, [], recordings=3)
    assert len(followed(home)) == 1
    store_drift(home, [])
    assert followed(home) == []
    assert messages(home) == ["opened", "closed"]


def test_drift_that_a_person_has_closed_stays_closed_until_it_begins_anew(home: Home) -> None:
    store_drift(home, ["The sound drifts."])
    close_incident(home, followed(home)[0].id, "anna")
    store_drift(home, ["The sound drifts."])
    assert followed(home) == []
    store_drift(home, [])
    store_drift(home, ["The sound drifts."])
    assert len(followed(home)) == 1


def test_a_failed_run_is_over_when_the_flow_completes(home: Home) -> None:
    run_completed(home, "retrain")
    run_failed(home, "retrain", "The disk is full.")
    run_failed(home, "score", "No champion.")
    run_failed(home, "retrain", "The disk is full again.")
    score, retrain = open_incidents(home)
    assert (retrain.subject, retrain.recordings, retrain.sentence) == ("retrain", 2, "The disk is full again.")
    run_completed(home, "retrain")
    assert open_incidents(home) == [score]


def test_a_refused_challenger_is_over_when_one_is_promoted(home: Home) -> None:
    challenger_refused(home, "Version 3 is worse.")
    challenger_refused(home, "Version 4 is worse.")
    (incident,) = open_incidents(home)
    assert incident.recordings == 2
    challenger_promoted(home, "the gate")
    assert incidents(home)[0].closed_by == "the gate"


def test_scores_from_before_the_first_look_open_nothing(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    assert open_incidents(home) == []
    store_scores(home, "aaa")
    begin_following(home)
    assert followed(home) == []


def test_a_table_that_cannot_be_read_does_not_hide_the_others(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    store_scores(home, "a")
    (home.scores / "score-19990101T000000-0000.parquet").write_bytes(b"damaged")
    assert len(followed(home)) == 1
    assert "score-19990101T000000-0000.parquet could not be read for incidents" in capsys.readouterr().err


def test_incidents_are_found_by_machine_and_time_and_survive_json(home: Home) -> None:
    store_scores(home, "a", machine="fan")
    store_scores(home, "a", machine="pump")
    _, fan = followed(home)
    assert incidents(home, machine="fan") == [fan] and Incident.from_json(fan.to_json()) == fan
    close_incident(home, fan.id[:6], "anna")
    now = datetime.now(UTC)
    assert len(incidents(home, since=now - timedelta(hours=1))) == 2
    assert [one.machine for one in incidents(home, since=now + timedelta(hours=1))] == ["pump"]


def test_closing_what_is_not_open_says_so(home: Home) -> None:
    with pytest.raises(AsdError, match="no open incident ffff"):
        close_incident(home, "ffff", "anna")
    with pytest.raises(AsdError, match="no open incident"):
        close_incident(home, "", "anna")


def test_a_streak_is_as_long_as_makes_it_rare() -> None:
    ten, many = Calibration().fit(np.arange(10.0)), Calibration().fit(np.arange(5000.0))
    assert suspect_rate(0.01, ten) == pytest.approx(1 / 11) and suspect_rate(0.01, many) == 0.01
    for rate in (0.01, 0.05, 1 / 11, 0.3, 0.5):
        n = streak_length(rate)
        assert rate**n <= 1e-4 * (1 + 1e-9) and (n == 2 or rate ** (n - 1) > 1e-4)
    with pytest.raises(AsdError, match="suspect_rate is 1"):
        streak_length(1.0)


def write_and_follow(root: Path, writer: int) -> None:
    home = Home.at(root)
    for number in range(5):
        machine, name = "pump", f"{writer}-{number}"
        row = {"path": f"/data/{name}.wav", "recording": name, "machine": machine, "score": 9.0, "p_value": 0.01}
        table = pd.DataFrame([row | {"verdict": "anomalous", "decision": 1, "in_training": False}])
        with atomic_write(home.scores / f"score-20260101T000000-{name}.parquet") as temporary:
            table.to_parquet(temporary)
        follow(home, lambda _: RULE)


def test_two_processes_at_once_open_one_incident_and_count_every_recording(home: Home) -> None:
    home.scores.mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_and_follow, args=(home.root, writer)) for writer in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    (incident,) = open_incidents(home)
    assert incident.recordings == 10 and messages(home) == ["opened"]


def test_a_file_of_a_newer_format_and_a_damaged_one_are_refused(home: Home) -> None:
    with sqlite3.connect(home.incidents) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(AsdError, match="format 99, of a newer asd"):
        open_incidents(home)
    home.incidents.write_bytes(b"not a database" * 1000)
    with pytest.raises(AsdError, match="next scoring run sets it aside"):
        open_incidents(home)


def test_an_incident_of_a_newer_version_is_read_without_the_fields_that_are_not_known_here(home: Home) -> None:
    store_scores(home, "na")
    (incident,) = followed(home)
    assert Incident.from_json(incident.to_json() | {"severity": 3}) == incident


def test_an_incident_of_a_renamed_machine_goes_on_and_closes_under_the_new_name(home: Home) -> None:
    store_scores(home, "na", names=["usual", "strange"])
    store_drift(home, ["it is louder"])
    before = followed(home)
    machine_renamed(home, "pump", "press")
    assert [(one.id, one.machine, one.subject) for one in open_incidents(home)] == [
        (one.id, "press", "press") for one in before
    ]
    assert len(before) == 2 and incidents(home, machine="pump") == []
    # The same recording, scored again: digests do not change with the name of a machine.
    table = pd.read_parquet(home.scores / "score-20260101T000000-0000.parquet")
    table.assign(machine="press").to_parquet(home.scores / "score-20260102T000000-0000.parquet")
    anomaly = next(one for one in followed(home) if one.kind == "anomaly")
    assert (anomaly.recordings, anomaly.normal_since) == (1, 0)
    store_scores(home, "n" * NORMALS_TO_CLOSE, machine="press")
    assert [one.kind for one in followed(home)] == ["drift"]


def test_a_name_that_incidents_know_already_keeps_what_they_know(home: Home) -> None:
    store_scores(home, "s", names=["a"])
    store_scores(home, "s", names=["a"], machine="press")
    followed(home)
    machine_renamed(home, "pump", "press")
    with reading(home) as stored:
        assert stored is not None and stored.recent("pump") == "[]" and "/data/a.wav" in stored.recent("press")


def test_incidents_of_a_retired_machine_close_and_those_of_others_last(home: Home) -> None:
    store_scores(home, "a")
    store_scores(home, "a", machine="fan")
    store_drift(home, ["it is louder"])
    assert len(followed(home)) == 3
    machine_retired(home, "pump")
    assert [one.machine for one in open_incidents(home)] == ["fan"]
    assert {one.closed_by for one in incidents(home) if one.machine == "pump"} == {"retired"}


def test_a_home_without_incidents_gets_none_by_a_rename_or_a_retirement(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "another")
    machine_renamed(home, "pump", "press")
    machine_retired(home, "pump")
    assert not home.root.exists()
