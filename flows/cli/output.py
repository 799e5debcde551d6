"""The result of a command as data: ``--csv`` and ``--json``, for every command that prints a table."""

import csv as csv_format
import io
import json as json_format
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, TypeAlias

import typer

from flows.cli.console import out

if TYPE_CHECKING:
    import pandas as pd

P = ParamSpec("P")
Rows: TypeAlias = "pd.DataFrame | Iterable[Mapping[str, Any]]"

INPUTS = ({"recording", "label"}, {"path", "machine"})
"""columns of CSV files that commands read: labels, and manifests"""
WRITTEN = {"score", "rank", "labelled_by"}
"""columns that the tables of commands have, and those files have not"""
FORMULA = ("=", "+", "-", "@", "\t")
"""characters that make a cell a formula in spreadsheets if it begins with one"""
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)
MOST_HEADER = 10_000
"""characters"""
STANDARD_OUTPUT = Path("-")
CsvOption = Annotated[
    Path | None,
    typer.Option("--csv", help="Write the whole table to this CSV file; - prints it", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else")]


class Output:
    """Where the result of a command goes beside the terminal.

    With ``--json`` and ``--csv -`` standard output has the data alone: messages go to stderr, and no table is drawn.
    """

    def __init__(self, csv: Path | None = None, json: bool = False) -> None:
        self.csv = csv
        self.json = json
        if csv is not None:
            _refuse_bad_place(csv, json)

    @property
    def alone(self) -> bool:
        """Whether standard output has the data alone."""
        return self.json or self.csv == STANDARD_OUTPUT

    def write(self, rows: "Rows", names: Sequence[str] = (), **facts: Any) -> None:
        """Write the result, where that is asked for. A command calls it once, after it has drawn the table.

        Args:
            rows: the whole table: what ``--csv`` writes.
            names: of the columns of a CSV file that has no row; default: none.
            facts: what else there is to tell. ``--json`` prints an array of the rows, and if there are facts, an object
                of them and of ``rows``.
        """
        records = plain(rows)
        if self.json:
            typer.echo(_json(plain(facts) | {"rows": records} if facts else records))
        if self.csv is None:
            return
        # A path may have bytes that are no text.
        text = _csv(records, names).encode("utf-8", "surrogateescape")
        if self.csv == STANDARD_OUTPUT:
            sys.stdout.flush()
            sys.stdout.buffer.write(text)
            sys.stdout.flush()
            return
        from asdcore.storage.files import atomic_write

        with atomic_write(self.csv, "choose another file with --csv") as temporary:
            temporary.write_bytes(text)
        out.print(f"All {len(records)} rows: {self.csv}")


def with_output(command: "Callable[Concatenate[Output, P], None]") -> Callable[..., None]:
    """Give a command that prints a table the options ``--csv`` and ``--json``, and as its first argument an `Output`.

    They come before the last option, ``--home``, where there is one.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        output = Output(kwargs.pop("csv", None), kwargs.pop("json", False))  # type: ignore[arg-type]
        before, out.stderr = out.stderr, output.alone
        try:
            command(output, *args, **kwargs)
        finally:
            out.stderr = before

    options = [
        Parameter("csv", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=CsvOption),
        Parameter("json", Parameter.POSITIONAL_OR_KEYWORD, default=False, annotation=JsonOption),
    ]
    _, *others = signature(command).parameters.values()
    last = [others.pop()] if others and others[-1].name == "home" else []
    parameters = [*others, *options, *last]
    # Typer reads the options of a command from its signature.
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def number(version: str | None) -> int | None:
    """A version of the registry, which MLflow has as text."""
    return int(version) if version and version.isdigit() else None


def plain(value: Any) -> Any:
    """A value as JSON has it: unknown is None, infinite the largest number, a time ISO 8601, a table its rows.

    >>> plain({"score": float("nan"), "files": (Path("a.wav"),), "count": 3})
    {'score': None, 'files': ['a.wav'], 'count': 3}
    """
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        limit = sys.float_info.max
        return None if math.isnan(value) else float(min(max(value, -limit), limit))
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if type(value).__name__ in ("NAType", "NaTType"):  # Before dates: pandas' NaT is one.
        return None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "to_dict"):  # A data frame; not every command imports pandas.
        return [plain(row) for row in value.astype(object).to_dict("records")]
    if hasattr(value, "tolist"):  # Of NumPy.
        return plain(value.tolist())
    return [plain(one) for one in value]


def _json(content: Any) -> str:
    """JSON, one row per line: indenting each value of many would take a second."""
    if isinstance(content, dict):
        parts = [f"{json_format.dumps(name)}: {_json(value)}" for name, value in content.items()]
        return "{\n" + ",\n".join(parts) + "\n}"
    if isinstance(content, list) and any(isinstance(one, dict) for one in content):
        return "[\n" + ",\n".join(json_format.dumps(one, allow_nan=False) for one in content) + "\n]"
    return json_format.dumps(content, allow_nan=False)


def _csv(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    header = list(dict.fromkeys(name for record in records for name in record)) or list(names)
    text = io.StringIO()
    lines = csv_format.writer(text, lineterminator="\n")
    if header:
        lines.writerow(header)
    lines.writerows([_cell(record.get(name)) for name in header] for record in records)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return _no_formula(_plain_cell(value))


def _no_formula(value: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would take for a formula, such as the name of a folder.

    >>> _no_formula("=1+1"), _no_formula("-0.5"), _no_formula(-0.5), _no_formula("/mnt/a.wav")
    ("'=1+1", '-0.5', -0.5, '/mnt/a.wav')
    """
    if not isinstance(value, str):
        return value
    value = value.replace("\r", r"\r")  # Python's csv does not quote it, and readers take it for the end of a row.
    return f"'{value}" if value.startswith(FORMULA) and not _NUMBER.fullmatch(value) else value


def _plain_cell(value: Any) -> Any:
    if isinstance(value, list) and not any(isinstance(one, list | dict) for one in value):
        return ", ".join(map(str, value))
    return json_format.dumps(value) if isinstance(value, list | dict) else value


def _refuse_bad_place(csv: Path, json: bool) -> None:
    """Raise BadParameter before the work is done, not after it."""
    if csv == STANDARD_OUTPUT:
        if json:
            raise typer.BadParameter("only one of --csv - and --json can be printed", param_hint="--csv")
        return
    if csv.is_dir() or not csv.parent.is_dir():
        raise typer.BadParameter(f"{csv} is a folder, or its folder does not exist", param_hint="--csv")
    # As in `asd score --csv new.wav old.wav`, where the name of the table was forgotten.
    if csv.exists() and csv.suffix.lower() != ".csv":
        raise typer.BadParameter(f"{csv} exists and is not a .csv file: it is not overwritten", param_hint="--csv")
    if csv.is_file() and _is_input(csv):
        raise typer.BadParameter(
            f"{csv} has the columns of labels or of a manifest: it is not overwritten. --csv names the file that the "
            f"command writes; labels and manifests are read without it, as in `asd label {csv.name}`",
            param_hint="--csv",
        )


def _is_input(csv: Path) -> bool:
    """Whether a CSV file is one that commands read: labels or a manifest, and no table that a command has written."""
    with csv.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        header = {name.strip() for name in next(csv_format.reader([lines.readline(MOST_HEADER)]), [])}
    return not header & WRITTEN and any(columns <= header for columns in INPUTS)
