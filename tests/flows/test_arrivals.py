"""Recordings that arrive by themselves: judged, and learned where they bring a new session."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from prefect.logging import disable_run_logger

from asdcore.recordings.catalog import Catalog
from asdcore.recordings.training import pending_review
from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.arrivals import _reported, arrivals, worth_fitting
from flows.ingest import ingest
from flows.retrain import retrain
from flows.watching import Waiting
from tasks.registered import load_detector, registered_settings
from tasks.registry import set_challenger, set_champion

pytestmark = pytest.mark.flow

RATE = 16_000


def record_day(folder: Path, day: int, hertz: float = 200.0) -> list[Path]:
    """Six recordings of a hum in noise; each day has a level of its own."""
    rng = np.random.default_rng(day)
    level, paths = 0.1 * 10 ** (rng.normal() / 20), []
    for number in range(6):
        path = folder / "pump7" / f"2026-05-{day:02d}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        t = np.arange(RATE) / RATE
        hum = np.sin(2 * np.pi * hertz * (1 + 0.01 * rng.normal()) * t) + 0.3 * rng.normal(size=RATE)
        soundfile.write(path, level * hum, RATE, subtype="FLOAT")
        paths.append(path)
    return paths


def test_a_new_normal_session_is_learned_at_once_and_a_strange_one_waits(
    prefect_api: str, home: Home, tmp_path: Path, small_settings: Settings
) -> None:
    place = tmp_path / "plant"
    for day in range(1, 5):
        record_day(place, day)
    normality = small_settings.normality.model_copy(update={"scorers": ("spectrum", "change")})
    base = small_settings.training.model_copy(update={"encoder": "base"})
    settings = small_settings.model_copy(update={"normality": normality, "training": base})
    first = retrain(recordings=place, settings=settings, home=home.root)
    assert worth_fitting(home, load_detector(home)[0]) == []

    strange = record_day(place, 5, hertz=900.0)
    ingest(place, settings.recordings, arrived=strange, home=home.root)
    judged = arrivals(retrain_after=10, home=home.root)
    assert judged["waiting"] == sorted(str(path) for path in strange) and judged["fitted_again"] == []
    assert load_detector(home)[1] == first["version"]
    day = Path(judged["report"]).read_text()
    assert (
        "6 recordings since" in day and "They are not used for training until" in day and "normal, no alarm" not in day
    )

    normal = record_day(place, 6)
    ingest(place, settings.recordings, arrived=normal, home=home.root)
    judged = arrivals(retrain_after=6, home=home.root)
    assert judged["machines"]["pump7"]["normal"] >= 1
    assert judged["fitted_again"] == ["pump7"]
    # The day has one report, which grows.
    assert list(home.reports.glob("scores-since-*")) == [Path(judged["report"])]
    assert "12 recordings since" in Path(judged["report"]).read_text()
    detector, version = load_detector(home)
    assert int(version) == int(first["version"]) + 1
    assert len(detector.machines["pump7"].clips) == 24 + judged["machines"]["pump7"]["normal"]
    assert detector.machines["pump7"].calibration.n_effective_ > 1
    # No strange one has been learned, and what was learned without training the encoder still counts towards one.
    assert len(pending_review(Catalog(home.recordings).recordings)) >= len(strange)
    assert detector.about["enrolled"]["pump7"]["at_last_training"] == 24
    assert worth_fitting(home, detector) == []


def test_a_report_that_cannot_be_written_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with disable_run_logger():
        assert _reported(Home.at(tmp_path / "empty"), "champion") == ""
    assert "the report of this day could not be written" in capsys.readouterr().err


def test_what_a_killed_run_has_scored_and_not_settled_is_settled_without_being_scored_again(
    prefect_api: str, home: Home, tmp_path: Path, small_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (record_day(tmp_path / "plant", day) for day in (8, 9))
    ingest(tmp_path / "plant", small_settings.recordings, arrived=first, home=home.root)
    before = set(home.scores.glob("score-*.parquet"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Catalog, "label", killed)
        with pytest.raises(KeyboardInterrupt):
            arrivals.fn(home=home.root)
    ingest(tmp_path / "plant", small_settings.recordings, arrived=second, home=home.root)
    judged = arrivals(retrain_after=1000, home=home.root)
    tables = [pd.read_parquet(path) for path in set(home.scores.glob("score-*.parquet")) - before]
    assert sorted(pd.concat(tables)["path"]) == sorted(map(str, first + second))
    assert sum(judged["machines"]["pump7"].values()) == 12 and judged["machines"]["pump7"]["not scored"] == 0
    rows = Catalog(home.recordings).recordings.set_index("path").loc[[*map(str, first + second)]]
    assert rows["labelled_by"].str.startswith("detector ").all()


def test_a_file_that_was_deleted_or_replaced_since_it_was_ingested_is_left_alone_and_the_others_are_judged(
    prefect_api: str, home: Home, tmp_path: Path, small_settings: Settings
) -> None:
    deleted, replaced, *others = record_day(tmp_path / "plant", day=10)
    ingest(tmp_path / "plant", small_settings.recordings, arrived=[deleted, replaced, *others], home=home.root)
    before = set(home.scores.glob("score-*.parquet"))
    replaced.write_bytes(deleted.read_bytes())
    deleted.unlink()
    counts = arrivals(retrain_after=1000, home=home.root)["machines"]["pump7"]
    assert counts["not scored"] == 2 and counts["normal"] + counts["waiting"] == len(others)
    (table,) = set(home.scores.glob("score-*.parquet")) - before
    assert sorted(pd.read_parquet(table)["path"]) == sorted(map(str, others))


def test_a_challenger_that_was_refused_is_not_trained_again_before_there_are_new_recordings(
    prefect_api: str, home: Home, tmp_path: Path
) -> None:
    champion, settings = load_detector(home)[1], registered_settings(home, "champion")
    again = retrain(settings=settings, home=home.root)
    for version in (again["version"], champion):  # What is promoted is no challenger any more.
        set_champion(home, version, "by a person")
    assert "new normal recordings" in arrivals(retrain_after=1, home=home.root)["retraining_due"]
    set_challenger(home, again["version"])
    assert arrivals(retrain_after=1, home=home.root)["retraining_due"] == ""


def test_what_waits_while_the_home_is_used_is_done_when_it_is_free(
    prefect_api: str, home: Home, tmp_path: Path, small_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("flows.watching.SECONDS_BETWEEN_MESSAGES", 0.0)
    new, said = record_day(tmp_path / "plant", day=12), list[str]()
    ingest(tmp_path / "plant", small_settings.recordings, arrived=new, home=home.root)
    waiting = Waiting(home, 1, said.append)
    code = (
        "import sys; from asdcore.storage.home import Home\nwith Home.at(sys.argv[1]).lock(): print(); sys.stdin.read()"
    )
    command = [sys.executable, "-uc", code, str(home.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        for _ in range(2):
            waiting.judge()
        labelled = Catalog(home.recordings).recordings.set_index("path").loc[[*map(str, new)], "labelled_by"]
        assert labelled.str.startswith("detector ").all()
        told = "\n".join(said)
        assert told.count(f"process {other.pid} is using") == 1 and "retraining is due" not in told
        other.kill()
    for _ in range(2):
        waiting.judge()
    assert "\n".join(said).count("A retraining is due") == 1
