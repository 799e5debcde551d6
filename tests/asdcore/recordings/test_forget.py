"""What a person takes out of the table of recordings, and machines that get another name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from asdcore.errors import AsdError
from asdcore.recordings.catalog import Catalog, Ingested
from asdcore.recordings.names import find_recordings
from asdcore.recordings.renamed import renamed
from asdcore.settings import RecordingSettings


@pytest.fixture
def place(tmp_path: Path, record: Callable[..., Path]) -> Path:
    for index, name in enumerate(("monday", "tuesday", "wednesday")):
        record(tmp_path / "place" / "pump" / f"{name}.wav", index)
    return tmp_path / "place"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def ingest(home: Path, place: Path) -> Ingested:
    return Catalog(home).ingest(find_recordings(place), RecordingSettings())


def digest(catalog: Catalog, name: str) -> str:
    return str(catalog.recordings.loc[catalog.recordings["path"].str.endswith(name), "recording"].item())


def test_what_is_forgotten_stays_out_whatever_is_ingested_and_comes_back_as_it_was(
    home: Path, place: Path, record: Callable[..., Path]
) -> None:
    ingest(home, place)
    catalog = Catalog(home)
    tuesday = digest(catalog, "tuesday.wav")
    catalog.label({tuesday: "unknown"}, "anna")
    catalog.forget([tuesday], "anna")
    (place / "pump" / "tuesday.wav").rename(place / "pump" / "moved.wav")
    done = ingest(home, place)
    assert (done.added, done.known, done.forgotten) == (0, 2, [str(place / "pump" / "moved.wav")])
    assert len(Catalog(home).recordings) == 2 and Catalog(home).quarantined.empty
    Catalog(home).forget([tuesday], None)
    row = Catalog(home).recordings.set_index("recording").loc[tuesday]
    assert (row["label"], row["labelled_by"]) == ("unknown", "anna") and len(Catalog(home).recordings) == 3


def test_another_recording_under_the_path_of_a_forgotten_one_is_no_part_of_that(
    home: Path, place: Path, record: Callable[..., Path]
) -> None:
    ingest(home, place)
    tuesday = digest(Catalog(home), "tuesday.wav")
    Catalog(home).forget([tuesday], "anna")
    record(place / "pump" / "tuesday.wav", 9)
    assert ingest(home, place).added == 1 and list(Catalog(home).forgotten["recording"]) == [tuesday]
    Catalog(home).forget([tuesday], None)
    assert len(Catalog(home).recordings) == 3 and Catalog(home).forgotten.empty
    record(place / "pump" / "again.wav", 1)
    assert ingest(home, place).added == 1 and tuesday in set(Catalog(home).recordings["recording"])


def test_a_machine_with_another_name_keeps_it_when_its_folder_is_ingested_again(
    home: Path, place: Path, record: Callable[..., Path]
) -> None:
    ingest(home, place)
    Catalog(home).rename("pump", "pump 7")
    record(place / "pump" / "thursday.wav", 5)
    done = ingest(home, place)
    assert (done.added, done.known, done.machines) == (1, 3, ["pump 7"])
    assert set(Catalog(home).recordings["machine"]) == {"pump 7"}
    Catalog(home).rename("pump 7", "pump 8")
    assert renamed(home) == {"pump": "pump 8", "pump 7": "pump 8"}
    Catalog(home).rename("pump 8", "pump")
    assert ingest(home, place).known == 4 and set(Catalog(home).recordings["machine"]) == {"pump"}


def test_two_machines_do_not_become_one_and_a_name_that_is_no_file_name_is_refused(
    home: Path, place: Path, record: Callable[..., Path]
) -> None:
    record(place / "fan" / "monday.wav", 7)
    ingest(home, place)
    with pytest.raises(AsdError, match="there are recordings of fan already: two machines cannot become one"):
        Catalog(home).rename("pump", "fan")
    with pytest.raises(AsdError, match="'a/b' is empty or contains a slash"):
        Catalog(home).rename("pump", "a/b")
    with pytest.raises(AsdError, match="no recording of machine saw"):
        Catalog(home).rename("saw", "jigsaw")
    assert renamed(home) == {} and set(Catalog(home).recordings["machine"]) == {"fan", "pump"}
