"""The stored scores of a home."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from asdcore.recordings.catalog import Catalog
from asdcore.storage.home import Home
from tasks.results import COLUMNS, INDEX, add_to_index, scored_machines, stored_scores

NORMAL = {"score": 1.0, "p_value": 0.6, "verdict": "normal", "triggered_by": "", "reason": ""}
STRANGE = {"score": 9.0, "p_value": 0.01, "verdict": "anomalous", "triggered_by": "spectrum", "reason": ""}
BROKEN = {"score": None, "p_value": None, "verdict": "", "triggered_by": "", "reason": "unreadable"}


def scoring_run(home: Home, stamp: str, *rows: dict[str, object]) -> Path:
    """A score table as `asd score` leaves it."""
    table = home.scores / f"score-{stamp}-ab12.parquet"
    common = {"machine": "pump", "recording": "0a", "in_training": False, "clips": 1, "strangest_at": 0.0}
    made = pd.DataFrame([{"path": "pump/a.wav", **common, **row} for row in rows]).assign(detector="3")
    table.parent.mkdir(parents=True, exist_ok=True)
    made.astype({"score": float, "p_value": float}).to_parquet(table)
    return table


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path / "home")


def test_the_newest_run_comes_first_and_in_it_the_strangest(home: Home) -> None:
    scoring_run(home, "20260501T080000", NORMAL)
    table = scoring_run(home, "20260502T080000", BROKEN, NORMAL, STRANGE)
    rows, counts = stored_scores(home)
    assert [row["verdict"] for row in rows] == ["anomalous", "normal", "not scored", "normal"]
    assert rows[0] == {
        **dict(zip(COLUMNS, rows[0].values(), strict=True)),
        "scored_at": "2026-05-02T08:00:00+00:00",
        "score": 9.0,
        "triggered_by": "spectrum",
        "in_training": False,
        "reason": None,
        "table": str(table),
    }
    assert rows[2]["score"] is None and rows[2]["reason"] == "unreadable"
    assert counts == {"anomalous": 1, "normal": 2, "not scored": 1}


def test_scores_are_chosen_by_machine_time_and_verdict_and_counted_beyond_the_most_that_are_wanted(home: Home) -> None:
    scoring_run(home, "20260501T080000", NORMAL, STRANGE | {"machine": "fan"})
    scoring_run(home, "20260503T080000", STRANGE, STRANGE | {"machine": "fan"})
    assert [row["machine"] for row in stored_scores(home, ["fan"]).rows] == ["fan", "fan"]
    assert len(stored_scores(home, since=datetime(2026, 5, 2, tzinfo=UTC)).rows) == 2
    assert len(stored_scores(home, ["pump"], verdicts=["suspect", "anomalous"]).rows) == 1
    rows, counts = stored_scores(home, verdicts=["anomalous"], most=1)
    assert (len(rows), counts) == (1, {"anomalous": 3})
    assert scored_machines(home) == ["fan", "pump"]


def test_a_run_that_comes_later_is_seen_and_one_that_was_deleted_is_not(home: Home) -> None:
    first = scoring_run(home, "20260501T080000", NORMAL)
    assert len(stored_scores(home).rows) == 1
    add_to_index(home, scoring_run(home, "20260502T080000", STRANGE))
    assert len(stored_scores(home).rows) == 2
    first.unlink()
    assert [row["verdict"] for row in stored_scores(home).rows] == ["anomalous"]


def test_a_label_is_what_a_person_or_the_name_of_the_file_says_and_not_what_a_detector_does(home: Home) -> None:
    catalog = Catalog(home.recordings)
    described = {"path": "/pump/a.wav", "machine": "pump", "split": "train", "label": "unknown", "reason": ""}
    ingested = {"ingested_at": datetime.now(UTC), "section": "00", "domain": "source", "attributes": "{}"}
    catalog.append([{"recording": "0a", **described, **ingested}])
    scoring_run(home, "20260501T080000", STRANGE)
    assert stored_scores(home).rows[0]["label"] is None
    catalog.label({"0a": "normal"}, "detector 3")
    assert stored_scores(home).rows[0]["label"] is None
    catalog.label({"0a": "anomaly"}, "anna")
    assert stored_scores(home).rows[0]["label"] == "anomaly"
    scoring_run(
        home, "20260502T080000", {**STRANGE, "recording": "0b", "path": "section_00_source_test_normal_0001.wav"}
    )
    assert stored_scores(home).rows[0]["label"] == "normal"


def test_a_persons_unknown_and_a_recording_that_is_forgotten_have_no_label(home: Home) -> None:
    catalog = Catalog(home.recordings)
    path = "/pump/section_00_source_test_anomaly_0001.wav"
    described = {"path": path, "machine": "pump", "split": "test", "label": "anomaly", "reason": ""}
    ingested = {"ingested_at": datetime.now(UTC), "section": "00", "domain": "source", "attributes": "{}"}
    catalog.append([{"recording": "0a", **described, **ingested}])
    scoring_run(home, "20260501T080000", STRANGE | {"path": path})
    catalog.label({"0a": "unknown"}, "anna")
    assert stored_scores(home).rows[0]["label"] is None
    catalog.label({"0a": "normal"}, "anna")
    assert stored_scores(home).rows[0]["label"] == "normal"
    catalog.forget(["0a"], "anna")
    assert stored_scores(home).rows[0]["label"] == "anomaly"  # What the name of the file says.
    catalog.forget(["0a"], None)
    assert stored_scores(home).rows[0]["label"] == "normal"


def test_a_damaged_table_is_named_and_costs_only_its_own_rows(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    scoring_run(home, "20260501T080000", NORMAL)
    broken = home.scores / "score-20260502T080000-ffff.parquet"
    broken.write_bytes(b"PAR1 cut off")
    (home.scores / ".score-20260503T080000-ffff.parquet.1.partial").write_bytes(b"being written")
    assert len(stored_scores(home).rows) == 1
    assert str(broken) in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\x00" + bytes(200)])
def test_a_damaged_index_is_made_again(home: Home, content: bytes) -> None:
    scoring_run(home, "20260501T080000", NORMAL)
    stored_scores(home)
    (home.root / INDEX).write_bytes(content)
    assert len(stored_scores(home).rows) == 1
    (home.root / INDEX).unlink()
    with sqlite3.connect(home.root / INDEX) as other_version:
        other_version.execute("PRAGMA user_version = 999")
    assert len(stored_scores(home).rows) == 1


def test_without_permission_to_write_an_index_the_tables_are_read(home: Home) -> None:
    scoring_run(home, "20260501T080000", NORMAL)
    (home.root / INDEX).mkdir()  # Root may write everywhere.
    assert len(stored_scores(home).rows) == 1


def test_tables_of_version_0_1_are_read(home: Home) -> None:
    home.scores.mkdir(parents=True)
    old = {"path": "a.wav", "recording": "0a", "machine": "pump", "score": 2.0, "decision": 1, "seen_by": "spectrum"}
    pd.DataFrame([{**old, "reason": "", "detector": "1"}]).to_parquet(
        home.scores / "score-20250501T080000-ab12.parquet"
    )
    row = stored_scores(home).rows[0]
    assert (row["verdict"], row["triggered_by"], row["p_value"]) == ("anomalous", "spectrum", None)


def _run_and_list(home: Home, number: int) -> None:
    for index in range(5):
        add_to_index(home, scoring_run(home, f"202605{number:02d}T0800{index:02d}", NORMAL))
        stored_scores(home)


def test_runs_that_score_and_list_at_the_same_time_lose_nothing(home: Home) -> None:
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(_run_and_list, [home] * 3, (1, 2, 3)))
    assert len(stored_scores(home).rows) == 15
    with sqlite3.connect(home.root / INDEX) as index:
        assert index.execute("SELECT count(*) FROM scores").fetchone() == (15,)


def test_an_empty_home_has_no_scores_and_stays_empty(home: Home) -> None:
    assert stored_scores(home) == ([], {})
    assert not home.root.exists()
