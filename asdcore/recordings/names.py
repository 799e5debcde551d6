"""What the place of an audio file says about it: DCASE names and layouts, manifest CSV, plain machine folders.

DCASE layouts of 2020 to 2025: ``<machine>/{train,test,source_test,target_test}/<name>`` at any depth, with names such
as ``section_00_source_train_normal_0000_vel_620_ac_0.08.wav`` (2021 on), ``normal_id_00_00000000.wav`` (2020) and, in
evaluation sets, the same without a label (``section_00_0000.wav``, ``id_01_00000000.wav``). Without a split folder the
name alone decides: labelled normal is for training, everything else for testing.
"""

import csv
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from asdcore.errors import AsdError
from asdcore.recordings.folders import SPLIT_FOLDERS, Location, folders_of, locate, may_name_a_machine, names_a_session

AUDIO_SUFFIXES = {".wav", ".flac"}
MANIFEST = "manifest.csv"
DETECTOR = "detector "
"""What ``labelled_by`` begins with, before a version, where no person has settled a label."""
LONGEST_MACHINE = 200
"""bytes of a machine's name: a file's name may have 255, and some have more than the machine's in them"""
NOT_UTF8 = "the name of the file or of its folder is not UTF-8: rename it"
"""why a recording must not be used: no table can hold its path"""
SIMULATED = "SIMULATED.txt"
"""A folder that holds this file holds simulated recordings: they get the attribute ``simulated``."""

_SECTION_NAME = re.compile(
    r"section_(?P<section>\d+)"
    r"(?:_(?P<domain>source|target))?(?:_(?P<split>train|test))?(?:_(?P<label>normal|anomaly))?"
    r"_(?P<number>\d+)(?:_(?P<attributes>.+))?"
)
_ID_NAME = re.compile(r"(?:(?P<label>normal|anomaly)_)?id_(?P<section>\d+)_(?P<number>\d+)")
_SAYS_ANOMALY = re.compile(r"anomal|abnormal|(?<!de)fault|defect|broken", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """An audio file and what its place says about it. ``problem`` is empty, or the reason to quarantine it."""

    path: Path
    machine: str = ""
    section: str = "00"
    domain: str = "source"
    split: str = "train"
    label: str = "normal"
    attributes: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    session: str = ""
    """what was recorded in one go, see `asdcore.recordings.sessions`; empty: unknown"""
    labelled: bool = False
    """whether its place says the label; a training recording of which it does not is taken to be normal"""


def find_recordings(place: Path, machine: str | None = None) -> list[Found]:
    """Every audio file of ``place``, sorted by path: a manifest CSV, a folder that holds one, or a folder of audio.

    Args:
        place: what is above it is not looked at.
        machine: whose recordings these are where no folder below ``place`` names a machine; None: the name of
            ``place`` itself says it. A recording of which neither does has a problem.

    Raises:
        AsdError: ``place`` does not exist, holds no wav or flac file, or its manifest has a wrong column or value.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "pump"
    >>> folder.mkdir(); _ = (folder / "monday.wav").write_bytes(b"")
    >>> [(f.machine, f.split, f.label) for f in find_recordings(folder.parent)]
    [('pump', 'train', 'normal')]
    """
    if not place.exists():
        raise AsdError(f"{place}: no such file or folder")
    if place.is_file() and place.suffix.lower() == ".csv":
        return read_manifest(place)
    if place.is_file():
        raise AsdError(f"{place}: give the folder that holds the recordings, or a manifest CSV")
    if (place / MANIFEST).is_file():
        return read_manifest(place / MANIFEST)
    top = place.resolve()
    locations = {path: locate(folders_of(path, top, machine)) for path in _audio_files(top)}
    if not locations:
        raise AsdError(f"{place}: no .wav or .flac file in this folder or below it")
    unnamed = {} if machine else _unnamed(locations, top)
    unnamed |= {path: NOT_UTF8 for path in locations if printable(path) != path}
    found = [
        Found(printable(path), problem=unnamed[path]) if path in unnamed else _found(path, location)
        for path, location in locations.items()
    ]
    attributes = _attribute_tables(found)
    return _mark_simulated([replace(f, attributes=attributes.get(f.path, f.attributes)) for f in found])


def printable(path: Path) -> Path:
    r"""The path itself, or what can be printed and stored of one that is not UTF-8.

    >>> str(printable(Path(os.fsdecode(b"pump/valve\xff.wav"))))
    'pump/valve\\xff.wav'
    """
    return Path(os.fsencode(path).decode("utf-8", "backslashreplace"))


def parse_place(path: Path) -> Found:
    """What the folders and the name of one audio file say about it (see the module's text for the layouts).

    >>> found = parse_place(Path("gearbox/train/section_00_source_train_normal_0073_volt_1.5_wt_150.wav"))
    >>> found.machine, found.domain, found.attributes
    ('gearbox', 'source', {'volt': '1.5', 'wt': '150'})
    """
    return _found(path, locate(folders_of(path, None)))


def label_in_name(path: Path) -> str:
    """What the name of a file says it is, ``normal`` or ``anomaly``; empty if it does not say.

    >>> label_in_name(Path("fan/test/section_00_source_test_anomaly_0003.wav")), label_in_name(Path("fan/monday.wav"))
    ('anomaly', '')
    """
    match = _SECTION_NAME.fullmatch(path.stem) or _ID_NAME.fullmatch(path.stem)
    return (match["label"] or "") if match else ""


def is_simulated(path: Path) -> bool:
    """Whether a file lies in a folder of simulated recordings."""
    return any((above / SIMULATED).is_file() for above in path.resolve().parents)


def _unnamed(locations: Mapping[Path, Location], place: Path) -> dict[Path, str]:
    """Why it is not known of which machine a recording is, where it is not."""
    named = {location.machine for location in locations.values() if location.depth}
    parents: dict[str, set[Path]] = {}
    for path, location in locations.items():
        if location.machine.isdecimal() and location.depth:
            parents.setdefault(location.machine, set()).add(_folder_named(path, location.machine).parent)
    list_it = "or list the recordings in a manifest CSV with the columns path, machine and session"
    problems: dict[Path, str] = {}
    for path, location in locations.items():
        where = "lies in no machine's folder"
        if location.depth:
            if len(above := parents.get(location.machine, ())) > 1:
                folders = " and ".join(sorted(str(folder) for folder in above))
                problems[path] = (
                    f"of no known machine: there is a folder {location.machine} in {folders}, and it may be a machine "
                    f"or a session; name machines' folders with a letter, sessions' run_{location.machine}, {list_it}"
                )
        elif names_a_session(location.machine):
            problems[path] = (
                f"{where}: the given folder {place} is named after a session, not a machine; give the machine's folder "
                f"that holds it, {list_it}"
            )
        elif may_name_a_machine(location.below):
            problems[path] = (
                f"{where}: folder {location.below} of the given folder {place} may be a machine or a session; give "
                f"{place.parent} if these are sessions of {place.name}, give the folder the name of the machine alone, "
                f"with a letter in it, if it is a machine, {list_it}"
            )
        elif location.below and named:
            problems[path] = (
                f"{where}: folder {location.below} is a session beside the machines {_some(named)}; move it into the "
                f"folder of its machine, {list_it}"
            )
    return problems


def _some(names: Iterable[str]) -> str:
    first, *rest = sorted(names)
    return f"{first} and {len(rest)} more" if len(rest) > 1 else " and ".join([first, *rest])


def _folder_named(path: Path, name: str) -> Path:
    return next(folder for folder in path.parents if folder.name == name)


def _found(path: Path, location: Location) -> Found:
    machine, session = location.machine, location.session
    match = _SECTION_NAME.fullmatch(path.stem) or _ID_NAME.fullmatch(path.stem)
    said = {name: value for name, value in match.groupdict().items() if value} if match else {}
    if machine == "supplemental":
        return Found(path, problem="supplemental recordings of the challenge are not used")
    if location.split:
        return replace(_in_split_folder(path, machine, location.split, said), session=session)
    if said:
        split = said.get("split", "train" if said.get("label") == "normal" else "test")
        return replace(_described(path, machine, split, said), session=session)
    if machine.lower() == "normal" or _SAYS_ANOMALY.search(f"{machine}/{session}/{path.stem}"):
        return Found(
            path,
            machine=machine,
            problem="unparsable name: a plain machine folder has the machine's name and holds normal recordings only, "
            "but this name says otherwise; list the files in a manifest CSV",
        )
    return Found(path, machine=machine, session=session)


def _in_split_folder(path: Path, machine: str, folder: str, said: dict[str, str]) -> Found:
    split = SPLIT_FOLDERS[folder]
    if not said:
        problem = f"unparsable name: not a DCASE name, though it lies in a folder {folder}; list it in a manifest CSV"
        return Found(path, machine=machine, split=split, problem=problem)
    if said.get("split", split) != split:
        problem = f"unparsable name: says {said['split']}, but lies in a folder {folder}"
        return Found(path, machine=machine, split=split, problem=problem)
    if folder.endswith("_test"):
        said.setdefault("domain", folder.removesuffix("_test"))
    return _described(path, machine, split, said)


def _described(path: Path, machine: str, split: str, said: dict[str, str]) -> Found:
    label = said.get("label", "normal" if split == "train" else "unknown")
    # Names of 2020 know no domains: all of them are source. An unlabelled evaluation name hides its domain.
    domain = said.get("domain", "unknown" if label == "unknown" and "section" in path.stem else "source")
    attributes = parse_attributes(said.get("attributes", ""))
    found = Found(path, machine, said["section"], domain, split, label, attributes, labelled=True)
    if split == "train" and label == "anomaly":
        return replace(found, problem="an anomalous recording in the train split: training takes normal ones only")
    return found


def parse_attributes(text: str) -> dict[str, str]:
    """``name_value`` pairs joined by underscores; a last name without a value gets an empty one.

    >>> parse_attributes("vel_620_ac_0.08"), parse_attributes("m-n_W"), parse_attributes("noAttribute")
    ({'vel': '620', 'ac': '0.08'}, {'m-n': 'W'}, {})
    """
    if text in ("", "noAttribute"):
        return {}
    words = text.split("_")
    values = [*words[1::2], ""] if len(words) % 2 else words[1::2]
    return dict(zip(words[::2], values, strict=True))


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
    header, rows = _read_csv(path)
    missing = {"path", "machine"} - set(header)
    if missing:
        raise AsdError(f"{path}: the header lacks the column {' and '.join(sorted(missing))}")
    if twice := sorted({name for name in header if name.strip() and list(header).count(name) > 1}):
        raise AsdError(f"{path}: the header has the column {' and '.join(twice)} twice: rename or delete one")
    if not rows:
        raise AsdError(f"{path}: lists no recording")
    found = []
    for line, row in rows:
        if None in row or None in row.values():
            raise AsdError(f"{path}, line {line}: has another number of values than the header has columns")
        values = {name: value.strip() for name, value in row.items() if value.strip()}
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
        listed = path.parent / values.pop("path")
        try:
            file_path = listed.resolve()
            problem = "" if file_path.is_file() else "unreadable: listed in the manifest, but there is no such file"
        except (OSError, RuntimeError) as error:  # Too long a name, links in a circle, no permission.
            file_path, problem = listed, f"unreadable: {getattr(error, 'strerror', None) or error}"
        except ValueError:
            raise AsdError(f"{path}, line {line}: path has a character that no path can have") from None
        if known.get("split", "train") == "train" and known.get("label", "normal") != "normal":
            problem = f"{known['label']} recording in the train split: training takes normal ones only"
        labelled = "label" in known
        found.append(Found(file_path, attributes=values, problem=problem, labelled=labelled, **known))
    return _mark_simulated(sorted(found, key=lambda f: f.path))


def fit_for_file_name(name: str) -> bool:
    """Spaces and letters of any script are; not what is no name, or too long for a name with something beside it."""
    if name in ("", ".", "..") or len(os.fsencode(name)) > LONGEST_MACHINE:
        return False
    return not any(sign in "/\\" or unicodedata.category(sign) in ("Cc", "Zl", "Zp") for sign in name)


def _audio_files(root: Path) -> list[Path]:
    """Sorted. Links to folders are followed, each folder once; hidden files and folders are left out."""
    found: list[Path] = []
    visited: set[Path] = set()
    for name, below, files in os.walk(root, followlinks=True):
        folder = Path(name)
        if folder.resolve() in visited:
            below.clear()
            continue
        visited.add(folder.resolve())
        # Folders before links: recordings keep the name of the folder that they are really in.
        below[:] = sorted((b for b in below if not b.startswith(".")), key=lambda b: ((folder / b).is_symlink(), b))
        paths = [folder / file for file in files if not file.startswith(".")]
        # A link to nothing is kept: it goes to quarantine as unreadable.
        found += [p for p in paths if p.suffix.lower() in AUDIO_SUFFIXES and (p.is_file() or p.is_symlink())]
    return sorted(found)


def _attribute_tables(found: Sequence[Found]) -> dict[Path, dict[str, str]]:
    """Attributes from each machine's ``attributes_NN.csv``: ``file_name,d1p,d1v,d2p,d2v,...``, by the file described.

    ``file_name`` ends in split and name, whatever stands before them.
    """
    attributes: dict[Path, dict[str, str]] = {}
    machine_folders = {f.path.parent.parent for f in found if f.path.parent.name in SPLIT_FOLDERS}
    for table in sorted(table for folder in machine_folders for table in folder.glob("attributes_*.csv")):
        for _, row in _read_csv(table)[1]:
            name = row.get("file_name") or ""
            split_and_name = Path(name if Path(name).suffix.lower() in AUDIO_SUFFIXES else f"{name}.wav").parts[-2:]
            pairs = ((row.get(f"d{i}p"), row.get(f"d{i}v")) for i in range(1, len(row)))
            said = {p: v or "" for p, v in pairs if p and p != "noAttribute"}
            if name and said:
                attributes[table.parent.joinpath(*split_and_name)] = said
    return attributes


def _mark_simulated(found: Sequence[Found]) -> list[Found]:
    """Each that is simulated gets the attribute, whatever link or manifest leads to it."""
    folders = {f.path: f.path.resolve().parent for f in found if not f.problem}
    simulated = {
        folder
        for folder in set(folders.values())
        if any((above / SIMULATED).is_file() for above in (folder, *folder.parents))
    }
    return [
        replace(f, attributes=f.attributes | {"simulated": "yes"}) if folders.get(f.path) in simulated else f
        for f in found
    ]


def _read_csv(path: Path) -> tuple[Sequence[str], list[tuple[int, dict[str, str]]]]:
    """The header, and each row with the number of its line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
            return reader.fieldnames or (), rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise AsdError(f"{path}: not a CSV file in UTF-8 ({error}); save it again as one") from error
