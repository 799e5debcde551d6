"""What the place of an audio file says about it: DCASE names and layouts, manifest CSV, plain machine folders.

DCASE layouts of 2020 to 2026: ``<machine>/{train,test,source_test,target_test}/<name>`` at any depth, with names such
as ``section_00_source_train_normal_0000_vel_620_ac_0.08.wav`` (2021 on), ``normal_id_00_00000000.wav`` (2020) and, in
evaluation sets, the same without a label (``section_00_0000.wav``, ``id_01_00000000.wav``). The official baseline's
folder ``test_rename`` has the recordings of ``test`` once more, with labels. ``supplemental`` (2025 on) is left out.
Without a split folder the name alone decides: normal recordings are for training, all others for testing.

Folders that say a label, below or directly above the machine's: ``pump/OK/<name>``, ``pump/niO/<name>``, MIMII's
``pump/id_00/{normal,abnormal}/<name>`` (machine ``pump_id_00``), ``pump/test/defect/<name>``, ``defect/pump/<name>``.
Without a split folder normal ones are for training, anomalous ones for testing. See `asdcore.recordings.label_words`.

Plain folders: ``<machine>/<name>``, normal recordings for training, with sessions (`asdcore.recordings.folders`).
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from asdcore.errors import AsdError
from asdcore.recordings.folders import SPLIT_FOLDERS, Location, folders_of, locate
from asdcore.recordings.found import NOT_TOLD, Found, called, mark_simulated
from asdcore.recordings.label_words import NO_ANSWERS, Answers, has_fault_in, label_said, names_a_fault, opposites
from asdcore.recordings.listing import NO_RECORDING, SUPPLEMENTAL, audio_files, summed_up
from asdcore.recordings.manifest import (
    LONGEST_MACHINE,
    MANIFEST,
    attribute_tables,
    fit_for_file_name,
    has_manifest,
    read_manifest,
)
from asdcore.recordings.paths import NOT_UTF8, is_a_folder, nfc, on_disk, printable
from asdcore.recordings.questions import SAY_IT, opposite, several_places, unknown_folders, unnamed

_SECTION_NAME = re.compile(
    r"section_(?P<section>\d+)"
    r"(?:_(?P<domain>source|target))?(?:_(?P<split>train|test))?(?:_(?P<label>normal|anomaly))?"
    r"_(?P<number>\d+)(?:_(?P<attributes>.*))?"
)
_ID_NAME = re.compile(r"(?:(?P<label>normal|anomaly)_)?id_(?P<section>\d+)_(?P<number>\d+)")
_LIST_IT = "list it in a manifest CSV"


class Contents(NamedTuple):
    """What was found at a place."""

    recordings: list[Found]
    """sorted by path"""
    left_out: dict[str, str]
    """path of an audio file that is not a recording of a machine, or cannot be decoded: why"""
    places: dict[str, list[str]]
    """machine whose name folders in several places have: these folders, relative to the given one"""


def find_recordings(place: Path, machine: str | None = None, answers: Answers = NO_ANSWERS) -> list[Found]:
    """The recordings of `contents_of`.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "pump"
    >>> folder.mkdir(); _ = (folder / "monday.wav").write_bytes(b"")
    >>> [(f.machine, f.split, f.label) for f in find_recordings(folder.parent)]
    [('pump', 'train', 'normal')]
    """
    return contents_of(place, machine, answers).recordings


def contents_of(
    place: Path,
    machine: str | None = None,
    answers: Answers = NO_ANSWERS,
    known: Collection[str] = (),
    only: Collection[Path] | None = None,
) -> Contents:
    """Every audio file of ``place``: a manifest CSV, a folder that holds one, or a folder of audio.

    Args:
        place: folders above it do not count.
        machine: whose recordings these are where no folder below ``place`` names a machine; None: the name of
            ``place`` itself says it. A recording of which neither does has a problem.
        answers: what a person has said about folders whose names may be labels, see
            `asdcore.recordings.label_words.answers_of`.
        known: machines that have recordings already: a folder of such a name is taken for a machine without asking.
        only: the recordings that matter, by their `printable` paths; others may be left out, which saves time. What the
            names of all folders say counts all the same.

    Raises:
        AsdError: ``place`` does not exist, holds no audio file that can be read, or its manifest has a wrong column or
            value.
    """
    place, shown = on_disk(place), printable(place)
    is_folder = is_a_folder(place)
    if not is_folder and place.suffix.lower() == ".csv":
        return Contents(read_manifest(place), {}, {})
    if not is_folder:
        raise AsdError(f"{shown}: give the folder that holds the recordings, or a manifest CSV")
    if has_manifest(place):
        return Contents(read_manifest(place / MANIFEST), {}, {})
    files, left = audio_files(place.resolve())
    left_out = {str(printable(path)): reason for path, reason in left.items()}
    if not files:
        raise AsdError("; ".join([f"{shown}: {NO_RECORDING}", *summed_up(left_out)]))
    top, machine = printable(place.resolve()), machine and nfc(machine)
    paths = dict.fromkeys(map(called, files))
    # Of each folder that holds recordings: a million of them lie in few.
    parents = dict.fromkeys(path.parent for path in paths)
    folders = {folder: folders_of(folder, top, machine, answers) for folder in parents}
    locations = {folder: _in_test_set(locate(names, answers), folder, top) for folder, names in folders.items()}
    problems = {} if machine else unnamed(locations, top)
    if only is not None and not unknown_folders(folders, folders, locations, answers, known):
        # There is no folder of which its other recordings, too, decide whether it is asked about.
        paths = {path: None for path in paths if path in only}
    faults = {folder: names[1 : locations[folder].depth] for folder, names in folders.items()}
    found = [
        Found(path, problem=problems[path.parent])
        if path.parent in problems
        else _found(path, locations[path.parent], answers, faults[path.parent])
        for path in paths
    ]
    machines = {location.machine for location in locations.values()}.union(known)
    normal_ones = opposites(sorted(machines), answers)
    found = [
        # Of no known machine: once one recording had arrived as such a machine's, the others would not be asked about.
        replace(one, machine="", problem=opposite(one.machine, normal_ones[one.machine]))
        if one.machine in normal_ones and one.machine not in known and not (one.labelled or one.problem)
        else one
        for one in found
    ]
    unlabelled = dict.fromkeys(one.path.parent for one in found if not one.labelled)
    questions = unknown_folders(unlabelled, folders, locations, answers, known)
    found = [
        replace(one, machine=question[0], problem=question[1]) if (question := questions.get(one.path.parent)) else one
        for one in found
    ]
    attributes, unreadable = attribute_tables(found)
    found = [replace(f, attributes=attributes.get(f.path, f.attributes)) for f in found]
    return Contents(
        mark_simulated(
            [Found(f.path, problem=why) if (why := unreadable.get(f.path.parent.parent)) else f for f in found]
        ),
        left_out,
        several_places({path.parent: folders[path.parent] for path in paths if not _said(path)}, locations, answers),
    )


def _in_test_set(location: Location, folder: Path, top: Path) -> Location:
    """With the split of a test set that is arranged by machine (``test/pump/a.wav``), not the other way round."""
    below = folder.relative_to(top).parts[: location.depth]
    tests = [name for name in below if SPLIT_FOLDERS.get(name) == "test"]
    return location if location.split or not tests else replace(location, split=tests[-1])


def parse_place(path: Path, answers: Answers = NO_ANSWERS) -> Found:
    """What the folders and the name of one audio file say about it (see the module's text for the layouts).

    >>> found = parse_place(Path("gearbox/train/section_00_source_train_normal_0073_volt_1.5_wt_150.wav"))
    >>> found.machine, found.domain, found.attributes
    ('gearbox', 'source', {'volt': '1.5', 'wt': '150'})
    """
    path = printable(path)
    # Above the machine there may be anything, such as the folder of a user whose name is Ng.
    return _found(path, replace(locate(folders_of(path.parent, None), answers), labels_above=()), answers)


def label_in_name(path: Path) -> str:
    """The label that the name of a file, or else of its folder, says, ``normal`` or ``anomaly``; empty if neither does.

    >>> label_in_name(Path("fan/test/section_00_source_test_anomaly_0003.wav")), label_in_name(Path("fan/monday.wav"))
    ('anomaly', '')
    >>> label_in_name(Path("plant/fan/niO/0001.wav"))
    'anomaly'
    """
    if label := _said(path).get("label"):
        return label
    said = {label_said(folder) for folder in locate(folders_of(printable(path).parent, None)).labels}
    return said.pop() if len(said) == 1 else ""


def _said(path: Path) -> dict[str, str]:
    """What a DCASE name says; nothing if it is another name."""
    match = _SECTION_NAME.fullmatch(path.stem) or _ID_NAME.fullmatch(path.stem)
    return {name: value for name, value in match.groupdict().items() if value} if match else {}


def _found(path: Path, location: Location, answers: Answers = NO_ANSWERS, above: Sequence[str] = ()) -> Found:
    """``above``: further folders, of which those that say a fault count."""
    machine, session, said = location.machine, location.session, _said(path)
    unsaid = Found(path, machine=machine, section=location.section, session=session)
    if path.name.endswith(NOT_TOLD):
        return replace(unsaid, problem=NOT_UTF8)
    if machine == SUPPLEMENTAL:
        return Found(path, problem="supplemental recordings of the challenge are not used")
    if not fit_for_file_name(machine):
        return replace(
            unsaid,
            machine="",
            problem=f"its folder {machine!r} cannot name a machine, since it is not UTF-8, has a backslash or a "
            f"control character, or is longer than {LONGEST_MACHINE} bytes: rename it, or {_LIST_IT}",
        )
    if not machine or label_said(machine, answers):
        return replace(
            unsaid,
            machine="",
            problem="of no known machine: its folders say its label, but none above them names a machine",
        )
    faults = [folder for folder in above if label_said(folder, answers) == "anomaly"]
    labels = {label_said(folder, answers): folder for folder in (*location.labels, *location.labels_above, *faults)}
    if len(labels) > 1:
        return replace(
            unsaid, problem=f"its folders {' and '.join(labels.values())} say two labels: move it into one of them"
        )
    if not labels:
        return _by_name(unsaid, location, said, answers)
    ((label, folder),) = labels.items()
    if said.get("label", label) != label or (label == "normal" and names_a_fault(path.stem, answers, machine)):
        return replace(unsaid, problem=f"its name says another label than its folder {folder}: {_LIST_IT}")
    if said:
        return _by_name(unsaid, location, said | {"label": label}, answers)
    split = SPLIT_FOLDERS.get(location.split, "train" if label == "normal" else "test")
    domain = "target" if location.split.startswith("target") else "source"
    return _not_anomalous_in_training(replace(unsaid, split=split, label=label, domain=domain, labelled=True))


def _by_name(unsaid: Found, location: Location, said: dict[str, str], answers: Answers) -> Found:
    """What the split folder and the name say, which is ``said`` if it is a DCASE name."""
    path, machine, session = unsaid.path, unsaid.machine, unsaid.session
    if location.split:
        return replace(_in_split_folder(path, machine, location.split, said), session=session)
    if said:
        split = said.get("split", "train" if said.get("label") == "normal" else "test")
        return replace(_described(path, machine, split, said), session=session)
    if names_a_fault(f"{session} {path.stem}", answers, machine) or has_fault_in(machine, answers):
        return replace(
            unsaid,
            problem="unparsable name: a plain machine folder has the machine's name and holds normal recordings only, "
            f"but this name says otherwise; move it into a folder `defect` in the machine's, or {_LIST_IT}; {SAY_IT}",
        )
    return unsaid


def _in_split_folder(path: Path, machine: str, folder: str, said: dict[str, str]) -> Found:
    split = SPLIT_FOLDERS[folder]
    if not said:
        problem = (
            f"unparsable name: not a DCASE name, but in a folder {folder}; {_LIST_IT}, or move it into "
            "a folder `normal` or `defect` there"
        )
        return Found(path, machine=machine, split=split, problem=problem)
    if said.get("split", split) != split:
        problem = f"unparsable name: says {said['split']}, but is in a folder {folder}"
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
    return _not_anomalous_in_training(found)


def _not_anomalous_in_training(found: Found) -> Found:
    if (found.split, found.label) == ("train", "anomaly"):
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
