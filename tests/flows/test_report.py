"""``--since``, of `asd report` and `asd results`."""

from datetime import datetime, timedelta

import pytest
import typer

from flows.cli.options import since_of

NOW = datetime(2026, 5, 2, 13, 30).astimezone()


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("12h", NOW - timedelta(hours=12)),
        ("2 W", NOW - timedelta(weeks=2)),
        ("2026-05-01", datetime(2026, 5, 1).astimezone()),
        ("2026-05-01T06:00", datetime(2026, 5, 1, 6).astimezone()),
    ],
)
def test_a_time_is_a_date_or_how_long_ago(text: str, begin: datetime) -> None:
    assert since_of(text, NOW) == begin


@pytest.mark.parametrize("text", ["yesterday", "", "12", "99999999999d", "2026-13-01", "2026-05-03"])
def test_what_is_no_time_or_in_the_future_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"is not a time; write 2026-05-01|is in the future"):
        since_of(text, NOW)
