"""What somebody looks at before it becomes normal training data, and who has the last word."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from asdcore.recordings.catalog import Catalog, Ingested
from asdcore.recordings.names import find_recordings
from asdcore.recordings.training import pending_review, training_recordings
from asdcore.settings import RecordingSettings


@pytest.fixture
def place(tmp_path: Path, record: Callable[..., Path]) -> Path:
    for index, name in enumerate(("monday", "tuesday", "wednesday")):
        record(tmp_path / "place" / "pump" / f"{name}.wav", index)
    return tmp_path / "place"


class Reviewer:
    """Doubts what was recorded on a Tuesday, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
        self.shown += [Path(row["path"]).stem for row in rows]
        return {row["recording"]: "detector 3" for row in rows if "tuesday" in row["path"]}


def ingest(home: Path, place: Path, review: Reviewer) -> Ingested:
    return Catalog(home).ingest(find_recordings(place), RecordingSettings(), review)


def test_what_is_doubted_waits_and_nothing_that_is_known_is_looked_at_again(
    tmp_path: Path, place: Path, record: Callable[..., Path]
) -> None:
    review = Reviewer()
    record(place / "pump" / "test" / "section_00_source_test_normal_0000.wav", 8)
    done = ingest(tmp_path, place, review)
    assert sorted(review.shown) == ["monday", "tuesday", "wednesday"]  # A test recording never trains.
    assert done.added == 4 and done.pending == [str(place / "pump" / "tuesday.wav")]
    catalog = Catalog(tmp_path)
    assert pending_review(catalog.recordings)["labelled_by"].tolist() == ["detector 3"]
    assert len(training_recordings(catalog.recordings)) == 2
    again = ingest(tmp_path, place, review)
    assert again.pending == [] and len(review.shown) == 3
    assert len(pending_review(Catalog(tmp_path).recordings)) == 1


def test_the_word_of_a_person_holds_against_detector_and_place(tmp_path: Path, place: Path) -> None:
    ingest(tmp_path, place, Reviewer())
    catalog = Catalog(tmp_path)
    (tuesday,) = pending_review(catalog.recordings)["recording"]
    catalog.label({tuesday: "normal"}, "anna")
    # Gone for a while, and in quarantine: what was said of it is not lost.
    Catalog(tmp_path).quarantine({tuesday: "unreadable"})
    review = Reviewer()
    assert ingest(tmp_path, place, review).pending == [] and review.shown == []
    row = Catalog(tmp_path).recordings.set_index("recording").loc[tuesday]
    assert (row["label"], row["labelled_by"]) == ("normal", "anna")


def test_a_manifest_that_says_what_it_is_overrules_a_detector(tmp_path: Path, place: Path) -> None:
    ingest(tmp_path / "home", place, Reviewer())
    (place / "manifest.csv").write_text("path,machine,split,label\npump/tuesday.wav,pump,test,anomaly\n")
    ingest(tmp_path / "home", place, Reviewer())
    row = Catalog(tmp_path / "home").recordings.set_index("path").loc[str(place / "pump" / "tuesday.wav")]
    assert (row["split"], row["label"]) == ("test", "anomaly")
