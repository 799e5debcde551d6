"""The report of a screening."""

import re
import shutil
from pathlib import Path

import pytest

from asdcore.reports.screening import screening_report
from asdcore.screening import listen_and_screen
from asdcore.settings import NormalitySettings, Settings
from asdcore.storage.files import digest_of_file
from tests.asdcore.reports.conftest import Page, hum, write

# Without an encoder: the report is what is tested.
SETTINGS = Settings(normality=NormalitySettings(scorers=("change", "spectrum")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two machines; of one, two recordings whistle."""
    folder = tmp_path_factory.mktemp("plant")
    for seed in range(20):
        whistle = {3: 1.0, 8: 0.5}.get(seed, 0.0)
        write(folder / "pump" / f"{seed:02d}.wav", hum(seed, 120.0 + seed, whistle, seconds=1.0))
        write(folder / "mill" / f"{seed:02d}.wav", hum(50 + seed, 300.0 + seed, seconds=1.0))
    (folder / "mill" / "broken.wav").write_bytes(b"no sound")
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(screening_report(listen_and_screen(folder, settings=SETTINGS), str(folder), "--home plant"))


def test_what_to_listen_to_is_said_of_each_machine_the_one_with_most_of_it_first(page: Page) -> None:
    assert "2 to listen to pump Listen to these 2 of 20 first" in page.text
    assert page.text.index("2 to listen to pump") < page.text.index("nothing stands out mill")


def test_what_stands_out_is_beside_a_recording_that_does_not_with_both_sounds_and_the_difference(
    page: Page, folder: Path
) -> None:
    assert page.text.count("The most similar other recording") == 3
    assert len(page.sounds()) == 6
    assert "component around 3." in page.text
    beside = re.findall(r"(\d\d)\.wav\. Dashed", page.text)
    assert len(beside) == 3 and not {"03", "08"} & {*beside}


def test_the_command_labels_it_once_it_is_ingested(page: Page, folder: Path) -> None:
    digest = digest_of_file(folder / "pump" / "03.wav")[:12]
    assert f"asd ingest {folder} --home plant && asd label {digest} --as anomaly --home plant" in page.text


def test_what_could_not_be_ranked_has_its_reason(page: Page) -> None:
    assert "Not ranked" in page.text and "broken.wav" in page.text and "Format not recognised" in page.text


def test_labels_of_names_are_counted_and_those_of_plain_folders_are_none(
    page: Page, folder: Path, tmp_path: Path
) -> None:
    assert "faults that stand out" not in page.text
    for file in (folder / "pump").iterdir():
        label = "anomaly" if file.stem in ("03", "08", "11") else "normal"
        (tmp_path / "pump" / "test").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "pump" / "test" / f"section_00_source_test_{label}_00{file.stem}.wav")
    named = Page(screening_report(listen_and_screen(tmp_path, settings=SETTINGS), str(tmp_path)))
    assert "faults that stand out 2 other faults 1 normal, stand out 0 other normal ones 17" in named.text


def test_a_recording_that_vanishes_meanwhile_is_said_to_be_unreadable(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder / "pump", tmp_path / "pump")
    screening = listen_and_screen(tmp_path, settings=SETTINGS)
    (tmp_path / "pump" / "03.wav").unlink()
    text = Page(screening_report(screening, str(tmp_path))).text
    assert "It cannot be shown" in text and "2 to listen to pump" in text
