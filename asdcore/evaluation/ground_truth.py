"""Labels and domains of the challenge's test recordings, in the files that each year's evaluator reads."""

import csv
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from asdcore.errors import AsdError
from asdcore.evaluation.challenges import YEAR, challenge_of
from asdcore.evaluation.metrics import DOMAINS, LABELS

LIST_OF_2020 = "eval_data_list.csv"
_ID = re.compile(r"id_(\d+)_.*")
_GROUND_TRUTH = "ground_truth"

Key = tuple[str, str, str]
"""Machine, section, and the domain where files are of one domain only (2021), empty elsewhere."""


@dataclass(frozen=True)
class Truth:
    """The ground truth of one file of scores."""

    label: Mapping[str, str]
    """File name to label."""
    domain: Mapping[str, str]
    """File name to domain."""
    revealed: Mapping[str, str]
    """Attribute-revealing file name to file name."""


def read_ground_truth(folder: Path, year: int = YEAR) -> dict[Key, Truth]:
    """The ground truth of every machine and section.

    Args:
        folder: since 2022 it holds ``ground_truth_data`` (rows ``file,0|1``: normal, anomaly), ``ground_truth_domain``
            (``file,0|1``: source, target) and, optional, ``ground_truth_attributes`` (``file,revealing name without
            .wav``), each with ``ground_truth_<machine>_section_<section>_test.csv``. 2021: ``ground_truth_data`` with
            ``ground_truth_<machine>_section_<section>_<domain>_test.csv``. 2020: ``eval_data_list.csv``, a line with
            the machine's name and then rows ``file,revealing name,0|1`` for each machine; all are of the source domain.
        year: of the challenge.

    Raises:
        AsdError: names the file, and the row (from 1) where there is one: a file is missing, a row has another number
            of columns or another value, a recording comes twice or is not in all files.
    """
    if year == 2020:
        return _read_list(existing(folder) / LIST_OF_2020)
    labels = _files_in(existing(folder / "ground_truth_data"), year)
    if not labels:
        example = challenge_of(year).files.format(
            kind=_GROUND_TRUTH, machine="<machine>", section="<section>", domain="<domain>"
        )
        raise AsdError(
            f"{folder / 'ground_truth_data'}: holds no {example}, the name in {year}. Give the folder above the ground "
            "truth's, or another year."
        )
    if year == 2021:
        return {key: _read_truth_of_domain(path, key[2]) for key, path in labels.items()}
    domains = _files_in(existing(folder / "ground_truth_domain"), year)
    attributes_dir = folder / "ground_truth_attributes"
    attributes = _files_in(attributes_dir, year) if attributes_dir.is_dir() else {}
    return {key: _read_truth(path, domains.get(key), attributes.get(key)) for key, path in labels.items()}


def existing(folder: Path) -> Path:
    """The folder, if it exists."""
    if not folder.is_dir():
        raise AsdError(f"{folder}: no such folder. Give the folder that holds the files.")
    return folder


def name_pattern(kind: str, year: int) -> re.Pattern[str]:
    """What a file of this kind is called, with the groups ``machine``, ``section`` and, in 2021, ``domain``."""
    groups = {"machine": r"(?P<machine>.+)", "section": r"(?P<section>[^_]+)", "domain": r"(?P<domain>source|target)"}
    return re.compile(challenge_of(year).files.replace(".", r"\.").format(kind=kind, **groups))


def key_of(match: re.Match[str]) -> Key:
    """The key of a name that matched a `name_pattern`."""
    groups = match.groupdict()
    return groups["machine"], groups["section"], groups.get("domain", "")


def read_rows(path: Path, columns: Collection[int] = (2,)) -> list[list[str]]:
    """The rows of a file that has these numbers of columns; a byte order mark and either line ending are fine.

    Raises:
        AsdError: the file is no text, or a row has another number of columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise AsdError(f"{path}: not a CSV text in UTF-8 ({error}). Write it again.") from error
    for number, row in enumerate(rows, start=1):
        if len(row) not in columns:
            needed = "2 (file, value)" if tuple(columns) == (2,) else " or ".join(map(str, columns))
            raise AsdError(f"{path}, row {number}: {len(row)} columns instead of {needed}. Correct the row.")
    return rows


def _files_in(folder: Path, year: int) -> dict[Key, Path]:
    pattern = name_pattern(_GROUND_TRUTH, year)
    matches = ((path, pattern.fullmatch(path.name)) for path in folder.iterdir())
    return {key_of(match): path for path, match in matches if match}


def _read_truth(label_file: Path, domain_file: Path | None, attribute_file: Path | None) -> Truth:
    if domain_file is None:
        raise AsdError(f"{label_file.name} is in ground_truth_data but not in ground_truth_domain: add it there.")
    label, domain = _read_coded(label_file, LABELS), _read_coded(domain_file, DOMAINS)
    odd = sorted(set(label) ^ set(domain))
    if odd:
        raise AsdError(f"{label_file} and {domain_file} do not list the same recordings: {odd[0]} is in only one.")
    revealed: dict[str, str] = {}
    if attribute_file is not None:
        for row, (file, revealing) in enumerate(read_rows(attribute_file), start=1):
            if file not in label:
                raise AsdError(f"{attribute_file}, row {row}: {file!r} is not in {label_file}: make the two agree.")
            revealed[revealing if revealing.endswith(".wav") else f"{revealing}.wav"] = file
    return Truth(label, domain, revealed)


def _read_truth_of_domain(label_file: Path, domain: str) -> Truth:
    label = _read_coded(label_file, LABELS)
    return Truth(label, dict.fromkeys(label, domain), {})


def _read_list(path: Path) -> dict[Key, Truth]:
    if not path.is_file():
        raise AsdError(f"{path}: no such file. Give the folder that holds the list of 2020, or another year.")
    machine = ""
    labels: dict[Key, dict[str, str]] = {}
    revealed: dict[Key, dict[str, str]] = {}
    for row, cells in enumerate(read_rows(path, (1, 3)), start=1):
        if len(cells) == 1:
            machine = cells[0]
            continue
        file, revealing, code = cells
        match = _ID.fullmatch(file)
        if match is None or not machine:
            raise AsdError(f"{path}, row {row}: {file!r} must be id_<ID>_<number>.wav, below the name of a machine.")
        key = (machine, match[1], "")
        _add(labels.setdefault(key, {}), file, code, LABELS, path, row)
        revealed.setdefault(key, {})[revealing] = file
    if not labels:
        raise AsdError(f"{path}: lists no recording. Write it again.")
    return {key: Truth(label, dict.fromkeys(label, "source"), revealed[key]) for key, label in labels.items()}


def _read_coded(path: Path, words: tuple[str, ...]) -> dict[str, str]:
    """File name to word, where the file says 0 for the first word and 1 for the second."""
    found: dict[str, str] = {}
    for row, (file, code) in enumerate(read_rows(path), start=1):
        _add(found, file, code, words, path, row)
    return found


def _add(found: dict[str, str], file: str, code: str, words: tuple[str, ...], path: Path, row: int) -> None:
    if code not in ("0", "1"):
        raise AsdError(f"{path}, row {row}: {code!r} must be 0 ({words[0]}) or 1 ({words[1]}).")
    if file in found:
        raise AsdError(f"{path}, row {row}: {file!r} comes twice; keep one row.")
    found[file] = words[int(code)]
