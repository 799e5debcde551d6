"""Tables beside recordings: manifests, which say what each file is, and tables of attributes."""

import stat
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from asdcore.errors import AsdError
from asdcore.recordings.folders import SPLIT_FOLDERS
from asdcore.recordings.found import Found, called, mark_simulated
from asdcore.recordings.listing import AUDIO_SUFFIXES, audio_files
from asdcore.recordings.paths import nfc, on_disk, printable, surely
from asdcore.recordings.tables import read_csv

MANIFEST = "manifest.csv"
LONGEST_MACHINE = 200
"""bytes of a machine's name: a file name may have 255, and those of result files contain more than the machine"""


def read_manifest(path: Path) -> list[Found]:
    """The recordings that a manifest lists: ``path`` and ``machine``, and where they differ from normal training
    recordings of the source domain, ``split``, ``domain``, ``label``, ``section``; ``session``: recorded in one
    go; other columns are attributes. Paths are relative to the manifest.

    Raises:
        AsdError: a wrong column or value, or a machine name that cannot be part of a file's name; with file and line.
    """
    allowed = {
        "split": {"train", "test"},
        "domain": {"source", "target", "unknown"},
        "label": {"normal", "anomaly", "unknown"},
    }
    header, rows = read_csv(path)
    missing = {"path", "machine"} - set(header)
    if missing:
        raise AsdError(
            f"{path}: the header lacks the column {' and '.join(sorted(missing))}; it has {', '.join(header) or 'none'}"
        )
    if twice := sorted({name for name in header if name.strip() and list(header).count(name) > 1}):
        raise AsdError(f"{path}: the header has the column {' and '.join(twice)} twice: rename or delete one")
    if not rows:
        raise AsdError(f"{path}: lists no recording")
    found = []
    for line, row in rows:
        if None in row or None in row.values():
            raise AsdError(f"{path}, line {line}: has a different number of values than the header has columns")
        values = {name: value.strip() for name, value in row.items() if value.strip()}
        values |= {name: nfc(values[name]) for name in ("machine", "session") if name in values}
        for name in ("path", "machine"):
            if name not in values:
                raise AsdError(f"{path}, line {line}: {name} is empty")
        if not fit_for_file_name(values["machine"]):
            raise AsdError(
                f"{path}, line {line}: machine={values['machine'][:LONGEST_MACHINE]!r} contains a slash, a backslash "
                f"or a control character, is a dot or two, or has more than {LONGEST_MACHINE} bytes; result files are "
                "named after machines: choose another name"
            )
        for name, choices in allowed.items():
            if name in values and values[name] not in choices:
                raise AsdError(
                    f"{path}, line {line}: {name}={values[name]!r}, must be one of {', '.join(sorted(choices))}"
                )
        known = {
            name: values.pop(name)
            for name in ("machine", "section", "split", "domain", "label", "session")
            if name in values
        }
        if known.get("split") == "test":
            known.setdefault("label", "unknown")
        listed = values.pop("path")
        try:
            file = _listed(path.parent, listed)
            problem = "" if file.is_file() else "unreadable: listed in the manifest, but there is no such file"
        except (OSError, RuntimeError) as error:  # A name that is too long, a loop of links, no permission.
            file = path.parent / listed
            problem = f"unreadable: {getattr(error, 'strerror', None) or error}"
        except ValueError:
            raise AsdError(f"{path}, line {line}: path has a character that no path can have") from None
        if known.get("split", "train") == "train" and known.get("label", "normal") != "normal":
            problem = f"{known['label']} recording in the train split: training takes normal ones only"
        labelled = "label" in known
        found.append(Found(called(file), attributes=values, problem=problem, labelled=labelled, **known))
    return mark_simulated(sorted(found, key=lambda f: f.path))


def _listed(folder: Path, name: str) -> Path:
    """The file that a manifest names, in whatever of Unicode's forms the disk has its name, and with slashes of any
    system.
    """
    forms = (name, nfc(name), unicodedata.normalize("NFD", name))
    names = dict.fromkeys([*forms, *(form.replace("\\", "/") for form in forms)])
    files = [on_disk(printable(folder / one)) for one in names]
    return next((file for file in files if surely(file, Path.exists)), files[0]).resolve()


def has_manifest(folder: Path) -> bool:
    """Whether a folder has a manifest.

    Raises:
        AsdError: that is not known. Without a manifest, its recordings would be something else.
    """
    path = folder / MANIFEST
    try:
        other = next((path.name for path in folder.iterdir() if path.name.lower() == MANIFEST != path.name), None)
        if other is not None and not path.exists():
            raise AsdError(f"{printable(folder / other)}: a manifest is called {MANIFEST}, in small letters: rename it")
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not path.is_symlink():
            return False
        raise AsdError(f"{printable(path)}: cannot be read ({error.strerror})") from error


def unlisted(place: Path, found: Iterable[Found]) -> list[Path]:
    """The audio files beside or below a manifest that it does not list; none if ``place`` is no folder with one.

    Args:
        place: what was given to `find_recordings`.
        found: what it has found there.
    """
    place = on_disk(place)
    if not has_manifest(place):
        return []
    listed = {one.path for one in found}
    files = audio_files(place.resolve()).files
    return [path for path in files if not {printable(path), printable(path.resolve())} & listed]


def fit_for_file_name(name: str) -> bool:
    """Whether result files can be named after a machine: spaces and letters of any script are allowed."""
    if name in ("", ".", "..") or len(name.encode("utf-8", "surrogateescape")) > LONGEST_MACHINE:
        return False
    return not any(sign in "/\\" or unicodedata.category(sign) in ("Cc", "Zl", "Zp") for sign in name)


def attribute_tables(found: Sequence[Found]) -> tuple[dict[Path, dict[str, str]], dict[Path, str]]:
    """Attributes from each machine's ``attributes_NN.csv``: ``file_name,d1p,d1v,d2p,d2v,...``, by the file described;
    and the machines' folders with such a table that cannot be read, with the reason.

    ``file_name`` ends in split and name, whatever stands before them.
    """
    attributes: dict[Path, dict[str, str]] = {}
    unreadable: dict[Path, str] = {}
    machine_folders = {f.path.parent.parent for f in found if f.path.parent.name in SPLIT_FOLDERS}
    for table in sorted(table for folder in machine_folders for table in on_disk(folder).glob("attributes_*.csv")):
        try:
            rows = read_csv(table)[1]
        except AsdError as error:
            unreadable[printable(table.parent)] = f"its attributes are not known: {error}"
            continue
        for _, row in rows:
            name = row.get("file_name") or ""
            split_and_name = Path(name if Path(name).suffix.lower() in AUDIO_SUFFIXES else f"{name}.wav").parts[-2:]
            pairs = ((row.get(f"d{i}p"), row.get(f"d{i}v")) for i in range(1, len(row)))
            said = {p: v or "" for p, v in pairs if p and p != "noAttribute"}
            if name and said:
                attributes[printable(table.parent).joinpath(*split_and_name)] = said
    return attributes, unreadable
