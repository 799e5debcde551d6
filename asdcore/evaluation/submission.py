"""The challenge's files: read strictly by recording name, and written.

The official evaluator pairs rows by their sorted position and never looks at the names, so one misspelt name shifts
all the rows after it without a message. Here every row is paired by name, and what cannot be paired is refused.
"""

import csv
import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from asdcore.errors import AsdError
from asdcore.evaluation.metrics import DOMAINS, LABELS, as_floats, has_decisions, refuse_rows, require_columns
from asdcore.recordings.names import parse_place
from asdcore.storage.files import atomic_write

SCORE_KIND = "anomaly_score"
DECISION_KIND = "decision_result"
_REMEDY = {SCORE_KIND: "a finite number", DECISION_KIND: "0 (normal) or 1 (anomalous)"}

_MACHINE = r"(?P<machine>.+)_section_(?P<section>[^_]+)_test"
_CHALLENGE_NAME = re.compile(_MACHINE + r"\.csv")
# As the official baseline writes it: DCASE2023T2<machine>_section_00_test_seed13711_id(0_)_Eval.csv
_BASELINE_NAME = re.compile(r"DCASE\d{4}T2" + _MACHINE + r"_seed\d+.*\.csv")

Key = tuple[str, str]
"""Machine and section."""


@dataclass(frozen=True)
class _Truth:
    """The ground truth of one machine and section."""

    label: Mapping[str, str]
    """File name to label."""
    domain: Mapping[str, str]
    """File name to domain."""
    revealed: Mapping[str, str]
    """Attribute-revealing file name to file name."""


def read_submission(scores_dir: Path | str, ground_truth_dir: Path | str) -> pd.DataFrame:
    """Read the anomaly scores, and the decisions if there are any, of every machine in the ground truth.

    Args:
        scores_dir: holds ``anomaly_score_<machine>_section_<section>_test.csv`` with rows ``file,score`` and, for all
            machines or for none, ``decision_result_<machine>_section_<section>_test.csv`` with rows ``file,0|1``; no
            header, rows in any order. The official baseline's names
            (``anomaly_score_DCASE2023T2<machine>_section_00_test_seed13711_…csv``) are read too. ``file`` is the name
            of the recording in the challenge (``section_00_0000.wav``) or its attribute-revealing name
            (``section_00_source_test_normal_0000_….wav``). Other files are left alone.
        ground_truth_dir: holds ``ground_truth_data`` (rows ``file,0|1``: normal, anomaly), ``ground_truth_domain``
            (``file,0|1``: source, target) and, optional, ``ground_truth_attributes`` (``file,revealing name without
            .wav``), each with ``ground_truth_<machine>_section_<section>_test.csv``.

    Returns:
        One row per recording, sorted by machine, section and file: ``machine, section, file, recording``
        (``<machine>/<file>``) ``, domain, label, score`` and, if there are decision files, ``decision`` (Int64).
        `machine_metrics`, `paired_bootstrap` and `write_submission` take it.

    Raises:
        AsdError: names the file and the row (from 1): a name that is unknown or comes twice, a score that is not a
            finite number, a decision other than 0 or 1, a header, a wrong number of columns. Or names the file:
            recordings without a row, a machine without a file, two files for one machine, a file of an unknown machine.

    Source: the submission format of DCASE 2023 Task 2.
    """
    truths = _read_ground_truth(Path(ground_truth_dir))
    folder = _existing(Path(scores_dir))
    files = {kind: _files_of(folder, kind, truths) for kind in (SCORE_KIND, DECISION_KIND)}
    _refuse_absent(folder, SCORE_KIND, files[SCORE_KIND], truths)
    if files[DECISION_KIND]:
        _refuse_absent(folder, DECISION_KIND, files[DECISION_KIND], truths)
    tables = []
    for key, truth in sorted(truths.items()):
        values = {kind: _read_values(found[key], kind, truth) for kind, found in files.items() if found}
        tables.append(_table(key, truth, values))
    return pd.concat(tables, ignore_index=True)


def submission_table(scores: pd.DataFrame, system: str | None = None) -> pd.DataFrame:
    """The table for `write_submission`, from the scores of a run.

    Args:
        scores: ``path, machine, score`` and, where there are any, ``section, system, decision``. A section that is not
            given is read from the file's name.
        system: whose rows; may be left out where there is one system.

    Raises:
        AsdError: no such system, or one must be named; a recording without a score.
    """
    known = list(dict.fromkeys(scores["system"])) if "system" in scores else []
    if known and system is None and len(known) > 1:
        raise AsdError(f"scores of several systems: name one of {', '.join(known)} with --system")
    if system is not None and system not in known:
        raise AsdError(f"no scores of system {system!r}; there are {', '.join(known) or 'no system names'}")
    selected = scores[scores["system"] == system] if system is not None else scores
    missing = selected.loc[selected["score"].isna(), "path"]
    if len(missing):
        raise AsdError(f"{missing.iloc[0]}: has no score, as have {len(missing) - 1} others; a submission needs all")
    sections = (
        selected["section"]
        if "section" in selected
        else selected["path"].map(lambda path: parse_place(Path(path)).section)
    )
    table = selected.assign(section=sections, file=selected["path"].map(lambda path: Path(path).name))
    columns = ["machine", "section", "file", "score"]
    if "decision" in table and table["decision"].notna().all():
        columns.append("decision")
    return table[columns].reset_index(drop=True)


def write_submission(table: pd.DataFrame, folder: Path | str) -> list[Path]:
    """Write the challenge's files, one per machine, section and kind; `read_submission` reads back the same values.

    Args:
        table: one row per recording: ``machine``, ``section`` (text as in the file names: "00"), ``file`` (name without
            folder), ``score`` (finite) and, optional, ``decision`` (0, 1), for all recordings or for none. Other
            columns are left alone.
        folder: made if need be; files of the same name are replaced.

    Returns:
        The paths written, sorted.

    Raises:
        AsdError: a column or value is missing or not as above, a recording comes twice, or the table has no decisions
            but the folder has some for its machines: then nothing is written. Or the disk cannot be written.
    """
    _check_table(table)
    decisions = has_decisions(table)
    contents: dict[Path, list[tuple[str, str]]] = {}
    for key, rows in table.sort_values("file").groupby(["machine", "section"], sort=True, observed=True):
        machine, section = map(str, key)
        names = [str(name) for name in rows["file"]]
        # repr of a float is the shortest text that reads back as the same number.
        scores = [repr(float(score)) for score in as_floats(rows["score"])]
        contents[Path(folder) / file_name(SCORE_KIND, machine, section)] = list(zip(names, scores, strict=True))
        if decisions:
            decided = [str(int(decision)) for decision in rows["decision"]]
            contents[Path(folder) / file_name(DECISION_KIND, machine, section)] = list(zip(names, decided, strict=True))
        else:
            _refuse_stale(Path(folder) / file_name(DECISION_KIND, machine, section))
    for path, lines in contents.items():
        with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
            csv.writer(out, lineterminator="\n").writerows(lines)
    return sorted(contents)


def file_name(kind: str, machine: str, section: str) -> str:
    """The challenge's name of a file; ``kind`` is ``anomaly_score`` or ``decision_result``.

    >>> file_name("anomaly_score", "fan", "00")
    'anomaly_score_fan_section_00_test.csv'
    """
    return f"{kind}_{machine}_section_{section}_test.csv"


def _refuse_stale(decision_file: Path) -> None:
    if decision_file.exists():
        raise AsdError(
            f"{decision_file}: a decision file of another submission, which would be read with these scores. "
            "Remove it or write to another folder."
        )


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise AsdError(f"{folder}: no such folder. Give the folder that holds the files.")
    return folder


# Ground truth


def _read_ground_truth(folder: Path) -> dict[Key, _Truth]:
    labels, domains = (_ground_truth_files(_existing(folder / f"ground_truth_{part}")) for part in ("data", "domain"))
    if not labels:
        example = "ground_truth_<machine>_section_<section>_test.csv"
        raise AsdError(f"{folder / 'ground_truth_data'}: holds no {example}. Give the folder above the ground truth's.")
    attributes_dir = folder / "ground_truth_attributes"
    attributes = _ground_truth_files(attributes_dir) if attributes_dir.is_dir() else {}
    return {key: _read_truth(path, domains.get(key), attributes.get(key)) for key, path in labels.items()}


def _ground_truth_files(folder: Path) -> dict[Key, Path]:
    matches = ((path, re.fullmatch("ground_truth_" + _MACHINE + r"\.csv", path.name)) for path in folder.iterdir())
    return {(match["machine"], match["section"]): path for path, match in matches if match}


def _read_truth(label_file: Path, domain_file: Path | None, attribute_file: Path | None) -> _Truth:
    if domain_file is None:
        raise AsdError(f"{label_file.name} is in ground_truth_data but not in ground_truth_domain: add it there.")
    label, domain = _read_coded(label_file, LABELS), _read_coded(domain_file, DOMAINS)
    odd = sorted(set(label) ^ set(domain))
    if odd:
        raise AsdError(f"{label_file} and {domain_file} do not list the same recordings: {odd[0]} is in only one.")
    revealed: dict[str, str] = {}
    if attribute_file is not None:
        for row, (file, revealing) in enumerate(_read_rows(attribute_file), start=1):
            if file not in label:
                raise AsdError(f"{attribute_file}, row {row}: {file!r} is not in {label_file}: make the two agree.")
            revealed[revealing if revealing.endswith(".wav") else f"{revealing}.wav"] = file
    return _Truth(label, domain, revealed)


def _read_coded(path: Path, words: tuple[str, ...]) -> dict[str, str]:
    """File name to word, where the file says 0 for the first word and 1 for the second."""
    found: dict[str, str] = {}
    for row, (file, code) in enumerate(_read_rows(path), start=1):
        if code not in ("0", "1"):
            raise AsdError(f"{path}, row {row}: {code!r} must be 0 ({words[0]}) or 1 ({words[1]}).")
        if file in found:
            raise AsdError(f"{path}, row {row}: {file!r} comes twice; keep one row.")
        found[file] = words[int(code)]
    return found


# Score and decision files


def _files_of(folder: Path, kind: str, truths: Mapping[Key, _Truth]) -> dict[Key, Path]:
    found: dict[Key, Path] = {}
    for path in sorted(folder.glob(f"{kind}_*.csv")):
        rest = path.name.removeprefix(f"{kind}_")
        match = _BASELINE_NAME.fullmatch(rest) or _CHALLENGE_NAME.fullmatch(rest)
        if not match:
            raise AsdError(f"{path}: not a name of the challenge. Call it {file_name(kind, '<machine>', '<section>')}.")
        key = (match["machine"], match["section"])
        if key not in truths:
            known = ", ".join(f"{machine} section {section}" for machine, section in sorted(truths))
            raise AsdError(
                f"{path}: the ground truth has no {key[0]} section {key[1]}. Rename or remove the file; "
                f"known are {known}."
            )
        if key in found:
            raise AsdError(f"{path} and {found[key].name} are both of {key[0]} section {key[1]}: keep one of them.")
        found[key] = path
    return found


def _refuse_absent(folder: Path, kind: str, found: Mapping[Key, Path], truths: Mapping[Key, _Truth]) -> None:
    absent = sorted(set(truths) - set(found))
    if absent:
        machine, section = absent[0]
        also = " (or remove all decision files: scores alone can be read)" if kind == DECISION_KIND else ""
        raise AsdError(
            f"{folder}: {machine} section {section} has no {file_name(kind, machine, section)}: add it{also}."
        )


def _read_values(path: Path, kind: str, truth: _Truth) -> dict[str, float]:
    """File name, as in the ground truth, to score or decision."""
    values: dict[str, float] = {}
    row_of: dict[str, int] = {}
    for row, (name, text) in enumerate(_read_rows(path), start=1):
        file = truth.revealed.get(name, name)
        value = _number(text)
        if file not in truth.label:
            raise _unknown_name(path, row, name, value is None, truth)
        if file in row_of:
            raise AsdError(f"{path}, row {row}: {name!r} is the recording of row {row_of[file]} again; keep one row.")
        if value is None or not math.isfinite(value) or (kind == DECISION_KIND and value not in (0.0, 1.0)):
            what = "decision" if kind == DECISION_KIND else "score"
            raise AsdError(f"{path}, row {row}: the {what} of {name!r} is {text!r}; write {_REMEDY[kind]}.")
        values[file], row_of[file] = value, row
    missing = sorted(set(truth.label) - set(values))
    if missing:
        raise AsdError(
            f"{path}: {len(missing)} of {len(truth.label)} recordings have no row, {missing[0]!r} first. "
            "Add a row for each."
        )
    return values


def _unknown_name(path: Path, row: int, name: str, no_number: bool, truth: _Truth) -> AsdError:
    if row == 1 and no_number:
        return AsdError(f"{path}, row 1: {name!r} looks like a header; the challenge's files have none. Delete row 1.")
    near = difflib.get_close_matches(name, [*truth.label, *truth.revealed], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return AsdError(f"{path}, row {row}: the ground truth has no recording {name!r}{hint} Correct the name.")


def _number(text: str) -> float | None:
    """The number in a text, or None. Python's 1_000 for 1000 is not accepted."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _read_rows(path: Path) -> list[tuple[str, str]]:
    """The rows of a file of two columns; a byte order mark and either line ending are fine."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise AsdError(f"{path}: not a CSV text in UTF-8 ({error}). Write it again.") from error
    for number, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise AsdError(f"{path}, row {number}: {len(row)} columns instead of 2 (file, value). Correct the row.")
    return [(row[0], row[1]) for row in rows]


def _table(key: Key, truth: _Truth, values: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    machine, section = key
    files = sorted(truth.label)
    table = pd.DataFrame(
        {
            "machine": machine,
            "section": section,
            "file": files,
            "recording": [f"{machine}/{file}" for file in files],
            "domain": [truth.domain[file] for file in files],
            "label": [truth.label[file] for file in files],
            "score": [values[SCORE_KIND][file] for file in files],
        }
    )
    if DECISION_KIND in values:
        table["decision"] = pd.array([int(values[DECISION_KIND][file]) for file in files], dtype="Int64")
    return table


def _check_table(table: pd.DataFrame) -> None:
    """Refuse what `read_submission` would refuse, before anything is written."""
    require_columns(table, ("machine", "section", "file", "score"))
    # An underscore in a section could not be distinguished from the rest of the file name.
    for column, barred in (("machine", "/\\"), ("section", "/\\_"), ("file", "/\\")):
        wrong = [not isinstance(name, str) or not name or bool(set(barred) & set(name)) for name in table[column]]
        remedy = f"text without any of {' '.join(barred)} is needed"
        refuse_rows(table, column, np.array(wrong, dtype=np.bool_), remedy)
    twice = table.duplicated(["machine", "section", "file"]).to_numpy()
    refuse_rows(table, "file", twice, "that recording occurs above, too; keep one row of each")
    refuse_rows(table, "score", ~np.isfinite(as_floats(table["score"])), f"{_REMEDY[SCORE_KIND]} is needed")
    if has_decisions(table):
        wrong_decision = ~np.isin(as_floats(table["decision"]), (0.0, 1.0))
        refuse_rows(table, "decision", wrong_decision, f"{_REMEDY[DECISION_KIND]} is needed in every row or in none")
