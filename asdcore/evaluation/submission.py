"""The challenge's files: read strictly by recording name, and written.

The official evaluator pairs rows by their sorted position and never looks at the names, so one misspelt name shifts
all the rows after it without a message. Here every row is paired by name, and what cannot be paired is refused.
"""

import csv
import difflib
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from asdcore.errors import AsdError
from asdcore.evaluation.challenges import YEAR, challenge_of
from asdcore.evaluation.ground_truth import Key, Truth, existing, key_of, name_pattern, read_ground_truth, read_rows
from asdcore.evaluation.metrics import DOMAINS, as_floats, has_decisions, refuse_rows, require_columns
from asdcore.recordings.names import parse_place
from asdcore.storage.files import atomic_write

SCORE_KIND = "anomaly_score"
DECISION_KIND = "decision_result"
_REMEDY = {SCORE_KIND: "a finite number", DECISION_KIND: "0 (normal) or 1 (anomalous)"}

# As the official baseline writes it: DCASE2023T2<machine>_section_00_test_seed13711_id(0_)_Eval.csv
_BASELINE_NAME = re.compile(
    r"(?:anomaly_score|decision_result)_DCASE\d{4}T2(?P<machine>.+)_section_(?P<section>[^_]+)_test_seed\d+.*\.csv"
)


def read_submission(scores_dir: Path | str, ground_truth_dir: Path | str, year: int = YEAR) -> pd.DataFrame:
    """Read the anomaly scores, and the decisions if there are any, of every machine in the ground truth.

    Args:
        scores_dir: holds ``anomaly_score_<machine>_section_<section>_test.csv`` with rows ``file,score`` and, for all
            machines or for none, ``decision_result_<machine>_section_<section>_test.csv`` with rows ``file,0|1``; no
            header, rows in any order. The official baseline's names
            (``anomaly_score_DCASE2023T2<machine>_section_00_test_seed13711_…csv``) are read too. ``file`` is the name
            of the recording in the challenge (``section_00_0000.wav``) or its attribute-revealing name
            (``section_00_source_test_normal_0000_….wav``). Other files are left alone. 2021: a file for each domain,
            ``…_section_<section>_<domain>_test.csv``. 2020: ``anomaly_score_<machine>_id_<ID>.csv``, no decisions.
        ground_truth_dir: see `asdcore.evaluation.ground_truth.read_ground_truth`.
        year: of the challenge.

    Returns:
        One row per recording, sorted by machine, section and file: ``machine, section, file, recording``
        (``<machine>/<file>``) ``, domain, label, score`` and, if there are decision files, ``decision`` (Int64).
        `machine_metrics`, `paired_bootstrap` and `write_submission` take it.

    Raises:
        AsdError: names the file and the row (from 1): a name that is unknown or comes twice, a score that is not a
            finite number, a decision other than 0 or 1, a header, a wrong number of columns. Or names the file:
            recordings without a row, a machine without a file, two files for one machine, a file of an unknown machine.

    Source: the submission formats of DCASE Challenge Task 2, as the evaluators read them.
    """
    truths = read_ground_truth(Path(ground_truth_dir), year)
    folder = existing(Path(scores_dir))
    kinds = (SCORE_KIND, DECISION_KIND) if challenge_of(year).decisions else (SCORE_KIND,)
    files = {kind: _files_of(folder, kind, truths, year) for kind in kinds}
    for kind, found in files.items():
        if found or kind == SCORE_KIND:
            _refuse_absent(folder, kind, found, truths, year)
    tables = []
    for key, truth in sorted(truths.items()):
        values = {kind: _read_values(found[key], kind, truth) for kind, found in files.items() if found}
        tables.append(_table(key, truth, values))
    return pd.concat(tables, ignore_index=True)


def submission_table(scores: pd.DataFrame, system: str | None = None) -> pd.DataFrame:
    """The table for `write_submission`, from the scores of a run.

    Args:
        scores: ``path, machine, score`` and, where there are any, ``section, domain, system, decision``. A section or
            domain that is not given is read from the file's name.
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
    table = selected.assign(file=selected["path"].map(lambda path: Path(path).name))
    for name in ("section", "domain"):
        if name not in table:
            table[name] = [getattr(parse_place(Path(path)), name) for path in selected["path"]]
    columns = ["machine", "section", "domain", "file", "score"]
    if "decision" in table and table["decision"].notna().all():
        columns.append("decision")
    return table[columns].reset_index(drop=True)


def write_submission(table: pd.DataFrame, folder: Path | str, year: int = YEAR) -> list[Path]:
    """Write the challenge's files, one per machine, section and kind; `read_submission` reads back the same values.

    Args:
        table: one row per recording: ``machine``, ``section`` (text as in the file names: "00"), ``file`` (name without
            folder), ``score`` (finite) and, optional, ``decision`` (0, 1), for all recordings or for none; for 2021
            ``domain`` (source, target). Other columns are left alone.
        folder: made if need be; files of the same name are replaced.
        year: of the challenge, see `asdcore.evaluation.challenges`. In 2020 there were no decisions.

    Returns:
        The paths written, sorted.

    Raises:
        AsdError: a column or value is missing or not as above, a recording comes twice, or the table has no decisions
            but the folder has some for its machines: then nothing is written. Or the disk cannot be written.
    """
    challenge = challenge_of(year)
    of_domains = "{domain}" in challenge.files
    _check_table(table, of_domains)
    decisions = has_decisions(table) and challenge.decisions
    contents: dict[Path, list[tuple[str, str]]] = {}
    by_file = table.assign(domain=table["domain"] if of_domains else "").sort_values("file")
    for key, rows in by_file.groupby(["machine", "section", "domain"], sort=True, observed=True):
        machine, section, domain = map(str, key)
        names = [str(name) for name in rows["file"]]
        # repr of a float is the shortest text that reads back as the same number.
        scores = [repr(float(score)) for score in as_floats(rows["score"])]
        score_file, decision_file = (
            Path(folder) / file_name(kind, machine, section, domain, year) for kind in (SCORE_KIND, DECISION_KIND)
        )
        contents[score_file] = list(zip(names, scores, strict=True))
        if decisions:
            decided = [str(int(decision)) for decision in rows["decision"]]
            contents[decision_file] = list(zip(names, decided, strict=True))
        else:
            _refuse_stale(decision_file)
    for path, lines in contents.items():
        with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
            csv.writer(out, lineterminator="\n").writerows(lines)
    return sorted(contents)


def file_name(kind: str, machine: str, section: str, domain: str = "", year: int = YEAR) -> str:
    """The challenge's name of a file; ``kind`` is ``anomaly_score`` or ``decision_result``.

    >>> file_name("anomaly_score", "fan", "00")
    'anomaly_score_fan_section_00_test.csv'
    >>> file_name("anomaly_score", "fan", "03", "source", year=2021)
    'anomaly_score_fan_section_03_source_test.csv'
    """
    return challenge_of(year).files.format(kind=kind, machine=machine, section=section, domain=domain)


def _refuse_stale(decision_file: Path) -> None:
    if decision_file.exists():
        raise AsdError(
            f"{decision_file}: a decision file of another submission, which would be read with these scores. "
            "Remove it or write to another folder."
        )


# Score and decision files


def _files_of(folder: Path, kind: str, truths: Mapping[Key, Truth], year: int) -> dict[Key, Path]:
    found: dict[Key, Path] = {}
    pattern = name_pattern(kind, year)
    for path in sorted(folder.glob(f"{kind}_*.csv")):
        match = _BASELINE_NAME.fullmatch(path.name) or pattern.fullmatch(path.name)
        if not match:
            example = file_name(kind, "<machine>", "<section>", "<domain>", year)
            raise AsdError(f"{path}: not a name of the challenge of {year}. Call it {example}, or name another year.")
        key = key_of(match)
        if key not in truths:
            raise AsdError(
                f"{path}: the ground truth has no {_called(key)}. Rename or remove the file; known are "
                f"{', '.join(map(_called, sorted(truths)))}."
            )
        if key in found:
            raise AsdError(f"{path} and {found[key].name} are both of {_called(key)}: keep one of them.")
        found[key] = path
    return found


def _refuse_absent(folder: Path, kind: str, found: Mapping[Key, Path], truths: Mapping[Key, Truth], year: int) -> None:
    absent = sorted(set(truths) - set(found))
    if absent:
        also = " (or remove all decision files: scores alone can be read)" if kind == DECISION_KIND else ""
        raise AsdError(f"{folder}: {_called(absent[0])} has no {file_name(kind, *absent[0], year)}: add it{also}.")


def _called(key: Key) -> str:
    """
    >>> _called(("fan", "03", "source"))
    'fan section 03 source'
    """
    machine, section, domain = key
    return f"{machine} section {section} {domain}".rstrip()


def _read_values(path: Path, kind: str, truth: Truth) -> dict[str, float]:
    """File name, as in the ground truth, to score or decision."""
    values: dict[str, float] = {}
    row_of: dict[str, int] = {}
    for row, (name, text) in enumerate(read_rows(path), start=1):
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


def _unknown_name(path: Path, row: int, name: str, no_number: bool, truth: Truth) -> AsdError:
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


def _table(key: Key, truth: Truth, values: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    machine, section, _ = key
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


def _check_table(table: pd.DataFrame, of_domains: bool) -> None:
    """Refuse what `read_submission` would refuse, before anything is written."""
    require_columns(table, ("machine", "section", "file", "score", *(("domain",) if of_domains else ())))
    if of_domains:
        wrong_domain = ~table["domain"].isin(DOMAINS).to_numpy()
        refuse_rows(table, "domain", wrong_domain, f"{' or '.join(DOMAINS)} is needed for files of one domain")
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
