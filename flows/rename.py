"""The flow `rename`: a machine gets another name, in the table of recordings and in the champion."""

from pathlib import Path
from typing import TypedDict

from prefect import flow

from asdcore.detector import Detector
from asdcore.recordings.catalog import Catalog
from asdcore.storage.home import Home
from flows.enroll import digest_of_folder, registered_change
from tasks.detector import change_name
from tasks.registered import CHAMPION, registered_folder
from tasks.registry import champion_version
from tasks.warn import warn


class Renamed(TypedDict):
    """A machine with another name."""

    recordings: int
    """of the machine, in the table of recordings"""
    version: str
    """of the champion that knows the new name; empty if none knows the machine"""


@flow(name="rename")
def rename(machine: str, name: str, home: Path | None = None) -> Renamed:
    """Give a machine another name. Nothing is computed again; folders and manifests may go on using the old name.

    Args:
        machine: of the table of recordings.
        name: its new name.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Raises:
        AsdError: no such machine, or one with the new name; see `asdcore.recordings.catalog.Catalog.rename`.
    """
    place = Home.at(home) if home else Home.default()
    with place.lock(warn):
        Catalog(place.recordings).rename(machine, name)
        recordings = len(Catalog(place.recordings).of_machines([name]))
        return {"recordings": recordings, "version": _champion_renamed(place, machine, name)}


def _champion_renamed(home: Home, machine: str, name: str) -> str:
    if not champion_version(home):
        return ""
    with registered_folder(home, CHAMPION) as (base, parent):
        if machine not in Detector.load(base).machines:
            return ""
        folder = change_name(str(base), digest_of_folder(base), machine, name).path
        return registered_change(home, folder, parent, CHAMPION, name, f"renamed {machine} to {name}")["version"]
