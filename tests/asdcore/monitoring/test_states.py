"""The state of a machine: that of the strangest of its latest new recordings, unless a person says what they are."""

from typing import Any

import pandas as pd
import pytest

from asdcore.monitoring.states import in_order, judged, machine_states

NOTHING = {"machine": "pump", "path": "", "session": "", "label": None, "labelled_by": None, "in_training": False}


def scored(*runs: dict[str, str], **of_all: Any) -> pd.DataFrame:
    """Stored scores. ``runs``: recording: verdict; an hour after each other."""
    times = pd.date_range("2026-05-01", periods=len(runs), freq="h", tz="UTC")
    rows = [
        NOTHING | {"recording": name, "verdict": verdict, "at": at} | of_all
        for at, run in zip(times, runs, strict=True)
        for name, verdict in run.items()
    ]
    return pd.DataFrame(rows)


def state(scores: pd.DataFrame) -> str:
    rows = in_order(scores)
    (one,) = machine_states(rows.assign(now=judged(rows)))
    return one.state


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([{"a": "normal"}], "normal"),
        ([{"a": "normal", "b": "anomalous", "c": "suspect"}], "anomalous"),
        ([{"a": "anomalous"}, {"b": "normal"}], "normal"),
        ([{"a": "normal"}, {"b": "suspect", "c": "not scored"}], "suspect"),
        ([{"a": "not scored", "b": "normal"}], "not scored"),
    ],
)
def test_the_strangest_of_the_latest_run_says_the_state(runs: list[dict[str, str]], expected: str) -> None:
    assert state(scored(*runs)) == expected


def test_a_folder_that_is_scored_every_hour_is_no_news() -> None:
    again = {"a": "anomalous", "b": "normal"}
    assert state(scored({"a": "anomalous"}, again, again)) == "normal"
    rows = in_order(scored({"a": "suspect"}, {"a": "anomalous", "b": "normal"}))
    assert dict(zip(rows["recording"], rows["verdict"], strict=True)) == {"a": "anomalous", "b": "normal"}


@pytest.mark.parametrize(
    ("label", "by", "expected"),
    [("normal", "Anna", "normal"), ("anomaly", "Anna", "anomalous"), ("unknown", "Anna", "suspect")],
)
def test_what_a_person_says_counts_instead_of_the_verdict(label: str, by: str, expected: str) -> None:
    assert state(scored({"a": "suspect"}, label=label, labelled_by=by)) == expected


def test_what_only_the_place_of_a_file_says_does_not_count() -> None:
    assert state(scored({"a": "suspect"}, label="normal")) == "suspect"


def test_recordings_of_the_training_count_only_where_there_are_no_others() -> None:
    training = scored({"a": "suspect"}, in_training=True)
    assert state(training) == "suspect"
    assert state(pd.concat([scored({"b": "normal"}), training], ignore_index=True)) == "normal"


def test_recordings_of_a_session_stand_together_within_a_run() -> None:
    rows = scored({"a": "normal", "b": "normal", "c": "normal"}).assign(session=["monday", "tuesday", "monday"])
    assert in_order(rows)["recording"].tolist() == ["a", "c", "b"]


def test_unreadable_files_which_have_no_digest_are_told_apart_by_their_path() -> None:
    rows = scored({"": "not scored"}, {"": "not scored"}).assign(path=["a.wav", "b.wav"])
    assert in_order(rows)["path"].tolist() == ["a.wav", "b.wav"]


def test_no_recordings_have_no_states() -> None:
    assert machine_states(pd.DataFrame()) == []
