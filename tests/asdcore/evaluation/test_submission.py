import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asdcore.errors import AsdError
from asdcore.evaluation.metrics import machine_metrics, summary
from asdcore.evaluation.submission import read_submission, write_submission
from tests.asdcore.evaluation.conftest import GOLDEN_SUBMISSIONS

MACHINES = (("fan", "00"), ("pump_7", "01"))
"""One of the challenge, one of a plant, with an underscore in its name."""
FILES = 8


def revealing(section: str, number: int) -> str:
    domain = "source" if number % 4 < 2 else "target"
    return f"section_{section}_{domain}_test_{'anomaly' if number % 2 else 'normal'}_{number:04d}_vel_6.2_ac_0.08"


def files(section: str) -> list[str]:
    return [f"section_{section}_{number:04d}.wav" for number in range(FILES)]


def write_rows(path: Path, names: list[str], values: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name},{value}\n" for name, value in zip(names, values, strict=True)))


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Even numbers are normal, odd ones anomalous; 0, 1, 4, 5 are source, 2, 3, 6, 7 target."""
    folder = tmp_path / "truth"
    for machine, section in MACHINES:
        name, listed = f"ground_truth_{machine}_section_{section}_test.csv", files(section)
        write_rows(folder / "ground_truth_data" / name, listed, [number % 2 for number in range(FILES)])
        write_rows(folder / "ground_truth_domain" / name, listed, [number % 4 // 2 for number in range(FILES)])
        revealed: list[object] = [revealing(section, number) for number in range(FILES)]
        write_rows(folder / "ground_truth_attributes" / name, listed, revealed)
    return folder


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    folder = tmp_path / "scores"
    for machine, section in MACHINES:
        write_rows(score_file(folder, machine, section), files(section), [number / 7 for number in range(FILES)])
        write_rows(
            decision_file(folder, machine, section), files(section), [int(number > 4) for number in range(FILES)]
        )
    return folder


def score_file(folder: Path, machine: str = "fan", section: str = "00") -> Path:
    return folder / f"anomaly_score_{machine}_section_{section}_test.csv"


def decision_file(folder: Path, machine: str = "fan", section: str = "00") -> Path:
    return folder / f"decision_result_{machine}_section_{section}_test.csv"


def change_row(path: Path, row: int, text: str) -> None:
    """Replace a row (from 1) of a file; with an empty text, delete it."""
    lines = path.read_text().splitlines()
    lines[row - 1 : row] = [text] if text else []
    path.write_text("\n".join(lines) + "\n")


def test_rows_are_paired_with_the_ground_truth_by_name(scores: Path, truth: Path) -> None:
    table = read_submission(scores, truth)
    assert list(zip(table.machine, table.section, strict=True)) == [m for m in MACHINES for _ in range(FILES)]
    fan = table[table.machine == "fan"]
    assert list(fan.file) == files("00")
    assert list(fan.recording) == [f"fan/{file}" for file in files("00")]
    assert list(fan.label) == ["normal", "anomaly"] * 4
    assert list(fan.domain) == ["source", "source", "target", "target"] * 2
    assert list(fan.score) == [number / 7 for number in range(FILES)]
    assert list(fan.decision) == [0, 0, 0, 0, 0, 1, 1, 1]


def test_row_order_revealing_names_line_endings_and_byte_order_mark_change_nothing(scores: Path, truth: Path) -> None:
    expected = read_submission(scores, truth)
    for path in (score_file(scores), decision_file(scores)):
        lines = path.read_text().splitlines()
        for number in (1, 6):
            lines[number] = lines[number].replace(files("00")[number], f"{revealing('00', number)}.wav")
        path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(reversed(lines)).encode() + b"\r\n")
    pd.testing.assert_frame_equal(read_submission(scores, truth), expected)


def test_the_names_of_the_official_baseline_are_read(scores: Path, truth: Path) -> None:
    expected = read_submission(scores, truth)
    for kind in ("anomaly_score", "decision_result"):
        for machine, section in MACHINES:
            plain = scores / f"{kind}_{machine}_section_{section}_test.csv"
            plain.rename(scores / f"{kind}_DCASE2023T2{machine}_section_{section}_test_seed13711_id(0_)_Eval.csv")
    pd.testing.assert_frame_equal(read_submission(scores, truth), expected)


def test_without_decision_files_there_is_no_decision_column(scores: Path, truth: Path) -> None:
    for machine, section in MACHINES:
        decision_file(scores, machine, section).unlink()
    assert "decision" not in read_submission(scores, truth)


def test_the_ground_truth_may_lack_the_revealing_names(scores: Path, truth: Path) -> None:
    expected = read_submission(scores, truth)
    shutil.rmtree(truth / "ground_truth_attributes")
    pd.testing.assert_frame_equal(read_submission(scores, truth), expected)


def test_other_files_of_the_folder_are_left_alone(scores: Path, truth: Path) -> None:
    expected = read_submission(scores, truth)
    (scores / "result.csv").write_text("anything\n")
    pd.testing.assert_frame_equal(read_submission(scores, truth), expected)


@pytest.mark.parametrize(
    ("row", "text", "says"),
    [
        (3, "section_00_00O2.wav,0.5", r"row 3: .*'section_00_00O2.wav'; did you mean 'section_00_0002.wav'"),
        (3, "section_01_0002.wav,0.5", r"row 3: .*'section_01_0002.wav'"),
        (3, "section_00_0001.wav,0.5", r"row 3: 'section_00_0001.wav' is the recording of row 2 again"),
        (3, f"{revealing('00', 1)}.wav,0.5", r"row 3: .*anomaly_0001.* is the recording of row 2 again"),
        (3, "", r"1 of 8 recordings have no row, 'section_00_0002.wav' first"),
        (3, "section_00_0002.wav,nan", r"row 3: the score of 'section_00_0002.wav' is 'nan'"),
        (3, "section_00_0002.wav,-inf", r"row 3: the score of 'section_00_0002.wav' is '-inf'"),
        (3, "section_00_0002.wav,1e999", r"row 3: the score of 'section_00_0002.wav' is '1e999'"),
        (3, "section_00_0002.wav,1_0", r"row 3: the score of 'section_00_0002.wav' is '1_0'"),
        (3, "section_00_0002.wav,", r"row 3: the score of 'section_00_0002.wav' is ''"),
        (3, "section_00_0002.wav,high", r"row 3: the score of 'section_00_0002.wav' is 'high'"),
        (3, "section_00_0002.wav", r"row 3: 1 columns instead of 2"),
        (3, "section_00_0002.wav,0.5,1", r"row 3: 3 columns instead of 2"),
        (1, "file,score\nsection_00_0000.wav,0.1", r"row 1: 'file' looks like a header.*Delete row 1"),
    ],
)
def test_a_bad_row_of_scores_is_refused_with_file_and_row(
    scores: Path, truth: Path, row: int, text: str, says: str
) -> None:
    change_row(score_file(scores), row, text)
    with pytest.raises(AsdError, match=f"anomaly_score_fan_section_00_test.csv.*{says}"):
        read_submission(scores, truth)


@pytest.mark.parametrize("decision", ["2", "-1", "0.5", "nan", "yes", ""])
def test_a_decision_other_than_0_or_1_is_refused_with_file_and_row(scores: Path, truth: Path, decision: str) -> None:
    change_row(decision_file(scores), 5, f"section_00_0004.wav,{decision}")
    with pytest.raises(AsdError, match=f"decision_result_fan_section_00_test.csv, row 5: .* is '{decision}'; write 0"):
        read_submission(scores, truth)


def test_a_file_that_is_no_text_is_refused(scores: Path, truth: Path) -> None:
    score_file(scores).write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(AsdError, match=r"anomaly_score_fan.*UTF-8"):
        read_submission(scores, truth)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda f: score_file(f).unlink(), r"fan section 00 has no anomaly_score_fan_section_00_test.csv"),
        (lambda f: decision_file(f).unlink(), r"no decision_result_fan_section_00_test.csv.*remove all decision files"),
        (lambda f: score_file(f).rename(score_file(f, "fann")), r"has no fann section 00.*fan section 00"),
        (lambda f: score_file(f).rename(f / "anomaly_score_fan.csv"), r"anomaly_score_fan.csv: not a name of the chal"),
        (
            lambda f: shutil.copy(score_file(f), f / "anomaly_score_DCASE2023T2fan_section_00_test_seed1_Eval.csv"),
            r"are both of fan section 00",
        ),
        (shutil.rmtree, r"no such folder"),
    ],
)
def test_a_machine_without_its_one_file_is_refused(
    scores: Path, truth: Path, break_it: Callable[[Path], object], says: str
) -> None:
    break_it(scores)
    with pytest.raises(AsdError, match=says):
        read_submission(scores, truth)


@pytest.mark.parametrize(
    ("part", "row", "text", "says"),
    [
        ("data", 2, "section_00_0001.wav,3", r"ground_truth_data.*row 2: '3' must be 0 \(normal\) or 1 \(anomaly\)"),
        ("domain", 2, "section_00_0001.wav,source", r"ground_truth_domain.*row 2: 'source' must be 0 \(source\)"),
        ("data", 2, "section_00_0000.wav,0", r"row 2: 'section_00_0000.wav' comes twice"),
        ("domain", 2, "", r"do not list the same recordings: section_00_0001.wav"),
        ("attributes", 2, "section_00_0099.wav,x", r"row 2: 'section_00_0099.wav' is not in"),
    ],
)
def test_a_broken_ground_truth_is_refused(scores: Path, truth: Path, part: str, row: int, text: str, says: str) -> None:
    change_row(truth / f"ground_truth_{part}" / "ground_truth_fan_section_00_test.csv", row, text)
    with pytest.raises(AsdError, match=says):
        read_submission(scores, truth)


def test_a_folder_without_ground_truth_is_refused(scores: Path, truth: Path) -> None:
    (truth / "ground_truth_domain" / "ground_truth_fan_section_00_test.csv").unlink()
    with pytest.raises(AsdError, match="not in ground_truth_domain"):
        read_submission(scores, truth)
    for path in (truth / "ground_truth_data").iterdir():
        path.unlink()
    with pytest.raises(AsdError, match="holds no ground_truth_<machine>"):
        read_submission(scores, truth)


def test_writing_and_reading_gives_the_same_values_to_the_last_bit(scores: Path, truth: Path, tmp_path: Path) -> None:
    table = read_submission(scores, truth)
    rng = np.random.default_rng(0)
    table["score"] = rng.normal(size=len(table)) * 10.0 ** rng.integers(-300, 300, size=len(table))
    paths = write_submission(table.sample(frac=1.0, random_state=0), tmp_path / "written")
    assert [path.name for path in paths] == [
        "anomaly_score_fan_section_00_test.csv",
        "anomaly_score_pump_7_section_01_test.csv",
        "decision_result_fan_section_00_test.csv",
        "decision_result_pump_7_section_01_test.csv",
    ]
    assert sorted((tmp_path / "written").iterdir()) == paths
    pd.testing.assert_frame_equal(read_submission(tmp_path / "written", truth), table)


def test_written_files_have_the_format_of_the_challenge(tmp_path: Path) -> None:
    table = pd.DataFrame({"machine": "fan", "section": "00", "file": ["b.wav", "a.wav"], "score": [2.5, -1.0]})
    write_submission(table.assign(decision=[1.0, 0.0]), tmp_path)
    assert score_file(tmp_path).read_bytes() == b"a.wav,-1.0\nb.wav,2.5\n"
    assert decision_file(tmp_path).read_bytes() == b"a.wav,0\nb.wav,1\n"


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("score", np.nan, "score is nan in row 2"),
        ("score", np.inf, "score is inf in row 2"),
        ("decision", 2, "decision is 2"),
        ("decision", None, "decision is .* in row 2"),
        ("file", "test/b.wav", "file is 'test/b.wav' in row 2"),
        ("file", "a.wav", "file is 'a.wav' in row 2 .*above"),
        ("section", "section_00", "section is 'section_00' in row 2"),
        ("section", 0, "section is 0 in row 2"),
        ("machine", "", "machine is '' in row 2"),
    ],
)
def test_what_could_not_be_read_back_is_refused_and_nothing_is_written(
    tmp_path: Path, column: str, value: object, says: str
) -> None:
    table = pd.DataFrame(
        {"machine": "fan", "section": "00", "file": ["a.wav", "b.wav"], "score": [0.0, 1.0], "decision": [0, 1]}
    )
    table[column] = pd.Series([table[column][0], value], dtype=object)
    with pytest.raises(AsdError, match=says):
        write_submission(table, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_column_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(AsdError, match="'file'"):
        write_submission(pd.DataFrame({"machine": ["fan"], "section": ["00"], "score": [1.0]}), tmp_path)


def test_scores_are_not_written_beside_decisions_of_another_submission(tmp_path: Path) -> None:
    table = pd.DataFrame({"machine": "fan", "section": "00", "file": ["a.wav"], "score": [2.5]})
    write_submission(table.assign(decision=1), tmp_path)
    with pytest.raises(AsdError, match=r"decision_result_fan_section_00_test.csv.*another submission"):
        write_submission(table, tmp_path)


@pytest.mark.parametrize("submission", GOLDEN_SUBMISSIONS)
def test_a_golden_submission_evaluates_alike_after_writing_and_reading(
    golden: Path, submission: str, tmp_path: Path
) -> None:
    table = read_submission(golden / "submissions" / submission, golden)
    write_submission(table, tmp_path)
    again = read_submission(tmp_path, golden)
    assert summary(machine_metrics(again)) == summary(machine_metrics(table))


def test_one_misspelt_name_in_a_golden_submission_is_refused_with_the_name(golden: Path, tmp_path: Path) -> None:
    shutil.copytree(golden / "submissions" / "soft", tmp_path, dirs_exist_ok=True)
    path = score_file(tmp_path, "ToyTank")
    path.write_text(path.read_text().replace("section_00_0041.wav", "secton_00_0041.wav"))
    with pytest.raises(AsdError, match=r"anomaly_score_ToyTank.*row 42: .*'secton_00_0041.wav'"):
        read_submission(tmp_path, golden)
