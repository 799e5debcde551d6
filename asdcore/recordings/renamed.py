"""Renamed machines: the names that their folders and manifests still use, and their names now."""

import json
from pathlib import Path

from asdcore.errors import AsdError
from asdcore.recordings.manifest import LONGEST_MACHINE, fit_for_file_name
from asdcore.storage.files import atomic_write

FILE = "renamed.json"
"""in the folder of the table of recordings"""


def renamed(folder: Path) -> dict[str, str]:
    """Name that a folder or a manifest gives: name of the machine; empty if none was renamed.

    Args:
        folder: of the table of recordings.

    Raises:
        AsdError: the file is damaged.
    """
    file = folder / FILE
    try:
        names = json.loads(file.read_text())
        return {str(old): str(new) for old, new in names.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise AsdError(f"{file}: damaged ({error}). Delete it and rename the machines again") from error


def rename(folder: Path, old: str, new: str) -> None:
    """Remember that a machine has another name from now on. Renaming it back is another rename.

    Raises:
        AsdError: a name that cannot be part of a file's name.
    """
    if not new or not fit_for_file_name(new):
        raise AsdError(
            f"{new[:LONGEST_MACHINE]!r} is empty or contains a slash, a backslash or a control character, is a dot or "
            f"two, or has more than {LONGEST_MACHINE} bytes; result files are named after machines: choose another name"
        )
    names = {name: new if called == old else called for name, called in renamed(folder).items()} | {old: new}
    with atomic_write(folder / FILE) as temporary:
        temporary.write_text(json.dumps({name: called for name, called in names.items() if name != called}, indent=2))
