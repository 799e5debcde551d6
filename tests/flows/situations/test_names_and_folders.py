"""Names of files and folders, and what they say of labels."""

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import soundfile
from click.testing import Result
from typer.testing import CliRunner

from asdcore.errors import AsdError
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.found import Found
from asdcore.recordings.label_words import answers_of
from asdcore.recordings.names import contents_of, find_recordings
from asdcore.recordings.training import training_recordings
from asdcore.screening import screen
from asdcore.settings import RecordingSettings
from asdcore.storage.home import Home
from flows.cli.app import app
from tasks.recordings import ingest_recordings
from tasks.registered import CHAMPION
from tasks.scoring import score_recordings
from tests.asdcore.reports.conftest import RATE, hum, write
from tests.flows.board.conftest import made_plant, register

pytestmark = pytest.mark.usefixtures("environment")

FAN = "L\u00fcfter"
FAN_OF_A_MAC = unicodedata.normalize("NFD", FAN)
NOT_UTF8 = {
    "Latin-1": "Lüfter.wav".encode("latin-1"),
    "Windows-1252": "Pumpe – 5 €.wav".encode("cp1252"),
    "Shift-JIS": "ポンプ.wav".encode("shift_jis"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Its champion knows the machines ``pump`` and ``Lüfter``, which sound alike."""
    folder = tmp_path_factory.mktemp("plant")
    plant = made_plant(folder)
    pump = plant.detector.machines["pump"]
    plant.detector = replace(plant.detector, machines={"pump": pump, FAN: pump})
    home = Home.at(folder / "home")
    register(home, plant)
    return home


def put(folder: Path, *names: str | bytes) -> list[Path]:
    """Normal recordings, each with a sound of its own."""
    paths = [Path(os.fsdecode(os.fsencode(folder) + b"/" + os.fsencode(name))) for name in names]
    for seed, path in enumerate(paths, start=300):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            soundfile.write(file, hum(seed), RATE, format="WAV", subtype="PCM_16")
    return paths


def asd(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "1000"})


def told(found: Sequence[Found]) -> list[tuple[str, str, str]]:
    return sorted((one.machine, one.split, one.label) for one in found if not one.problem)


def scored(home: Home, *places: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Folders that are not enrolled, and the machine and name of each recording that has a score."""
    done = score_recordings(home, list(places), None, CHAMPION, explain=False)
    table = pd.read_parquet(done["table"])
    assert done["failed"] == 0 and table["score"].notna().all()
    return done["not_enrolled"], sorted((row["machine"], Path(row["path"]).name) for _, row in table.iterrows())


@pytest.mark.parametrize("name", NOT_UTF8.values(), ids=NOT_UTF8)
@pytest.mark.situation(
    "a file whose name is not UTF-8 (Latin-1, Windows-1252, Shift-JIS)",
    before="quarantined by ingest and score; `asd label` ended with UnicodeEncodeError",
    after="ingested, scored, labelled and reported like any other; written with its bytes as \\xNN",
)
def test_a_file_name_of_any_bytes_goes_the_whole_way(name: bytes, home: Home, tmp_path: Path) -> None:
    (file,) = put(tmp_path, b"pump/" + name)
    own = Home.at(tmp_path / "home")
    done = ingest_recordings(tmp_path / "pump", own, RecordingSettings())
    assert (done["added"], done["quarantined"]) == (1, {})
    shown = Catalog(own.recordings).recordings["path"].item()
    assert shown.encode("utf-8").decode() == shown and "\\x" in shown
    for typed in (str(file), shown):
        assert asd("label", typed, "--as", "anomaly", "--by", "me", "--home", own.root).exit_code == 0
    assert Catalog(own.recordings).recordings["label"].item() == "anomaly"
    result = score_recordings(home, [file], "pump", CHAMPION, explain=True, report=True)
    assert (result["scored"], result["failed"], len(result["explained"])) == (1, 0, 1)
    assert Path(shown).name in Path(result["report"]).read_text(encoding="utf-8")
    listed = asd("results", "--json", "--home", home.root)
    assert shown in [row["path"] for row in json.loads(listed.stdout)]


@pytest.mark.situation(
    "a file whose name is not UTF-8, and another one whose name is the first one's in its written form",
    before="not tried",
    after="the first is quarantined, with the reason and what to do; the two are never confused",
)
def test_two_names_that_would_be_written_alike_are_never_mixed_up(home: Home, tmp_path: Path) -> None:
    put(tmp_path, b"pump/a\xfc.wav", "pump/a\\xfc.wav")
    bad, good = sorted(find_recordings(tmp_path / "pump"), key=lambda found: not found.problem)
    assert "rename one of the two" in bad.problem and bad.path != good.path
    assert scored(home, tmp_path / "pump")[1] == [("pump", "a\\xfc.wav")]


@pytest.mark.situation(
    "a machine's folder whose name is not UTF-8, or has a line break in it",
    before="the first was quarantined, the second became a machine with a name of two lines",
    after="quarantined, and the reason says to rename it; the other machines are ingested",
)
def test_a_machine_needs_a_name_that_files_can_bear(tmp_path: Path) -> None:
    put(tmp_path, b"L\xfcfter/a.wav", "pu\nmp/b.wav", "pump/c.wav")
    found = find_recordings(tmp_path)
    assert told(found) == [("pump", "train", "normal")]
    assert all("cannot name a machine" in one.problem for one in found if one.problem)


@pytest.mark.situation(
    "such names, and a terminal, a log or a locale in ASCII or Latin-1",
    before="UnicodeEncodeError for any name that is not ASCII",
    after="characters that it cannot show are written as escapes; nothing fails",
)
def test_output_of_any_encoding_can_be_printed_to(tmp_path: Path) -> None:
    put(tmp_path, b"in/pump/L\xfcfter.wav", "in/Lüfter/泵.wav", "in/Lüfter/defekt.wav")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "ASD_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "flows.cli", "ingest", str(tmp_path / "in")]
    done = subprocess.run(command, env=os.environ | ascii_only, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"2 added" in done.stdout and b"L\\xfcfter" in done.stderr


@pytest.mark.situation(
    "a machine's folder in both forms of Unicode (one from a Mac), and --machine, labels and manifests in either",
    before="two machines, one of them not enrolled",
    after="one machine; names are kept in NFC, paths as they are on the disk",
)
def test_a_name_in_both_forms_of_unicode_is_one_machine(home: Home, tmp_path: Path) -> None:
    mac, _ = put(tmp_path, f"{FAN_OF_A_MAC}/a.wav", f"{FAN}/b.wav")
    found = find_recordings(tmp_path)
    assert {one.machine for one in found} == {FAN} and {one.path.parent.name for one in found} == {FAN, FAN_OF_A_MAC}
    assert scored(home, tmp_path)[1] == [(FAN, "a.wav"), (FAN, "b.wav")]
    assert score_recordings(home, [mac], FAN_OF_A_MAC, CHAMPION, explain=False)["scored"] == 1
    (tmp_path / "manifest.csv").write_text(f"path,machine\n{FAN}/a.wav,{FAN_OF_A_MAC}\n", encoding="utf-8")
    (listed,) = find_recordings(tmp_path)
    assert (listed.machine, listed.problem, listed.path) == (FAN, "", mac)
    own = Home.at(tmp_path / "home")
    ingest_recordings(tmp_path, own, RecordingSettings())
    assert len(Catalog(own.recordings).of_machines([FAN_OF_A_MAC])) == 1
    typed = unicodedata.normalize("NFC", str(mac))
    assert asd("label", typed, "--as", "normal", "--by", "me", "--home", own.root).exit_code == 0


PAIRS = {
    "MIMII": ("pump/id_00/normal", "pump/id_00/abnormal", "pump_id_00"),
    "MIMII, as its archives unpack": (
        "6_dB_pump/pump/id_02/normal",
        "6_dB_pump/pump/id_02/abnormal",
        "pump_id_02",
    ),
    "English": ("pump1/normal", "pump1/abnormal", "pump1"),
    "OK and NG": ("valve/OK", "valve/NG", "valve"),
    "German": ("valve/gut", "valve/defekt", "valve"),
    "IDMT": ("valve/iO", "valve/niO", "valve"),
    "with dots": ("valve/i.O.", "valve/n.i.O.", "valve"),
    "French": ("valve/bon", "valve/D\u00e9faut", "valve"),
    "Spanish": ("valve/bueno", "valve/aver\u00eda 2", "valve"),
    "Italian": ("valve/buono", "valve/guasto", "valve"),
    "Japanese": ("valve/正常", "valve/異常", "valve"),
    "Japanese, romanised": ("valve/seijo", "valve/ijou", "valve"),
    "Chinese": ("valve/合格", "valve/故障", "valve"),
    "a kind of fault": ("valve/normal", "valve/leak_2", "valve"),
    "above the machine": ("good/valve", "bad/valve", "valve"),
    "far above the machine": ("hall1/valve", "defects/hall1/valve", "valve"),
    "with days": ("valve/2026-05-01/OK", "valve/not_ok/2026-05-02", "valve"),
}


@pytest.mark.parametrize(("normal", "anomalous", "machine"), PAIRS.values(), ids=PAIRS)
@pytest.mark.situation(
    "folders that say a label, as in MIMII or in a plant (OK and NG, gut and defekt, iO and niO, 正常 and 異常)",
    before="English ones: all quarantined; others: machines, on whose faults the detector was trained as normal",
    after="labels of the machine above: normal recordings are for training, anomalous ones for testing",
)
def test_a_folder_that_says_a_label_is_no_machine(normal: str, anomalous: str, machine: str, tmp_path: Path) -> None:
    put(tmp_path / "in", f"{normal}/1.wav", f"{anomalous}/2.wav")
    found = find_recordings(tmp_path / "in")
    assert told(found) == [(machine, "test", "anomaly"), (machine, "train", "normal")]
    assert [one.labelled for one in found if one.split == "test"] == [True]


@pytest.mark.situation(
    "label folders below split folders; a label's or its machine's folder given by itself",
    before="machines called normal and abnormal, quarantined",
    after="split and label as the folders say; an anomaly below train is quarantined",
)
def test_labels_and_splits_go_together(tmp_path: Path) -> None:
    put(tmp_path, *(f"pump/{place}/1.wav" for place in ("train/good", "test/good", "test/defect", "train/defect")))
    expected = [("pump", "test", "anomaly"), ("pump", "test", "normal"), ("pump", "train", "normal")]
    for place in (tmp_path, tmp_path / "pump"):
        assert told(find_recordings(place)) == expected
    assert told(find_recordings(tmp_path / "pump" / "train" / "good")) == expected[2:]
    assert told(find_recordings(tmp_path / "pump" / "test" / "defect", machine="pump7")) == [
        ("pump7", "test", "anomaly")
    ]


@pytest.mark.situation(
    "a folder beside OK or normal whose name is no known label",
    before="a machine, trained on as normal",
    after="quarantined with the question, and the setting that answers it; the rest is ingested",
)
def test_an_unknown_folder_beside_a_label_is_asked_about(tmp_path: Path) -> None:
    put(tmp_path, "pump/OK/1.wav", "pump/dry, run/2.wav", "pump/2026-05-01/3.wav", "fan/4.wav")
    asked = {one.path.parent.name: one.problem for one in find_recordings(tmp_path) if one.problem}
    assert [*asked] == ["dry, run"] and "--set 'recordings.labels=dry run:anomaly'" in asked["dry, run"]
    for said, expected in (("anomaly", ("pump", "test", "anomaly")), ("machine", ("dry, run", "train", "normal"))):
        own = Home.at(tmp_path.parent / f"home-{said}")
        done = ingest_recordings(tmp_path, own, RecordingSettings(labels=f"Dry_run:{said}"))
        assert done["quarantined"] == {}
        rows = Catalog(own.recordings).recordings
        (row,) = rows[rows["path"].str.contains("dry, run")].to_dict("records")
        assert (row["machine"], row["split"], row["label"]) == expected
        assert len(training_recordings(rows)) == 3 + (said == "machine")


@pytest.mark.situation(
    "somebody puts a folder called OK beside the folders of machines that are known",
    before="not tried; by the code: a machine called OK",
    after="the machines stay what they are, and so do their new recordings",
)
def test_a_stray_label_does_not_stop_known_machines(tmp_path: Path) -> None:
    own = Home.at(tmp_path / "home")
    put(tmp_path / "in", "pump/1.wav", "fan/2.wav")
    ingest_recordings(tmp_path / "in", own, RecordingSettings())
    put(tmp_path / "in", "pump/1.wav", "fan/2.wav", "OK/3.wav", "pump/4.wav")
    assert ingest_recordings(tmp_path / "in", own, RecordingSettings())["quarantined"] == {}
    assert sorted(Catalog(own.recordings).recordings["machine"]) == ["fan", "in", "pump", "pump"]


@pytest.mark.parametrize("wrong", ["dry", "dry:broken", ":anomaly"])
@pytest.mark.situation(
    "an invalid answer about such a folder in recordings.labels",
    before="there was no such setting",
    after="refused before anything is read, with the valid answers",
)
def test_a_wrong_answer_is_refused(wrong: str, tmp_path: Path) -> None:
    put(tmp_path, "pump/1.wav")
    result = asd("ingest", tmp_path, "--set", f"recordings.labels={wrong}", "--home", tmp_path / "home")
    assert result.exit_code == 2 and "recordings.labels: expected folder:label" in result.output
    with pytest.raises(AsdError, match="has two labels: anomaly and normal"):
        answers_of("dry:anomaly,DRY:normal")


INNOCENT = ["leak_tester", "ok_press", "NG3", "io1", "Gutmann 4711", "normaliser", "default", "defaults", "Bad Homburg"]


@pytest.mark.parametrize("machine", INNOCENT)
@pytest.mark.situation(
    "machines whose names have such words in them (leak_tester, ok_press, NG3)",
    before="machines of these names",
    after="the same: only whole names of folders count as labels",
)
def test_a_machine_with_a_word_of_a_label_in_its_name_stays_a_machine(machine: str, tmp_path: Path) -> None:
    put(tmp_path, f"{machine}/{machine}_0001.wav", f"{machine}/2026-05-01/2.wav")
    assert told(find_recordings(tmp_path)) == [(machine, "train", "normal")] * 2


@pytest.mark.situation(
    "a machine whose name is a word for a fault (leak), and a home below the folder of a user called Ng",
    before="a machine called leak; the folder above counted for nothing",
    after="quarantined until recordings.labels=leak:machine says so; what is above the given folder counts for nothing",
)
def test_a_person_can_say_that_a_word_is_a_machine(tmp_path: Path) -> None:
    put(tmp_path / "Ng" / "in", "leak/1.wav", "pump/2.wav")
    place = tmp_path / "Ng" / "in"
    assert told(find_recordings(place)) == [("in", "test", "anomaly")]
    expected = [("leak", "train", "normal"), ("pump", "train", "normal")]
    assert told(find_recordings(place, answers=answers_of("leak:machine"))) == expected


@pytest.mark.situation(
    "file names that say a fault, in a plain folder (niO_3.wav, pump_defekt.wav)",
    before="English words were quarantined, others trained on as normal",
    after="quarantined; the reason says where to put them",
)
def test_a_file_that_says_a_fault_never_trains(tmp_path: Path) -> None:
    put(tmp_path, "pump/niO_3.wav", "pump/pump_defekt.wav", "pump/not ok 1.wav", "pump/0815.wav")
    assert [one.path.name for one in find_recordings(tmp_path) if not one.problem] == ["0815.wav"]


@pytest.mark.situation(
    "the official baseline's test_rename beside test: the same recordings, with labels in their names",
    before="a machine called test_rename; the ingest was refused, since one sound was given as two things",
    after="one recording each, with its label",
)
def test_recordings_that_the_baseline_has_renamed_get_their_labels(tmp_path: Path) -> None:
    normal, anomalous = put(tmp_path / "raw/ToyX", "test/section_00_0000.wav", "test/section_00_0001.wav")
    for file, name in ((normal, "source_test_normal_0000_a_1"), (anomalous, "target_test_anomaly_0000_")):
        copy = tmp_path / f"raw/ToyX/test_rename/section_00_{name}.wav"
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes())
    own = Home.at(tmp_path / "home")
    done = ingest_recordings(tmp_path / "raw", own, RecordingSettings())
    assert (done["added"], done["duplicates"], done["quarantined"]) == (2, 2, {})
    rows = Catalog(own.recordings).recordings
    assert sorted(zip(rows["label"], rows["domain"], strict=True)) == [("anomaly", "target"), ("normal", "source")]


@pytest.mark.situation(
    "`asd ingest` of a folder of which no file can be used",
    before="all quarantined, with exit code 0",
    after="all quarantined, with exit code 1; 0 as soon as one can be used",
)
def test_an_ingest_of_which_nothing_is_left_fails(tmp_path: Path) -> None:
    (file,) = put(tmp_path / "in", "pump/niO_3.wav")
    result = asd("ingest", tmp_path / "in", "--home", tmp_path / "home")
    assert result.exit_code == 1 and "1 quarantined" in result.output and str(file) in result.output
    put(tmp_path / "in", "pump/1.wav")
    assert asd("ingest", tmp_path / "in", "--home", tmp_path / "home").exit_code == 0


YEARS = {
    "2020": ("dev_data/fan/train/normal_id_06_00000000.wav", "train", "normal", "06"),
    "2021": ("fan/source_test/section_05_source_test_anomaly_0007.wav", "test", "anomaly", "05"),
    "2022": ("dev_data/fan/train/section_01_target_train_normal_0002_m-n_W.wav", "train", "normal", "01"),
    "2023": ("eval_data/raw/fan/test/section_00_0000.wav", "test", "unknown", "00"),
    "2024": ("raw/fan/train/section_00_source_train_normal_0000_noAttribute.wav", "train", "normal", "00"),
    "2025": ("eval_data/raw/fan/train/section_00_source_train_normal_0000_.wav", "train", "normal", "00"),
    "2026": ("dev_data/raw/fan/test/section_00_target_test_anomaly_0000_spd_6V.wav", "test", "anomaly", "00"),
}


@pytest.mark.parametrize(("name", "split", "label", "section"), YEARS.values(), ids=YEARS)
@pytest.mark.situation(
    "the challenge's layouts of 2020 to 2026, sections 00 to 06, and names that end with an underscore",
    before="names of 2025 that end with an underscore were quarantined",
    after="read, with split, label and section",
)
def test_the_layout_of_each_year_is_read(name: str, split: str, label: str, section: str, tmp_path: Path) -> None:
    put(tmp_path, name)
    (found,) = find_recordings(tmp_path)
    assert (found.machine, found.split, found.label, found.section, found.problem) == ("fan", split, label, section, "")


@pytest.mark.situation(
    "the challenge's folder supplemental (the machine or the noise alone), and files that cannot be decoded (m4a, wma)",
    before="supplemental recordings quarantined, m4a and wma silently skipped",
    after="left out, counted and named, with what to do; nothing is quarantined",
)
def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    put(
        tmp_path / "in",
        "fan/train/section_00_source_train_normal_0000_.wav",
        "fan/supplemental/section_00_noise_01_.wav",
    )
    for name in ("fan/a.m4a", "fan/b.M4A", "fan/c.wma", "fan/._d.m4a", "fan/notes.txt"):
        (tmp_path / "in" / name).write_bytes(b"x")
    assert len(contents_of(tmp_path / "in").left_out) == 4
    result = asd("ingest", tmp_path / "in", "--home", tmp_path / "home")
    assert result.exit_code == 0 and "1 added" in result.output and "0 quarantined" in result.output
    assert "2 files: .m4a cannot be read: convert it" in result.output
    assert "1 file: supplemental recordings" in result.output
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.m4a").write_bytes(b"x")
    with pytest.raises(AsdError, match=r"1 file: \.m4a cannot be read"):
        find_recordings(tmp_path / "only")


@pytest.mark.parametrize("name", ["a.aiff", "a.AIF", "a.au", "a.caf", "a.w64", "a.ogg", "a.mp3"])
@pytest.mark.situation(
    "aiff, au, caf, w64, ogg and mp3 files in a machine's folder",
    before="silently skipped",
    after="found and decoded like wav files",
)
def test_what_can_be_decoded_is_found(name: str, tmp_path: Path) -> None:
    kinds = {"aif": "AIFF", "aiff": "AIFF"}
    suffix = name.split(".")[1].lower()
    (tmp_path / "pump").mkdir()
    soundfile.write(tmp_path / "pump" / name, hum(1), RATE, format=kinds.get(suffix, suffix.upper()))
    assert told(find_recordings(tmp_path)) == [("pump", "train", "normal")]


@pytest.mark.situation(
    "a folder to score that has a machine which is not enrolled, supplemental, .Trashes, ._a.wav and an m4a",
    before="ended before anything was scored; ._a.wav alone: exit code 1",
    after="the rest is scored; what is not is counted with the reason, and does not change the exit code",
)
def test_one_folder_never_stops_the_scoring_of_the_others(home: Home, tmp_path: Path) -> None:
    put(tmp_path, "pump/a.wav", f"{FAN}/b.wav", "fan9/c.wav", "fan9/d.wav", "pump/supplemental/e.wav", ".Trashes/f.wav")
    for name in ("._a.wav", "g.m4a"):
        (tmp_path / "pump" / name).write_bytes(b"\0\5\x16\7")
    result = asd("score", tmp_path, "--no-report", "--json", "--home", home.root)
    assert result.exit_code == 0, result.output
    done = json.loads(result.stdout)
    assert sorted(row["machine"] for row in done["rows"]) == [FAN, "pump"]
    assert done["not_enrolled"] == {"fan9": 2} and len(done["left_out"]) == 2
    assert "2 recordings in a folder 'fan9', which names no enrolled machine" in result.stderr


@pytest.mark.situation(
    "nothing to score but machines that are not enrolled; a file of such a machine that is named beside others",
    before="an error at the first; named beside others: not tried",
    after="an error that counts them all; the others are scored, and the exit code is 1",
)
def test_that_nothing_can_be_scored_is_an_error(home: Home, tmp_path: Path) -> None:
    other, good = put(tmp_path, "fan9/c.wav", "pump/a.wav")
    with pytest.raises(AsdError, match=r"1 recording in a folder 'fan9'.*name one of L\u00fcfter, pump"):
        scored(home, tmp_path / "fan9")
    result = asd("score", other, good, "--no-report", "--home", home.root)
    assert result.exit_code == 1 and "'fan9', which is not enrolled" in result.output and "a.wav" in result.output


@pytest.mark.situation(
    "a folder to score with a link to a file and a link to a folder",
    before="the file was taken for the machine of its target, the folder was silently skipped with exit code 0",
    after="both are scored: a file as a recording of the folder that has the link, a folder under the name of the link",
)
def test_links_are_of_the_folder_that_they_lie_in(home: Home, tmp_path: Path) -> None:
    file, _ = put(tmp_path / "store", "x9/a.wav", "y9/b.wav")
    place = tmp_path / "in"
    (place / "pump").mkdir(parents=True)
    (place / "pump" / "link.wav").symlink_to(file)
    (place / FAN).symlink_to(tmp_path / "store" / "y9")
    assert scored(home, place) == ({}, [(FAN, "b.wav"), ("pump", "link.wav")])
    assert scored(home, place / "pump" / "link.wav")[1] == [("pump", "link.wav")]
    assert told(find_recordings(place)) == [(FAN, "train", "normal"), ("pump", "train", "normal")]


@pytest.mark.situation(
    "a folder to screen with labels in its folders and a name that is not UTF-8",
    before="each label was a machine; the file with that name was not ranked",
    after="one machine, and all recordings are ranked",
)
def test_a_screening_reads_the_same_layouts(tmp_path: Path) -> None:
    for seed in range(7):
        write(tmp_path / "pump" / "OK" / f"{seed}.wav", hum(seed))
    put(tmp_path, b"pump/niO/L\xfcfter.wav")
    table = screen(tmp_path)
    assert set(table["machine"]) == {"pump"} and not table["reason"].any() and len(table) == 8


@pytest.mark.situation(
    "a folder that the user may not list, or a link to a named pipe or a device",
    before="not tried; by the code: the folder was skipped without a word, or ended the ingest with PermissionError; "
    "the link was read without end",
    after="the folder is named with the reason, such links are left out, and the rest is ingested",
)
def test_what_can_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "in", "pump/1.wav", "closed/2.wav")
    (tmp_path / "in" / "pump" / "zero.wav").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "in" / "pump" / "pipe.wav").symlink_to(tmp_path / "pipe")
    scandir = os.scandir

    def forbidden(path: str) -> object:  # Nothing is forbidden to root.
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    done = asd("ingest", tmp_path / "in", "--home", tmp_path / "home")
    assert done.exit_code == 0 and "1 added" in done.output and "0 quarantined" in done.output
    assert f"left out: the folder {tmp_path}/in/closed cannot be listed (Permission denied)" in done.output


@pytest.mark.situation(
    "days, weeks and months as a plant writes them (26.11.2026, 26-Nov-2026, KW 48, 2026/Nov/26)",
    before="not tried; by the code: each was a machine",
    after="sessions of the machine above or below",
)
def test_sessions_in_other_calendars(tmp_path: Path) -> None:
    days = ["26.11.2026", "26-Nov-2026", "KW 48", "2026/Nov/26"]
    put(tmp_path, *(f"pump/{day}/1.wav" for day in days), "27.11.2026/fan/1.wav")
    found = {(one.machine, one.session) for one in find_recordings(tmp_path)}
    assert found == {*(("pump", day) for day in days), ("fan", "27.11.2026")}


@pytest.mark.situation(
    "test/pump beside train/pump, and ventil_nio beside ventil_io",
    before="not tried; by the code: test recordings and faults trained as normal",
    after="a test set does not train, whichever folder is the upper one; the pair is asked about",
)
def test_other_ways_to_say_a_test_set_or_a_label(tmp_path: Path) -> None:
    put(tmp_path, "train/pump/1.wav", "test/pump/NG/2.wav", "test/pump/3.wav", "ventil_io/4.wav", "ventil_nio/5.wav")
    own = Home.at(tmp_path.parent / "home")
    done = ingest_recordings(tmp_path, own, RecordingSettings())
    assert {Path(name).name for name in done["quarantined"]} == {"3.wav", "5.wav"}
    assert set(training_recordings(Catalog(own.recordings).recordings)["machine"]) == {"pump", "ventil_io"}


@pytest.mark.situation(
    "machines of one name in two halls or lines (line1/pump, line2/pump)",
    before="not tried; by the code: one machine, without a word",
    after="one machine, and `asd ingest` and `asd retrain` say so, and what to do if it is not",
)
def test_one_name_in_two_lines_is_told(tmp_path: Path) -> None:
    put(tmp_path / "in", "line1/pump/1.wav", "line2/pump/2.wav")
    said = asd("ingest", tmp_path / "in", "--home", tmp_path / "home").output
    assert "pump: line1/pump and line2/pump count as one machine; if they are different machines" in said


@pytest.mark.situation(
    "a manifest with semicolons, tabs or backslashes, as spreadsheets write it, or called MANIFEST.CSV",
    before="not tried; by the code: the header lacked the columns; MANIFEST.CSV was overlooked, and its labels with it",
    after="read; MANIFEST.CSV is an error that says to rename it",
)
def test_a_manifest_from_a_spreadsheet(tmp_path: Path) -> None:
    put(tmp_path / "in", "pump/1.wav")
    table = tmp_path / "in" / "manifest.csv"
    table.write_text("path;machine;split;label\npump\\1.wav;pump;test;anomaly\n")
    assert told(find_recordings(tmp_path / "in")) == [("pump", "test", "anomaly")]
    table.rename(table.with_name("MANIFEST.CSV"))
    done = asd("ingest", tmp_path / "in", "--home", tmp_path / "home")
    assert done.exit_code == 1 and "a manifest is called manifest.csv, in small letters" in str(done.exception)
