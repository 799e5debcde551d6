"""What a person names, files, folders, digests or a CSV, to recordings of the table and their labels."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from asdcore.errors import AsdError
from asdcore.recordings.audio import BadRecording, examine
from asdcore.recordings.catalog import LABELS, Catalog
from asdcore.recordings.found import Found, is_simulated
from asdcore.recordings.names import parse_place
from asdcore.recordings.paths import absolute, nfc, on_disk, printable, surely
from asdcore.recordings.tables import read_csv
from asdcore.settings import RecordingSettings
from asdcore.storage.files import digest_of_file

SHORTEST_DIGEST = 8
"""digits that name a recording"""


@dataclass(frozen=True)
class ScoredFile:
    """A file that was scored, and as a recording of which machine."""

    path: Path
    machine: str


Scored = Callable[[], Mapping[str, ScoredFile]]
"""The files that were scored, by digest; called where a name is not in the table."""


def label_recordings(
    catalog: Catalog,
    what: Sequence[str],
    label: str | None,
    by: str,
    settings: RecordingSettings,
    scored: Scored = dict,
) -> dict[str, str]:
    """Label recordings, of the table or not: a file that was scored is added to the table first.

    It is added as a recording of the machine that it was scored as. What its place says of a split holds, but an
    anomaly is a test recording.

    Args:
        catalog: the table of recordings, which is written.
        what: see `labels_of`.
        label: of all of them; None: the CSV says it.
        by: who says so.
        settings: how a recording that is added is read.
        scored: the files that were scored.

    Returns:
        recording digest: label.

    Raises:
        AsdError: see `labels_of`; or a file that cannot be used, with the reason. Nothing is labelled then.
    """
    labels = _of_sounds(catalog, labels_of(catalog, what, label, scored), settings, scored)
    known = set(catalog.recordings["recording"])
    if set(labels) & set(catalog.forgotten["recording"]):
        catalog.forget(labels, None)
        known = set(catalog.recordings["recording"])
    new = [recording for recording in labels if recording not in known]
    if new:
        # A path as it was typed here tells more than the one that was typed where it was scored.
        typed = [on_disk(Path(name)) for name in what]
        here = {digest_of_file(path): path for path in typed if surely(path, Path.is_file)}
        files = {digest: replace(file, path=here.get(digest, file.path)) for digest, file in scored().items()}
        done = catalog.ingest([_found(files[recording], labels[recording]) for recording in new], settings)
        for path, reason in done.quarantined.items():
            raise AsdError(f"{path} cannot be labelled: {reason}")
        gone = [recording for recording in new if recording not in set(catalog.recordings["recording"])]
        if gone:
            raise AsdError(f"{files[gone[0]].path} has changed since it was scored: score it again")
    catalog.label(labels, by)
    return labels


def _of_sounds(
    catalog: Catalog, labels: Mapping[str, str], settings: RecordingSettings, scored: Scored
) -> dict[str, str]:
    """The labels, of the recordings by which the table knows the sounds: a file with another comment is no other sound.

    Raises:
        AsdError: a sound has two labels.
    """
    rows = pd.concat([catalog.forgotten, catalog.recordings]).dropna(subset="sound")
    digests = dict(zip(rows["sound"], rows["recording"], strict=True))
    known = {*catalog.forgotten["recording"], *catalog.recordings["recording"]}
    found: dict[str, str] = {}
    for recording, said in labels.items():
        if recording not in known:
            with suppress(OSError, BadRecording):  # The ingest says so.
                recording = digests.get(examine(scored()[recording].path, settings).sound, recording)
        if found.setdefault(recording, said) != said:
            raise AsdError(f"recording {recording[:SHORTEST_DIGEST]} has two labels: {found[recording]} and {said}")
    return found


def _found(scored: ScoredFile, label: str) -> Found:
    place = parse_place(absolute(scored.path))
    split = "test" if label == "anomaly" else place.split
    attributes = place.attributes | ({"simulated": "yes"} if is_simulated(scored.path) else {})
    return replace(
        place, machine=scored.machine, split=split, label=label, attributes=attributes, problem="", labelled=True
    )


def labels_of(catalog: Catalog, what: Sequence[str], label: str | None, scored: Scored = dict) -> dict[str, str]:
    """The label of each recording that is named.

    Args:
        catalog: the table of recordings.
        what: audio files, folders of them, digests or their first digits, or CSV files with the columns ``recording``
            and, unless ``label`` is given, ``label``.
        label: of all of them.
        scored: files that are known although they are not in the table.

    Returns:
        recording digest: label.

    Raises:
        AsdError: something that names no known recording, or several, or has no label or two.
    """
    labels: dict[str, str] = {}
    for one in what:
        file = one.lower().endswith(".csv") and surely(Path(one), Path.is_file)
        for name, own in _rows(Path(one)) if file else [(one, "")]:
            said = own or label
            if said not in LABELS:
                raise AsdError(
                    f"{name}: label {said!r} is none of {', '.join(LABELS)}; give --as normal or --as anomaly"
                )
            for recording in recordings_named(places(catalog.recordings), name, lambda: _more(catalog, scored)):
                if labels.setdefault(recording, said) != said:
                    raise AsdError(f"{name} has two labels: {labels[recording]} and {said}")
    return labels


def places(recordings: pd.DataFrame) -> dict[str, str]:
    """Digest of each row of the table of recordings: its path."""
    return dict(zip(recordings["recording"], recordings["path"], strict=True))


def _more(catalog: Catalog, scored: Scored) -> dict[str, str]:
    return places(catalog.forgotten) | {digest: str(file.path) for digest, file in scored().items()}


def _rows(file: Path) -> list[tuple[str, str]]:
    header, rows = read_csv(file)
    if "recording" not in header:
        raise AsdError(f"{file}: no column recording; it needs recording (path or digest) and label")
    # A path is relative to the file that names it.
    return [(_beside(file, row["recording"] or ""), row.get("label") or "") for _, row in rows]


def _beside(file: Path, name: str) -> str:
    return str(file.parent / name) if surely(on_disk(file.parent / name), Path.exists) else name


def recordings_named(known: Mapping[str, str], name: str, more: Callable[[], Mapping[str, str]] = dict) -> list[str]:
    """The digests that a path, a folder or the first digits of a digest name.

    Args:
        known: digest: path.
        name: what a person has typed.
        more: the same of others, looked at where none of ``known`` is named.

    Raises:
        AsdError: it names none, or digits name several.
    """
    found = _named(known, name) or _named(more(), name)
    if not found:
        raise AsdError(f"{printable(Path(name))}: no recording of the table; `asd ingest` it first, or `asd score` it")
    return found


def _named(known: Mapping[str, str], name: str) -> list[str]:
    path = on_disk(Path(name))
    if surely(path, Path.is_dir):
        folder = printable(path.resolve())
        return [digest for digest, place in known.items() if Path(place).is_relative_to(folder)]
    if surely(path, Path.is_file):
        digest = digest_of_file(path)
        return [digest] if digest in known else []
    try:
        place = nfc(str(printable(path.expanduser().absolute())))
    except RuntimeError:  # ~nobody, a user without a home.
        place = nfc(str(printable(path.absolute())))
    found = [digest for digest, other in known.items() if nfc(other) == place]
    if not found and len(name) >= SHORTEST_DIGEST:
        found = [digest for digest in known if digest.startswith(name)]
        if len(found) > 1:
            raise AsdError(f"{name} are the first digits of {len(found)} recordings: give more of them")
    return found
