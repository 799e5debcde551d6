"""Recordings in object storage: copies of them on this machine, fetched once."""

import os
from pathlib import Path

from asdcore.errors import AsdError
from asdcore.recordings.found import SIMULATED
from asdcore.recordings.listing import AUDIO_SUFFIXES, NO_RECORDING
from asdcore.storage.s3 import Bucket, Found, at_once, cache_folder, s3_address


def fetched(place: Path) -> Path:
    """``place``, or its copy on this machine if it is an ``s3://`` address: of a folder, a recording or a manifest CSV.

    What has the size and time of change that it had is not fetched again; copies of what is no longer there are
    deleted. The copies keep the names of their folders, which say what a recording is.

    Raises:
        AsdError: see `Bucket`; or there is nothing.
    """
    address = s3_address(place)
    if address is None:
        return place
    name = address.rpartition("/")[2]
    one = Path(name).suffix.lower() in {*AUDIO_SUFFIXES, ".csv"}
    # A manifest lists recordings relative to itself: all that is beside it and below may be meant.
    above = address.removesuffix(f"/{name}") if one else address
    bucket, folder = Bucket(above), cache_folder() / "recordings" / above.removeprefix("s3://")
    there = bucket.find(name if one and not name.lower().endswith(".csv") else "")
    there = {name: found for name, found in there.items() if _is_wanted(name)}
    if not there:
        raise AsdError(f"{address}: {NO_RECORDING}")
    for path in folder.rglob("*"):
        if not one and _is_wanted(path.name) and str(path.relative_to(folder)) not in there:
            path.unlink()
    missing = [name for name, found in there.items() if not _is_copy(folder / name, found)]

    def fetch(name: str) -> None:
        bucket.fetch(name, folder / name)
        os.utime(folder / name, (there[name].changed, there[name].changed))

    at_once(fetch, missing, f"recordings from {above}")
    return folder / name if one else folder


def _is_wanted(name: str) -> bool:
    path = Path(name)
    return (path.suffix.lower() in {*AUDIO_SUFFIXES, ".csv"} or path.name == SIMULATED) and not path.name.startswith(
        "."
    )


def _is_copy(path: Path, found: Found) -> bool:
    try:
        state = path.stat()
    except FileNotFoundError:
        return False
    return (state.st_size, state.st_mtime_ns) == (found.size, found.changed * 10**9)
