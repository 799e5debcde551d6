import os
from dataclasses import astuple
from pathlib import Path

import pytest

from asdcore.errors import AsdError
from asdcore.recordings.found import Found
from asdcore.recordings.label_words import answers_of
from asdcore.recordings.names import contents_of, find_recordings, parse_attributes, parse_place
from asdcore.recordings.paths import on_disk


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def by_name(place: Path) -> dict[str, Found]:
    return {found.path.name: found for found in find_recordings(place)}


# year, path, (machine, section, domain, split, label, attributes)
LAYOUTS = [
    ("2020", "ToyCar/train/normal_id_01_00000000.wav", ("ToyCar", "01", "source", "train", "normal", {})),
    ("2020", "fan/test/anomaly_id_00_00000123.wav", ("fan", "00", "source", "test", "anomaly", {})),
    ("2020 evaluation", "fan/test/id_05_00000000.wav", ("fan", "05", "source", "test", "unknown", {})),
    (
        "2021",
        "fan/source_test/section_02_source_test_anomaly_0007.wav",
        ("fan", "02", "source", "test", "anomaly", {}),
    ),
    (
        "2021",
        "valve/target_test/section_00_target_test_normal_0000.wav",
        ("valve", "00", "target", "test", "normal", {}),
    ),
    (
        "2021",
        "slider/train/section_00_source_train_normal_0000_strength_1_ambient.wav",
        ("slider", "00", "source", "train", "normal", {"strength": "1", "ambient": ""}),
    ),
    (
        "2021 evaluation",
        "fan/target_test/section_03_target_test_0000.wav",
        ("fan", "03", "target", "test", "unknown", {}),
    ),
    ("2021, bare name", "fan/target_test/section_03_0000.wav", ("fan", "03", "target", "test", "unknown", {})),
    (
        "2022",
        "dev_data/fan/train/section_01_target_train_normal_0002_m-n_W.wav",
        ("fan", "01", "target", "train", "normal", {"m-n": "W"}),
    ),
    (
        "2023",
        "dev_data/raw/bearing/train/section_00_source_train_normal_0987_vel_6_loc_A.wav",
        ("bearing", "00", "source", "train", "normal", {"vel": "6", "loc": "A"}),
    ),
    (
        "2023",
        "dev_data/raw/gearbox/test/section_00_target_test_anomaly_0049_volt_1.5_wt_150.wav",
        ("gearbox", "00", "target", "test", "anomaly", {"volt": "1.5", "wt": "150"}),
    ),
    (
        "2023 evaluation",
        "eval_data/raw/ToyTank/test/section_00_0000.wav",
        ("ToyTank", "00", "unknown", "test", "unknown", {}),
    ),
    (
        "2024",
        "dev_data/raw/slider/train/section_00_source_train_normal_0000_noAttribute.wav",
        ("slider", "00", "source", "train", "normal", {}),
    ),
    (
        "2025",
        "eval_data/raw/AutoTrash/test/section_00_0199.wav",
        ("AutoTrash", "00", "unknown", "test", "unknown", {}),
    ),
    (
        "no split folder",
        "slider/section_00_source_train_normal_0000_vel_620_ac_0.08.wav",
        ("slider", "00", "source", "train", "normal", {"vel": "620", "ac": "0.08"}),
    ),
    ("no split folder", "pump/anomaly_id_02_00000001.wav", ("pump", "02", "source", "test", "anomaly", {})),
    ("no split folder", "pump/normal_id_02_00000001.wav", ("pump", "02", "source", "train", "normal", {})),
    # An evaluation recording whose label is a secret must never be trained on.
    ("no split folder", "pump/section_00_0000.wav", ("pump", "00", "unknown", "test", "unknown", {})),
]


@pytest.mark.parametrize(("year", "path", "expected"), LAYOUTS, ids=[f"{year}: {path}" for year, path, _ in LAYOUTS])
def test_place_and_name_of_every_year_are_read(year: str, path: str, expected: tuple[object, ...]) -> None:
    found = parse_place(Path("/data") / path)
    assert astuple(found)[1:7] == expected
    assert found.problem == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vel_620_ac_0.08", {"vel": "620", "ac": "0.08"}),
        ("car_A2_spd_28V_mic_1", {"car": "A2", "spd": "28V", "mic": "1"}),
        ("m-n_W", {"m-n": "W"}),
        ("f-n_A_x", {"f-n": "A", "x": ""}),
        ("noAttribute", {}),
        ("", {}),
    ],
)
def test_attributes_of_a_name(text: str, expected: dict[str, str]) -> None:
    assert parse_attributes(text) == expected


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("fan/train/section_00_source_train_anomaly_0000.wav", "anomalous recording in the train split"),
        ("fan/train/section_00_source_test_normal_0000.wav", "says test, but is in a folder train"),
        ("fan/test/monday.wav", "not a DCASE name"),
        ("fan/supplemental/section_00_clean_0000.wav", "supplemental"),
        ("pump/pump_anomalous_3.wav", "unparsable name"),
        ("pump/Broken bearing.wav", "unparsable name"),
        ("pump/normal/broken_3.wav", "its name says another label than its folder normal"),
        ("pump/abnormal/section_00_source_test_normal_0003.wav", "says another label than its folder abnormal"),
        ("pump/normal/abnormal/3.wav", "its folders abnormal and normal say two labels"),
        ("pump/train/defekt/3.wav", "anomalous recording in the train split"),
        ("pump/leak_3.wav", "unparsable name"),
        ("pump/ventil_nicht_io.wav", "unparsable name"),
        ("engine2_broken/3.wav", "has the machine's name"),
    ],
)
def test_what_contradicts_itself_goes_to_quarantine(path: str, reason: str) -> None:
    assert reason in parse_place(Path(path)).problem


def test_a_name_that_only_resembles_an_anomaly_is_taken() -> None:
    assert parse_place(Path("pump/default_microphone.wav")).problem == ""


def test_machine_folders_are_found_at_any_depth_and_sorted(tmp_path: Path) -> None:
    deep = tmp_path / "dev_data" / "raw" / "fan"
    touch(
        deep / "train" / "section_00_source_train_normal_0001_m-n_W.wav",
        deep / "train" / "section_00_source_train_normal_0000_m-n_W.wav",
        deep / "test" / "section_00_source_test_normal_0000_m-n_X.wav",
        tmp_path / "valve" / "monday.flac",
    )
    found = find_recordings(tmp_path)
    assert [f.path for f in found] == sorted(f.path for f in found)
    assert [(f.machine, f.split) for f in found] == [
        ("fan", "test"),
        ("fan", "train"),
        ("fan", "train"),
        ("valve", "train"),
    ]


@pytest.mark.parametrize("given", ["", "pump", "pump/."])
def test_the_folder_of_one_machine_can_be_given_directly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    touch(tmp_path / "pump" / "a.wav")
    monkeypatch.chdir(tmp_path / "pump" if not given else tmp_path)
    (found,) = find_recordings(Path(given))
    assert (found.machine, found.label, found.split) == ("pump", "normal", "train")
    assert found.path.is_absolute()


def test_a_test_set_that_is_arranged_by_machine_does_not_train(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "pump" / "a.wav", tmp_path / "test" / "pump" / "b.wav")
    for label in ("OK", "NG"):
        touch(tmp_path / "test" / "hall1" / "pump" / label / f"{label}.wav")
    found = by_name(tmp_path)
    assert (found["a.wav"].split, found["a.wav"].problem) == ("train", "")
    assert "not a DCASE name, but in a folder test" in found["b.wav"].problem
    assert "move it into a folder `normal` or `defect` there" in found["b.wav"].problem
    assert {name: (found[f"{name}.wav"].split, found[f"{name}.wav"].label) for name in ("OK", "NG")} == {
        "OK": ("test", "normal"),
        "NG": ("test", "anomaly"),
    }
    # What is above the given folder, or is its name, says nothing.
    assert not by_name(tmp_path / "test")["b.wav"].problem


@pytest.mark.parametrize(
    ("fault", "normal"), [("pump_ng", "pump_ok"), ("Ventil-niO 2", "ventil iO.2"), ("bad fan", "good_fan")]
)
def test_two_folders_that_differ_by_a_word_for_a_label_are_not_two_machines(
    tmp_path: Path, fault: str, normal: str
) -> None:
    touch(tmp_path / fault / "a.wav", tmp_path / normal / "b.wav", tmp_path / "leak_tester" / "c.wav")
    found = by_name(tmp_path)
    assert "seem to say labels of one machine" in found["a.wav"].problem and found["a.wav"].machine == ""
    assert not found["b.wav"].problem and not found["c.wav"].problem
    # The normal ones are known from the first ingest on; the others are still asked about.
    again = contents_of(tmp_path, known={normal, "leak_tester"}, only={tmp_path / fault / "a.wav"}).recordings
    assert [(one.path.name, bool(one.problem)) for one in again] == [("a.wav", True)]
    answered = find_recordings(tmp_path, answers=answers_of(f"{fault}:machine"))
    assert not any(one.problem for one in answered)


def test_a_name_that_is_too_long_for_a_machine_is_named_as_such(tmp_path: Path) -> None:
    touch(tmp_path / ("p" * 201) / "a.wav")
    assert "longer than 200 bytes" in by_name(tmp_path)["a.wav"].problem


def test_hidden_files_other_files_and_folders_named_like_audio_are_left_out(tmp_path: Path) -> None:
    touch(
        tmp_path / "pump" / "A.WAV",
        tmp_path / "pump" / "b.Flac",
        tmp_path / "pump" / "._A.wav",
        tmp_path / "pump" / "notes.txt",
        tmp_path / ".trash" / "pump" / "c.wav",
    )
    (tmp_path / "pump" / "folder.wav").mkdir()
    assert set(by_name(tmp_path)) == {"A.WAV", "b.Flac"}


def test_links_are_followed_without_end(tmp_path: Path) -> None:
    touch(tmp_path / "disk" / "fan" / "a.wav", tmp_path / "disk" / "b.wav")
    place = tmp_path / "place"
    touch(place / "pump" / "c.wav")
    (place / "fan").symlink_to(tmp_path / "disk" / "fan")
    (place / "pump" / "b.wav").symlink_to(tmp_path / "disk" / "b.wav")
    (place / "pump" / "again").symlink_to(place)
    (place / "aaa").symlink_to(place / "pump")
    (place / "pump" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    # A machine's own folder names it, not a link beside it; a link to nothing is found, and quarantined when read.
    assert [(f.machine, f.path.name) for f in find_recordings(place)] == [
        ("fan", "a.wav"),
        ("pump", "b.wav"),
        ("pump", "c.wav"),
        ("pump", "gone.wav"),
    ]


def test_recordings_keep_the_name_of_their_own_folder_whatever_links_to_it(tmp_path: Path) -> None:
    touch(tmp_path / "fan" / "a.wav", tmp_path / "pump" / "b.wav")
    (tmp_path / "fan" / "monday").mkdir()
    (tmp_path / "fan" / "monday" / "pump of last year").symlink_to(tmp_path / "pump")
    assert [(f.machine, f.path) for f in find_recordings(tmp_path)] == [
        ("fan", tmp_path / "fan" / "a.wav"),
        ("pump", tmp_path / "pump" / "b.wav"),
    ]


@pytest.mark.parametrize("beside", ["OK", "monday"])
def test_what_a_file_is_does_not_depend_on_which_others_are_asked_about(tmp_path: Path, beside: str) -> None:
    named = tmp_path / "pump" / "hot" / "normal_id_00_00000000.wav"
    # Whether the folder `hot` beside `OK` is asked about depends on its other recording, whose name says no label.
    touch(named, tmp_path / "pump" / "hot" / "a.wav", tmp_path / "pump" / beside / "b.wav", tmp_path / "7" / "c.wav")
    touch(tmp_path / "hall" / "7" / "d.wav")
    whole = find_recordings(tmp_path)
    assert bool(by_name(tmp_path)[named.name].problem) == (beside == "OK")
    for one in whole:
        # Where one folder is asked about, the others are read, too.
        found = contents_of(tmp_path, only={one.path}).recordings
        assert found == (whole if beside == "OK" else [one])


def test_a_pipe_named_like_audio_is_not_waited_for(tmp_path: Path) -> None:
    touch(tmp_path / "pump" / "a.wav")
    os.mkfifo(tmp_path / "pump" / "b.wav")
    assert set(by_name(tmp_path)) == {"a.wav"}


def test_a_place_without_recordings_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place, words in (
        (tmp_path / "empty", "no wav, flac or other audio file"),
        (tmp_path / "nowhere", "no such file or folder"),
    ):
        with pytest.raises(AsdError, match=words) as error:
            find_recordings(place)
        assert str(place) in str(error.value)
    touch(tmp_path / "a.wav")
    with pytest.raises(AsdError, match="give the folder"):
        find_recordings(tmp_path / "a.wav")


@pytest.mark.parametrize("prefix", ["fan/train/", "train/", "dev_data/raw/fan/train/"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_the_table_of_attributes_describes_files_whose_names_do_not(tmp_path: Path, prefix: str, bom: str) -> None:
    fan = tmp_path / "raw" / "fan"
    touch(
        fan / "train" / "section_00_source_train_normal_0000.wav",
        fan / "train" / "section_00_source_train_normal_0001_m-n_X.wav",
        fan / "test" / "section_00_source_test_normal_0000.wav",
    )
    (fan / "attributes_00.csv").write_text(
        f"{bom}file_name,d1p,d1v,d2p,d2v\n"
        f"{prefix}section_00_source_train_normal_0000.wav,m-n,W,vel,0.08\n"
        f"{prefix}section_00_source_train_normal_0001_m-n_X,noAttribute,,,\n",
        encoding="utf-8",
    )
    for place in (tmp_path, fan, fan / "train"):
        found = by_name(place)
        assert found["section_00_source_train_normal_0000.wav"].attributes == {"m-n": "W", "vel": "0.08"}
        assert found["section_00_source_train_normal_0001_m-n_X.wav"].attributes == {"m-n": "X"}
    assert by_name(tmp_path)["section_00_source_test_normal_0000.wav"].attributes == {}


def test_simulated_recordings_say_so_by_whatever_way_they_are_found(tmp_path: Path) -> None:
    touch(tmp_path / "made" / "simFan" / "a.wav", tmp_path / "made" / "SIMULATED.txt", tmp_path / "fan" / "b.wav")
    (tmp_path / "fan" / "link.wav").symlink_to(tmp_path / "made" / "simFan" / "a.wav")
    assert {name: f.attributes for name, f in by_name(tmp_path).items()} == {
        "a.wav": {"simulated": "yes"},
        "link.wav": {"simulated": "yes"},
        "b.wav": {},
    }
    assert by_name(tmp_path / "made" / "simFan")["a.wav"].attributes == {"simulated": "yes"}
    (tmp_path / "list.csv").write_text("path,machine\nmade/simFan/a.wav,fan\nfan/b.wav,fan\n")
    assert [f.attributes for f in find_recordings(tmp_path / "list.csv")] == [{}, {"simulated": "yes"}]


def manifest(folder: Path, text: str) -> Path:
    touch(folder / "sounds" / "a.wav", folder / "b.flac")
    path = folder / "manifest.csv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_manifest_describes_recordings_of_any_name_and_place(tmp_path: Path, bom: str) -> None:
    path = manifest(
        tmp_path,
        f"{bom}path,machine,split,domain,label,section,speed,site\r\n"
        'sounds/a.wav,pump 7,test,target,anomaly,02,"1,5",Graz\r\n'
        "\r\n"
        f"{tmp_path}/b.flac,pump 7,,,,,,\r\n",
    )
    for place in (path, tmp_path):
        b, a = find_recordings(place)
        assert astuple(a)[1:7] == ("pump 7", "02", "target", "test", "anomaly", {"speed": "1,5", "site": "Graz"})
        assert astuple(b)[1:7] == ("pump 7", "00", "source", "train", "normal", {})
        assert a.path == tmp_path / "sounds" / "a.wav"


@pytest.mark.parametrize("name", ["pump [old]", "Lüfter 3", "泵", "a$x_$b^", "पंप", "pump: 7*"])
def test_a_machine_may_have_any_name_that_files_can_bear(tmp_path: Path, name: str) -> None:
    (found,) = find_recordings(manifest(tmp_path, f"path,machine\nb.flac,{name}\n"))
    assert found.machine == name


@pytest.mark.parametrize("name", [b"pump/valve\xff.wav", b"pump\xff/valve.wav"])
def test_a_name_that_is_not_utf8_can_be_printed_and_opened(tmp_path: Path, name: bytes) -> None:
    for path in (tmp_path / "pump" / "good.wav", tmp_path / os.fsdecode(name)):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (odd,) = [one for one in find_recordings(tmp_path) if one.path.name != "good.wav"]
    assert "\\xff" in str(odd.path).encode("utf-8").decode()
    assert os.fsencode(on_disk(odd.path)) == os.fsencode(tmp_path) + b"/" + name
    if b"\xff/" in name:
        assert odd.machine == "" and "cannot name a machine" in odd.problem
    else:
        assert (odd.machine, odd.problem) == ("pump", "")


@pytest.mark.parametrize(
    "text",
    [
        "path;machine;speed;load, kW\r\npump/0.wav;pump;1,5;\r\n",
        "path\tmachine\tspeed\npump/0.wav\tpump\t1,5\n",
        'path, machine, speed\npump/0.wav, pump, "1,5"\n',
        'path,machine,speed\npump\\0.wav,pump,"1,5"\n',
    ],
    ids=["semicolons", "tabs", "spaces", "backslashes"],
)
def test_a_manifest_may_be_written_by_any_spreadsheet(tmp_path: Path, text: str) -> None:
    touch(tmp_path / "pump" / "0.wav")
    (tmp_path / "manifest.csv").write_text(text, newline="")
    found = by_name(tmp_path)["0.wav"]
    assert (found.machine, found.attributes, found.problem) == ("pump", {"speed": "1,5"}, "")


def test_a_manifest_whose_name_has_capital_letters_is_not_overlooked(tmp_path: Path) -> None:
    touch(tmp_path / "pump" / "a.wav")
    (tmp_path / "MANIFEST.CSV").write_text("path,machine,split,label\npump/a.wav,pump,test,anomaly\n")
    with pytest.raises(AsdError, match=r"MANIFEST\.CSV: a manifest is called manifest\.csv, in small letters"):
        find_recordings(tmp_path)


def test_a_manifest_test_recording_without_a_label_is_unlabelled(tmp_path: Path) -> None:
    (found,) = find_recordings(manifest(tmp_path, "path,machine,split\nb.flac,pump,test\n"))
    assert found.label == "unknown"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("gone.wav,pump,train,normal", "no such file"),
        (f"{'long' * 75}.wav,pump,train,normal", "File name too long"),
        ("b.flac,pump,train,anomaly", "anomaly recording in the train split"),
        ("b.flac,pump,train,unknown", "unknown recording in the train split"),
    ],
)
def test_a_manifest_row_that_can_not_be_used_goes_to_quarantine(tmp_path: Path, row: str, reason: str) -> None:
    b, a = find_recordings(manifest(tmp_path, f"path,machine,split,label\nsounds/a.wav,pump,train,normal\n{row}\n"))
    assert reason in (b.problem + a.problem)
    assert not (b.problem and a.problem)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,split\nb.flac,train\n", "lacks the column machine"),
        ("", "lacks the column machine and path"),
        ("path,machine\n", "lists no recording"),
        ("path,machine,label\nb.flac,pump,normal\nb.flac,pump,good\n", "line 3: label='good', must be one of anomaly"),
        ("path,machine,split\nb.flac,pump,dev\n", "line 2: split='dev'"),
        ("path,machine,domain\nb.flac,pump,hall\n", "line 2: domain='hall'"),
        ("path,machine,label\nb.flac,pump\n", "line 2: has a different number of values"),
        ("path,machine\nb.flac,pump,normal\n", "line 2: has a different number of values"),
        ("path,machine\nb.flac, \n", "line 2: machine is empty"),
        ("path,machine\n,pump\n", "line 2: path is empty"),
        ("path,machine\nb.flac,pump\nb.flac,hall/pump\n", "line 3: machine='hall/pump' contains a slash"),
        ("path,machine\nb.flac,hall\\pump\n", "line 2: machine='hall\\\\pump' contains a slash, a backslash"),
        ("path,machine\nb.flac,pu\x1bmp\n", "line 2: machine='pu\\x1bmp' contains"),
        ("path,machine\nb.flac,pu\x7fmp\n", "result files are named after machines"),
        ('path,machine\nb.flac,"pump\nold"\n', "machine='pump\\nold' contains"),
        ("path,machine\nb.flac,pump\u2028old\n", "machine='pump\\u2028old' contains"),
    ],
)
def test_a_wrong_manifest_is_an_error_that_names_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    path = manifest(tmp_path, text)
    with pytest.raises(AsdError) as error:
        find_recordings(tmp_path)
    assert str(path) in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "content", ["path,machine\nb.flac,Lüfter\n".encode("cp1252"), b"RIFF\x00\xff\xfe", b"\xff\xfep\x00"]
)
def test_a_manifest_that_is_no_utf8_text_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.csv"
    path.write_bytes(content)
    with pytest.raises(AsdError, match="UTF-8") as error:
        find_recordings(tmp_path)
    assert str(path) in str(error.value)


def test_real_dcase_2023_names(sample_data: Path) -> None:
    found = find_recordings(sample_data / "dcase2023-sample")
    assert len(found) == 28
    assert {f.machine for f in found} == {"ToyCar", "ToyTrain", "fan", "gearbox", "bearing", "slider", "valve"}
    assert not any(f.problem for f in found)
    assert sum(f.label == "anomaly" for f in found) == 5
    attributes = {(f.machine, tuple(sorted(f.attributes.items()))) for f in found}
    assert all(pairs and all(value for _, value in pairs) for _, pairs in attributes)
    assert ("gearbox", (("volt", "1.5"), ("wt", "150"))) in attributes
    assert ("slider", (("ac", "0.08"), ("vel", "620"))) in attributes
    assert ("fan", (("m-n", "W"),)) in attributes
