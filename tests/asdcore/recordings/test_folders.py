"""Trees of folders: two machines are never merged, one machine is never split."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from asdcore.recordings.names import contents_of, find_recordings, parse_place

DCASE = "section_00_source_train_normal_0000.wav"

# name, files, {file: (machine, session)}
TREES: list[tuple[str, dict[str, tuple[str, str]]]] = [
    (
        "days below machines",
        {
            "pump7/2026-05-01/a.wav": ("pump7", "2026-05-01"),
            "pump7/2026-05-02/a.wav": ("pump7", "2026-05-02"),
            "fan3/2026-05-01/a.wav": ("fan3", "2026-05-01"),
        },
    ),
    ("months", {"pump7/2026-05/a.wav": ("pump7", "2026-05"), "pump7/2026-06/a.wav": ("pump7", "2026-06")}),
    (
        "year, month and day",
        {
            "pump7/2026/05/01/a.wav": ("pump7", "2026/05/01"),
            "pump7/2026/05/02/a.wav": ("pump7", "2026/05/02"),
            "fan3/2026/05/01/a.wav": ("fan3", "2026/05/01"),
        },
    ),
    ("years", {"pump7/2025/a.wav": ("pump7", "2025"), "pump7/2026/a.wav": ("pump7", "2026")}),
    (
        "weekdays",
        {
            "pump7/monday/a.wav": ("pump7", "monday"),
            "pump7/Tuesday morning/a.wav": ("pump7", "Tuesday morning"),
            "pump7/Wed/a.wav": ("pump7", "Wed"),
            "fan3/monday/a.wav": ("fan3", "monday"),
        },
    ),
    (
        "days, weeks and months as they are written elsewhere",
        {
            "pump7/26.11.2026/a.wav": ("pump7", "26.11.2026"),
            "pump7/1-5-2026 10h30/a.wav": ("pump7", "1-5-2026 10h30"),
            "pump7/2026-11-26T10-30-00+0100/a.wav": ("pump7", "2026-11-26T10-30-00+0100"),
            "pump7/2026-05-01 early shift/a.wav": ("pump7", "2026-05-01 early shift"),
            "pump7/26 Nov 2026/a.wav": ("pump7", "26 Nov 2026"),
            "pump7/März 2026/a.wav": ("pump7", "März 2026"),
            "pump7/2026/Nov/26/a.wav": ("pump7", "2026/Nov/26"),
            "2026/12_December/01/pump7/a.wav": ("pump7", "2026/12_December/01"),
            "pump7/KW 48/a.wav": ("pump7", "KW 48"),
            "pump7/2026-W48/a.wav": ("pump7", "2026-W48"),
            "27.11.2026/hall1/pump7/a.wav": ("pump7", "27.11.2026"),
            "Decanter 2020/a.wav": ("Decanter 2020", ""),
            "hall/W48/a.wav": ("W48", ""),
            "hall/12.34.5678/a.wav": ("12.34.5678", ""),
        },
    ),
    (
        "numbers",
        {
            "pump7/1/a.wav": ("pump7", "1"),
            "pump7/2/a.wav": ("pump7", "2"),
            "fan3/1/a.wav": ("fan3", "1"),
            "hall/pump8/01/a.wav": ("pump8", "01"),
        },
    ),
    ("one number, before there are more", {"pump7/1/a.wav": ("pump7", "1"), "fan3/a.wav": ("fan3", "")}),
    ("numbers below a session", {"pump7/2026-05-01/1/a.wav": ("pump7", "2026-05-01/1")}),
    (
        "days above machines",
        {
            "2026-05-01/pump7/a.wav": ("pump7", "2026-05-01"),
            "2026-05-02/pump7/a.wav": ("pump7", "2026-05-02"),
            "2026-05-01/fan3/a.wav": ("fan3", "2026-05-01"),
        },
    ),
    (
        "days above machines, by year",
        {"2026/05/01/pump7/a.wav": ("pump7", "2026/05/01"), "2026/05/02/pump7/a.wav": ("pump7", "2026/05/02")},
    ),
    (
        "days above halls and lines",
        {
            "2026-05-01/hall1/pump7/a.wav": ("pump7", "2026-05-01"),
            "2026-05-02/hall1/pump7/a.wav": ("pump7", "2026-05-02"),
            "2026-05-02/hall2/line 3/fan3/a.wav": ("fan3", "2026-05-02"),
            "2026/05/03/hall1/pump7/a.wav": ("pump7", "2026/05/03"),
            "2026-05-02 night/hall1/pump7/run_1/a.wav": ("pump7", "2026-05-02 night/run_1"),
            "2026-05-04/hall1/run_2/pump7/a.wav": ("pump7", "2026-05-04/run_2"),
        },
    ),
    (
        "the day nearest to the files counts",
        {
            "2026-05-09/hall1/pump7/2026-05-01/a.wav": ("pump7", "2026-05-01"),
            "2026-05-09/hall1/2026-05-02/pump7/a.wav": ("pump7", "2026-05-02"),
        },
    ),
    (
        "what is far above and no day is no session",
        {
            "monday/hall1/pump7/a.wav": ("pump7", ""),
            "run_1/hall1/pump7/a.wav": ("pump7", ""),
            "2026/hall1/pump7/a.wav": ("pump7", ""),
            "2026-05-01_export/hall1/pump7/a.wav": ("pump7", ""),
            f"2026-05-01/dcase/fan/train/{DCASE}": ("fan", ""),
        },
    ),
    (
        "weekdays above and runs below",
        {"monday/pump7/run_1/a.wav": ("pump7", "monday/run_1"), "friday/pump7/a.wav": ("pump7", "friday")},
    ),
    (
        "split folders between day and machine, and between machine and files",
        {
            f"2026-05-01/train/pump7/{DCASE}": ("pump7", "2026-05-01"),
            f"2026-05-02/pump7/train/{DCASE}": ("pump7", "2026-05-02"),
            f"pump7/2026-05-03/train/run 2/{DCASE}": ("pump7", "2026-05-03/run 2"),
        },
    ),
    (
        "halls and lines above machines are no sessions",
        {"1/pump7/a.wav": ("pump7", ""), "line2/fan/a.wav": ("fan", "")},
    ),
    ("serial numbers are machines", {"hall/4711/a.wav": ("4711", ""), "hall/4712/a.wav": ("4712", "")}),
    ("serial numbers that are no dates", {"20104455/a.wav": ("20104455", ""), "20104456/a.wav": ("20104456", "")}),
    ("names that only look alike", {"monitor/a.wav": ("monitor", ""), "sunday-pump/a.wav": ("sunday-pump", "")}),
    ("a session in the name of the machine", {"rig/day-shift pump/a.wav": ("day-shift pump", "")}),
]


def touch(place: Path, files: Sequence[str]) -> None:
    for file in files:
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).touch()


@pytest.mark.parametrize("above", ["plant", "2026-04-30/data", "monday", "7", "pump7/raw"])
@pytest.mark.parametrize(("name", "expected"), TREES, ids=[name for name, _ in TREES])
def test_a_tree_means_the_same_wherever_it_lies(
    tmp_path: Path, above: str, name: str, expected: dict[str, tuple[str, str]]
) -> None:
    place = tmp_path / above / "given"
    touch(place, list(expected))
    found = find_recordings(place)
    assert {str(f.path.relative_to(place)): (f.machine, f.session) for f in found} == expected
    assert not any(f.problem for f in found)
    # What scores one of these files by its path alone takes it for the same machine.
    assert all(parse_place(f.path).machine == f.machine for f in found)


def test_a_given_machine_folder_names_the_machine_of_the_sessions_below_it(tmp_path: Path) -> None:
    touch(tmp_path / "pump7", ["2026-05-01/a.wav", "monday/b.wav", "c.wav"])
    found = find_recordings(tmp_path / "pump7")
    assert [(f.machine, f.session) for f in found] == [("pump7", "2026-05-01"), ("pump7", ""), ("pump7", "monday")]


def test_a_given_day_is_the_session_of_the_machines_in_it(tmp_path: Path) -> None:
    touch(tmp_path / "2026-05-01", ["pump7/a.wav", "hall1/fan3/a.wav"])
    found = find_recordings(tmp_path / "2026-05-01")
    assert [(f.machine, f.session) for f in found] == [("fan3", "2026-05-01"), ("pump7", "2026-05-01")]


@pytest.mark.parametrize(
    ("given", "file", "words"),
    [
        ("data/2026-05-01", "a.wav", "named after a session, not a machine; give the machine's folder"),
        ("pump7/2026-05-01", "run_1/a.wav", "named after a session, not a machine"),
        ("pump7/1", "a.wav", "named after a session, not a machine"),
        ("plant", "1/a.wav", "folder 1 of the given folder {place} may be a machine or a session; give {place.parent}"),
        ("plant", "12/monday/a.wav", "folder 12 of the given folder"),
        ("plant", "2026-05-01_fan3/a.wav", "folder 2026-05-01_fan3 of the given folder"),
    ],
)
def test_where_no_folder_names_the_machine_none_is_made_up(tmp_path: Path, given: str, file: str, words: str) -> None:
    place = tmp_path / given
    touch(place, [file])
    (found,) = find_recordings(place)
    assert found.machine == "" and words.format(place=place) in found.problem and "manifest" in found.problem
    (named,) = find_recordings(place, machine="pump7")
    assert named.machine == "pump7" and named.session and not named.problem


def test_sessions_beside_machines_are_of_none_of_them(tmp_path: Path) -> None:
    touch(tmp_path / "data", ["2026-05-01/a.wav", "pump7/a.wav", "fan3/2026-05-01/a.wav"])
    problems = {str(f.path.relative_to(tmp_path)): f.problem for f in find_recordings(tmp_path / "data")}
    assert "session beside the machines fan3 and pump7; move it" in problems.pop("data/2026-05-01/a.wav")
    assert set(problems.values()) == {""}


def test_the_same_serial_number_in_two_folders_is_not_one_machine(tmp_path: Path) -> None:
    touch(tmp_path / "data", ["pump7/0001/a.wav", "fan3/0001/a.wav", "fan3/0002/a.wav"])
    found = find_recordings(tmp_path / "data")
    assert [bool(f.problem) for f in found] == [True, False, True]
    assert f"the folder 0001 in {tmp_path}/data/fan3 and {tmp_path}/data/pump7" in found[0].problem


def test_a_number_in_the_folder_of_each_day_is_asked_about_in_a_short_text(tmp_path: Path) -> None:
    touch(tmp_path, [f"2026-05-{day:02d}/4711/a.wav" for day in range(1, 31)])
    (problem,) = {found.problem for found in find_recordings(tmp_path)}
    assert f"the folder 4711 in {tmp_path}/2026-05-01 and 29 more may be a machine or a session" in problem


@pytest.mark.parametrize(
    ("files", "places"),
    [
        (["hall1/pump/a.wav", "hall2/pump/b.wav"], ["hall1/pump", "hall2/pump"]),
        (["1/pump/OK/a.wav", "2/pump/NG/b.wav", "1/fan/c.wav"], ["1/pump", "2/pump"]),
        (
            ["ToyCar/case1/NormalSound_IND/a.wav", "ToyTrain/case1/NormalSound_IND/a.wav"],
            ["ToyCar/case1", "ToyTrain/case1"],
        ),
        (["2026-05-01/pump/a.wav", "2026-05-02/hall1/pump/a.wav"], ["hall1/pump", "pump"]),
        (["2026-05-01/hall1/pump/a.wav", "2026/05/02/hall1/pump/a.wav", "hall1/pump/monday/b.wav"], []),
        (["train/pump/a.wav", "defect/pump/a.wav", "test/pump/OK/a.wav", "pump/a.wav"], []),
        ([f"dev_data/fan/train/{DCASE}", f"eval_data/fan/train/{DCASE}"], []),
    ],
)
def test_machines_of_one_name_in_several_places_are_told(tmp_path: Path, files: list[str], places: list[str]) -> None:
    touch(tmp_path, files)
    assert [*contents_of(tmp_path).places.values()] == ([places] if places else [])


@pytest.mark.parametrize("file", ["pump7/2026-05-01 faulty/a.wav", "2026-05-01_defect/pump7/a.wav"])
def test_a_session_that_is_called_faulty_does_not_train(tmp_path: Path, file: str) -> None:
    touch(tmp_path, [file])
    (found,) = find_recordings(tmp_path)
    assert "holds normal recordings only" in found.problem
