"""The flow `rename`: a machine gets another name, in the table of recordings and in the champion."""

from pathlib import Path
from typing import TypedDict

from prefect import flow

from asdcore.errors import AsdError
from asdcore.monitoring.incidents import machine_renamed
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.paths import nfc
from asdcore.recordings.renamed import renamed
from asdcore.storage.home import Home
from flows.enroll import digest_of_folder, registered_change
from flows.failures import completed, failed
from tasks.detector import change_name
from tasks.incidents import unfailing
from tasks.registered import CHAMPION, load_detector, registered_folder
from tasks.registry import champion_version
from tasks.run_names import run_name
from tasks.warn import warn


class Renamed(TypedDict):
    """A machine with another name."""

    recordings: int
    """of the machine, in the table of recordings"""
    version: str
    """of the champion that knows the new name; empty if none knows the machine"""


@flow(name="rename", flow_run_name=run_name, on_failure=[failed], on_completion=[completed])
def rename(machine: str, name: str, home: Path | None = None) -> Renamed:
    """Give a machine another name. Nothing is computed again; folders and manifests may go on using the old name.

    Args:
        machine: of the table of recordings.
        name: its new name.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Raises:
        AsdError: no such machine, or one with the new name; see `asdcore.recordings.catalog.Catalog.rename`.
            Nothing is renamed then. After another error, the same command goes on with what is left.
    """
    machine, name = nfc(machine), nfc(name)
    place = Home.at(home) if home else Home.default()
    with place.lock(warn), place.lock_table(warn):
        enrolled = _champion_machines(place)
        catalog = Catalog(place.recordings)
        # An earlier run may have failed after this step.
        in_table = renamed(catalog.folder).get(machine) == name and machine not in set(catalog.recordings["machine"])
        if name in enrolled and (machine in enrolled or not in_table):
            raise AsdError(f"the champion knows a machine {name} already: two machines cannot become one")
        if not in_table:
            catalog.rename(machine, name)
        recordings = len(catalog.of_machines([name]))
        version = _champion_renamed(place, machine, name) if machine in enrolled else ""
        unfailing(lambda: machine_renamed(place, machine, name))
        return {"recordings": recordings, "version": version}


def _champion_machines(home: Home) -> set[str]:
    return set(load_detector(home)[0].machines) if champion_version(home) else set()


def _champion_renamed(home: Home, machine: str, name: str) -> str:
    with registered_folder(home, CHAMPION) as (base, parent):
        folder = change_name(str(base), digest_of_folder(base), machine, name).path
        return registered_change(home, folder, parent, CHAMPION, name, f"renamed {machine} to {name}")["version"]
