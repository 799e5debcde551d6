"""Where reports are, and which of them are old."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from asdcore.errors import AsdError
from asdcore.heard import COLUMNS
from asdcore.storage.home import Home
from tasks.reports import KEPT_DAYS, REPORT, day_page, delete_reports, old_reports, scores_since, written
from tests.tasks.test_results import BROKEN, NORMAL, STRANGE, scoring_run


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path / "home")


def made(path: Path, days_ago: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("page")
    at = time.time() - days_ago * 24 * 3600
    os.utime(path, (at, at))
    return path


def test_old_reports_are_deleted_and_plots_scores_and_new_reports_stay(home: Home) -> None:
    old = [
        made(home.reports / "retrain-version-1.html", KEPT_DAYS + 1),
        made(home.scores / "score-20260101T000000-0000" / REPORT, KEPT_DAYS + 1),
        made(home.scores / "score-20260102T000000-0000" / REPORT, KEPT_DAYS + 1),
    ]
    stay = [
        made(home.reports / "retrain-version-2.html", KEPT_DAYS - 1),
        made(home.scores / "score-20260102T000000-0000" / "01-new.png", KEPT_DAYS + 1),
        made(home.scores / "score-20260101T000000-0000.parquet", KEPT_DAYS + 1),
    ]
    assert old_reports(home) == sorted(old)
    delete_reports(old_reports(home))
    assert not any(path.exists() for path in old) and all(path.exists() for path in stay)
    assert not old[1].parent.exists() and old_reports(home) == []


def test_scores_since_a_time_are_those_of_the_runs_since_then_in_their_order(home: Home) -> None:
    for stamp, score in (("20260501T065959", 1.0), ("20260501T070000", 2.0), ("20260502T000000", 3.0)):
        scoring_run(home, stamp, NORMAL | {"score": score})
    pd.DataFrame({"machine": ["fan"]}).to_parquet(home.scores / "clips-score-20260502T000000-abcd.parquet")
    scores = scores_since(home, datetime(2026, 5, 1, 7, tzinfo=UTC))
    assert scores["score"].tolist() == [2.0, 3.0] and scores["detector"].tolist() == ["3", "3"]


def test_scores_since_a_time_have_the_values_of_their_tables(home: Home) -> None:
    table = pd.read_parquet(scoring_run(home, "20260501T070000", NORMAL, STRANGE, BROKEN))
    scores = scores_since(home, datetime(2026, 5, 1, tzinfo=UTC)).sort_values("score", ignore_index=True)
    assert set(scores) == set(COLUMNS) - {"decision"} | {"detector"}
    pd.testing.assert_frame_equal(scores[list(table)], table, check_dtype=False)


def test_a_damaged_table_is_named_and_hides_no_other_score(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    scoring_run(home, "20260501T070000", NORMAL)
    broken = made(home.scores / "score-20260501T080000-abcd.parquet")
    assert len(scores_since(home, datetime(2026, 5, 1, tzinfo=UTC))) == 1
    assert str(broken) in capsys.readouterr().err


def test_where_nothing_was_scored_it_says_so(home: Home) -> None:
    detector: Any = type("Detector", (), {"machines": {"fan": None}})
    with pytest.raises(AsdError, match=r"nothing was scored since 2026-05-01 .* of fan"):
        day_page(home, detector, "1", datetime(2026, 5, 1, 12).astimezone())


def test_a_page_that_can_not_be_made_leaves_what_was_there_and_says_why(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made(home.reports / "retrain-version-1.html")

    def page() -> str:
        raise ValueError("no such shape")

    assert written(before, page) == "" and before.read_text() == "page"
    assert "without a report: ValueError: no such shape" in capsys.readouterr().err
