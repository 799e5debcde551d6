"""What only a person can say about a place: which machine a recording is of, and what an unknown folder is."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from asdcore.recordings.folders import SPLIT_FOLDERS, Location, locate, may_name_a_machine, names_a_session
from asdcore.recordings.label_words import Answers, key, label_said
from asdcore.recordings.paths import nfc

SAY_IT = "`--set recordings.labels=NAME:machine` says that a name is that of a machine, not a label"
_QUESTION = (
    "the folder {name} lies beside {label}: are its recordings normal, anomalous, or those of a machine of this name? "
    "Say so with `--set recordings.labels={name}:anomaly` (or normal, or machine), and {label}:machine if that is a "
    "machine; or list the recordings in a manifest CSV"
)


def unnamed(locations: Mapping[Path, Location], place: Path) -> dict[Path, str]:
    """Why it is not known which machine the recordings in a folder are of; those where it is known are left out.

    Args:
        locations: of each folder that holds recordings.
        place: what was given.
    """
    named = {location.machine for location in locations.values() if location.depth}
    parents: dict[str, set[Path]] = {}
    for folder, location in locations.items():
        if location.machine.isdecimal() and location.depth:
            parents.setdefault(location.machine, set()).add(_folder_named(folder, location.machine).parent)
    list_it = "or list the recordings in a manifest CSV with the columns path, machine and session"
    problems: dict[Path, str] = {}
    for folder, location in locations.items():
        where = "is not in a machine's folder"
        if location.depth:
            if len(above := parents.get(location.machine, ())) > 1:
                folders = " and ".join(sorted(map(str, above)))
                problems[folder] = (
                    f"of no known machine: the folder {location.machine} in {folders} may be a machine "
                    f"or a session; name machines' folders with a letter, sessions' run_{location.machine}, {list_it}"
                )
        elif names_a_session(location.machine):
            problems[folder] = (
                f"{where}: the given folder {place} is named after a session, not a machine; give the machine's folder "
                f"that holds it, {list_it}"
            )
        elif may_name_a_machine(location.below):
            problems[folder] = (
                f"{where}: folder {location.below} of the given folder {place} may be a machine or a session; give "
                f"{place.parent} if these are sessions of {place.name}, give the folder the name of the machine alone, "
                f"with a letter in it, if it is a machine, {list_it}"
            )
        elif location.below and named:
            problems[folder] = (
                f"{where}: folder {location.below} is a session beside the machines {_some(named)}; move it into the "
                f"folder of its machine, {list_it}"
            )
    return problems


def _some(names: Iterable[str]) -> str:
    first, *rest = sorted(names)
    return f"{first} and {len(rest)} more" if len(rest) > 1 else " and ".join([first, *rest])


def _folder_named(folder: Path, name: str) -> Path:
    return next(one for one in (folder, *folder.parents) if nfc(one.name) == name)


def unknown_folders(
    asked: Collection[Path],
    folders_of: Mapping[Path, Sequence[str]],
    locations: Mapping[Path, Location],
    answers: Answers,
    known: Collection[str],
) -> dict[Path, tuple[str, str]]:
    """Folders beside one that says a label, which may say one, too: the machine above, and the question.

    Such a folder and all below it, if one of them is asked about. A folder is a machine's if that machine is known, or
    if it has a split folder or folders with labels of its own.

    Args:
        asked: folders with a recording whose place says no label.
        folders_of: the names of the folders down to each one that holds recordings.
        locations: of each of these.
        answers: what a person has said of such names.
        known: machines of which there are recordings already.
    """
    beside: dict[tuple[str, ...], str] = {}
    for path, folders in folders_of.items():
        for depth in range(locations[path].depth + 1, len(folders)):
            if label_said(folders[depth], answers):
                beside.setdefault(tuple(folders[:depth]), folders[depth])
    # Of the folder as a whole: were one recording of it taken and another one asked about, the next ingest would know
    # its machine and ask no more.
    own = {
        tuple(folders[: depth + 1])
        for folders in folders_of.values()
        for depth in range(1, len(folders))
        if any(folder in SPLIT_FOLDERS or label_said(folder, answers) for folder in folders[depth:])
    }
    unclear: dict[tuple[str, ...], tuple[str, str]] = {}
    for path in asked:
        folders = folders_of[path]
        for depth in range(1, len(folders)):
            name, label = folders[depth], beside.get(tuple(folders[:depth]))
            folder = tuple(folders[: depth + 1])
            if label is None or folder in own or name in known or key(name) in answers or names_a_session(name):
                continue
            machine = locate(folders, {**answers, key(name): "anomaly"}).machine
            unclear[folder] = machine, _QUESTION.format(name=name, label=label)
            break
    questions: dict[Path, tuple[str, str]] = {}
    for path, folders in folders_of.items():
        above = (tuple(folders[: depth + 1]) for depth in range(1, len(folders)))
        if question := next((unclear[one] for one in above if one in unclear), None):
            questions[path] = question
    return questions
