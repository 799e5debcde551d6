"""CSV files that people and their spreadsheet programs write."""

import csv
from collections.abc import Sequence
from pathlib import Path

from asdcore.errors import AsdError

_SEPARATORS = ",;\t"
"""A spreadsheet program separates by semicolons where the comma is the decimal sign."""


def read_csv(path: Path) -> tuple[Sequence[str], list[tuple[int, dict[str, str]]]]:
    """The header, and each row with the number of its line. Columns are separated by what the header has most of:
    commas, semicolons or tabs.

    Raises:
        AsdError: it cannot be read, or is not a CSV file in UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            separator = max(_SEPARATORS, key=header.count)
            reader = csv.DictReader(file, delimiter=separator, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader]
            return reader.fieldnames or (), rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise AsdError(f"{path}: not a CSV file in UTF-8 ({error}); save it again as one") from error
    except OSError as error:
        raise AsdError(f"{path}: cannot be read ({error.strerror})") from error
