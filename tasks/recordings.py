"""The recordings stage: find, check, add to the table of recordings.

Neither Prefect nor MLflow is imported here: an ingest of what is known has to answer at once.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict, cast

import pandas as pd

from asdcore.errors import AsdError
from asdcore.recordings.catalog import SCHEMA, Catalog, Review
from asdcore.recordings.fetch import fetched
from asdcore.recordings.found import Found
from asdcore.recordings.label_words import answers_of
from asdcore.recordings.manifest import unlisted
from asdcore.recordings.names import contents_of
from asdcore.recordings.parts import merge_parts
from asdcore.recordings.paths import absolute, nfc, on_disk, printable
from asdcore.recordings.training import training_recordings
from asdcore.settings import RecordingSettings
from asdcore.storage.files import digest_of, digest_of_file, sweep_partial
from asdcore.storage.home import Home


class Ingest(TypedDict):
    """What one ingest did; see `asdcore.recordings.catalog.Ingested`."""

    added: int
    known: int
    duplicates: int
    quarantined: dict[str, str]
    """path: reason"""
    machines: list[str]
    """all that the place holds, new or not"""
    pending: list[str]
    """paths of new recordings that are pending review: the champion calls them suspect or anomalous"""
    forgotten: list[str]
    """paths of recordings that a person has removed from the table: they stay out"""
    left_out: dict[str, str]
    """path of an audio file that is not a recording of a machine, or cannot be decoded: why"""
    places: dict[str, list[str]]
    """machine whose name folders in several places have: these folders; they may be two machines"""
    unlisted: list[str]
    """paths of audio files beside a manifest that does not list them: they are left out"""


def ingest_recordings(
    place: Path,
    home: Home,
    settings: RecordingSettings,
    machine: str | None = None,
    arrived: Sequence[Path] | None = None,
    unlabelled: str = "normal",
    review: Review | None = None,
) -> Ingest:
    """Add new recordings at ``place`` to the table of recordings; return counts, reasons and machines as JSON.

    Not cached, because the content of the place may change. Recordings with a known digest are not decoded.

    Args:
        place: a folder, a manifest CSV or an address in object storage.
        home: where the table is; its `Home.lock_table` is held.
        settings: how recordings are read, and when one is too bad to use.
        machine: the machine of all of them, regardless of the folder's name.
        arrived: only these files, as `asdcore.recordings.paths.printable` writes them. They are not known to be normal,
            whatever their names say: they are not used for training until a person or a detector labels them as normal.
        unlabelled: the label of training recordings whose place does not say one: normal or unknown.
        review: reviews what would become normal training data, see `tasks.review`; None: no review.
    """
    sweep_partial(home.recordings)
    if home.address is None:  # Nothing is deleted in object storage, so parts that were merged would come back.
        merge_parts(home.recordings, SCHEMA)
    catalog = Catalog(home.recordings)
    place = fetched(place)
    here: set[Path] | None = None
    if arrived is not None:
        # A manifest lists the file that a link leads to.
        here = {name for path in map(on_disk, arrived) for name in (absolute(path), printable(path.resolve()))}
    machines = set(catalog.recordings["machine"].unique())
    found, left_out, places = contents_of(place, machine, answers_of(settings.labels), machines, here)
    if machine is not None:
        machine = nfc(machine)
        found = _all_of(machine, found, place)
        paths = [str(one.path) for one in found]
        others = catalog.recordings[catalog.recordings["path"].isin(paths) & (catalog.recordings["machine"] != machine)]
        if len(others):
            names = ", ".join(sorted(set(others["machine"])))
            raise AsdError(
                f"{len(others)} of the recordings in {place} are known as recordings of {names}, not {machine}"
            )
    found = [one if one.labelled or one.split != "train" else replace(one, label=unlabelled) for one in found]
    beside = unlisted(place, found)
    session = ""
    if here is not None:
        beside = [path for path in beside if printable(path) in here]
        there = [one for one in found if one.path in here]
        rows = catalog.recordings[catalog.recordings["path"].isin([str(one.path) for one in there])]
        digests = dict(zip(rows["path"], rows["recording"], strict=True))
        new = [one for one in there if not _known(one, digests)]
        found = [_unreviewed(one) for one in new]
        session = f"arrived {datetime.now(UTC):%Y-%m-%dT%H:%M}"
    done = asdict(catalog.ingest(found, settings, review, session))
    return cast(
        "Ingest", done | {"left_out": left_out, "places": places, "unlisted": [str(printable(path)) for path in beside]}
    )


def _unreviewed(one: Found) -> Found:
    """An arrival, whose label is unknown whatever the names of its file and folders say.

    If the machine is known, the problem of a recording is a label that is missing or contradicts its place.
    """
    return replace(one, split="train", label="unknown", labelled=False, problem="" if one.machine else one.problem)


def _known(one: Found, digests: Mapping[str, str]) -> bool:
    """Whether the table knows this file with this content: then its row stays as it is."""
    name = str(one.path)
    try:
        return name in digests and digests[name] == digest_of_file(on_disk(one.path))
    except OSError:
        return False


def _all_of(machine: str, found: Sequence[Found], place: Path) -> list[Found]:
    named = sorted({one.machine for one in found if not one.problem})
    if machine in named:
        return [one for one in found if one.machine == machine]
    if len(named) > 1:
        raise AsdError(f"{place} holds recordings of {', '.join(named)}: name the folder of {machine} alone")
    return [replace(one, machine=machine) for one in found]


def data_digest(recordings: pd.DataFrame) -> str:
    """16 hexadecimal digits that identify these recordings and their metadata."""
    identity = ["recording", "machine", "section", "domain", "split", "label", "session"]
    return digest_of(*(" ".join(row) for row in recordings[identity].itertuples(index=False)))


def machine_table(catalog: Catalog) -> list[dict[str, Any]]:
    """One row per machine: recordings in all, for training by domain, for testing by label."""
    table = []
    for machine, own in catalog.recordings.groupby("machine"):
        training = Counter(training_recordings(own)["domain"])
        test = Counter(own.loc[own["split"] == "test", "label"])
        table.append(
            {
                "machine": machine,
                "total": len(own),
                "train source": training["source"],
                "train target": training["target"],
                "sessions": own.loc[own["session"] != "", "session"].nunique() or "unknown",
                "test normal": test["normal"],
                "test anomaly": test["anomaly"],
                "test unknown": test["unknown"],
            }
        )
    return table
