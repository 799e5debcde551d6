"""Labels of recordings that were only scored."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import tasks.labels
from asdcore.errors import AsdError
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.found import Found
from asdcore.settings import RecordingSettings
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home
from tasks.labels import label_recordings, scored_files
from tasks.results import Stored, stored_scores
from tests.tasks.test_results import BROKEN, NORMAL, STRANGE, scoring_run


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path / "home")


def record(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).normal(size=32_000), 16_000)
    return path


def test_a_recording_counts_as_it_was_scored_last_and_one_without_a_file_not_at_all(home: Home) -> None:
    scoring_run(home, "20260501T080000", NORMAL | {"machine": "mill"}, STRANGE | {"recording": "0b", "path": "-"})
    scoring_run(home, "20260502T080000", NORMAL, BROKEN | {"recording": "0c"})
    assert {digest: (str(file.path), file.machine) for digest, file in scored_files(home).items()} == {
        "0a": ("pump/a.wav", "pump")
    }


def test_a_damaged_score_table_does_not_keep_anybody_from_labelling(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [record(tmp_path / "pump" / f"{name}.wav", seed) for seed, name in enumerate(("a", "b"))]
    scoring_run(
        home, "20260501T080000", *(NORMAL | {"path": str(file), "recording": digest_of_file(file)} for file in files)
    )
    broken = home.scores / "score-20260502T080000-ffff.parquet"
    broken.write_bytes(b"PAR1 cut off")
    labels = label_recordings(home, [str(file) for file in files], "normal", "anna")
    assert labels == {digest_of_file(file): "normal" for file in files}
    assert str(broken) in capsys.readouterr().err


def test_stored_scores_are_read_once_however_many_names_are_in_no_table(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [record(tmp_path / "pump" / f"{name}.wav", seed) for seed, name in enumerate(("a", "b", "c"))]
    scoring_run(
        home, "20260501T080000", *(NORMAL | {"path": str(file), "recording": digest_of_file(file)} for file in files)
    )
    calls = []

    def counted(home: Home) -> Stored:
        calls.append(home)
        return stored_scores(home)

    monkeypatch.setattr(tasks.labels, "stored_scores", counted)
    label_recordings(home, [str(file) for file in files], "normal", "anna")
    assert len(calls) == 1
    with pytest.raises(AsdError, match="no recording of the table"):
        label_recordings(home, [str(record(tmp_path / "other.wav", 9))], "normal", "anna")


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_label_of_a_file_with_a_comment_is_that_of_the_sound_that_the_table_knows(
    home: Home, tmp_path: Path, forgotten: bool
) -> None:
    known = record(tmp_path / "pump" / "known.wav", 1)
    catalog = Catalog(home.recordings)
    catalog.ingest([Found(known, "pump")], RecordingSettings())
    if forgotten:
        catalog.forget(catalog.recordings["recording"], "anna")
    scored = tmp_path / "pump" / "scored.wav"
    samples, rate = soundfile.read(known, dtype="int16")
    with soundfile.SoundFile(scored, "w", rate, 1, "PCM_16") as file:
        file.comment = "sounds wrong"
        file.write(samples)
    scoring_run(home, "20260501T080000", NORMAL | {"path": str(scored), "recording": digest_of_file(scored)})

    assert label_recordings(home, [str(scored)], "anomaly", "anna") == {digest_of_file(known): "anomaly"}
    (row,) = Catalog(home.recordings).recordings.to_dict("records")
    assert (row["path"], row["label"], row["labelled_by"]) == (str(known), "anomaly", "anna")
