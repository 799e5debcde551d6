"""What only a person can say about a place: which machine a recording is of, and what an unknown folder is."""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from asdcore.recordings.folders import (
    SPLIT_FOLDERS,
    Location,
    is_number,
    locate,
    may_name_a_machine,
    names_a_session,
)
from asdcore.recordings.label_words import Answers, key, label_said
from asdcore.recordings.paths import nfc

SAY_IT = "`--set recordings.labels=NAME:machine` says that a name is that of a machine, not a label"
_QUESTION = (
    "the folder {name} lies beside {label}: are its recordings normal, anomalous, or those of a machine of this name? "
    "Say so with `--set {answer}` (or normal, or machine), and {label}:machine if that is a "
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
    # One text for all folders of a name: a number may be in the folder of each day.
    unclear = {
        number: f"of no known machine: the folder {number} in {_some(map(str, above))} may be a machine or a session; "
        f"name machines' folders with a letter, sessions' run_{number}, {list_it}"
        for number, above in parents.items()
        if len(above) > 1
    }
    problems: dict[Path, str] = {}
    for folder, location in locations.items():
        where = "is not in a machine's folder"
        if location.depth:
            if location.machine in unclear:
                problems[folder] = unclear[location.machine]
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


def opposite(name: str, normal: str) -> str:
    """What is to be said of the recordings in a folder, see `label_words.opposites`."""
    return (
        f"the folders {name} and {normal} seem to say labels of one machine: put its normal recordings into a folder "
        f"`normal` and the others into a folder `defect` in the machine's, or list them in a manifest CSV; "
        f"`--set {shlex.quote(f'recordings.labels={name}:machine')}` says that {name} is a machine"
    )


def _answer(name: str) -> str:
    """What may be typed in a shell. A comma would begin another answer; signs do not count, see `label_words.key`."""
    return shlex.quote(f"recordings.labels={' '.join(name.replace(',', ' ').split())}:anomaly")


def _some(names: Iterable[str]) -> str:
    first, *rest = sorted(names)
    return f"{first} and {len(rest)} more" if len(rest) > 1 else " and ".join([first, *rest])


def _folder_named(folder: Path, name: str) -> Path:
    return next(one for one in (folder, *folder.parents) if nfc(one.name) == name)


def several_places(
    folders_of: Mapping[Path, Sequence[str]], locations: Mapping[Path, Location], answers: Answers
) -> dict[str, list[str]]:
    """Machines whose name is that of folders in several places, such as halls, which may be two machines: the folders.

    Sessions, splits and labels are no places.
    """
    places: dict[str, set[str]] = {}
    for folder, folders in folders_of.items():
        depth, above, of_session = locations[folder].depth, list[str](), False
        for name in folders[1:depth]:
            # A plain number is a hall or a line, but for a month or a day.
            of_session = names_a_session(name) and (of_session or not is_number(name))
            if not (of_session or name in SPLIT_FOLDERS or label_said(name, answers)):
                above.append(name)
        if depth:
            places.setdefault(locations[folder].machine, set()).add("/".join([*above, folders[depth]]))
    return {machine: sorted(found) for machine, found in places.items() if machine and len(found) > 1}


def merged(places: Mapping[str, Sequence[str]]) -> list[str]:
    """What to say of machines in `several_places`.

    >>> merged({"pump": ["1/pump", "2/pump"]})
    ['pump: 1/pump and 2/pump count as one machine; if they are different machines, give the folders different names']
    """
    return [
        f"{machine}: {_some(folders)} count as one machine; if they are different machines, give the folders different "
        "names"
        for machine, folders in sorted(places.items())
    ]


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
            unclear[folder] = machine, _QUESTION.format(name=name, label=label, answer=_answer(name))
            break
    questions: dict[Path, tuple[str, str]] = {}
    for path, folders in folders_of.items():
        above = (tuple(folders[: depth + 1]) for depth in range(1, len(folders)))
        if question := next((unclear[one] for one in above if one in unclear), None):
            questions[path] = question
    return questions
