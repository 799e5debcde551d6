"""The flow `ingest`: add recordings to the table of recordings."""

from pathlib import Path

from prefect import flow

from asdcore.settings import RecordingSettings
from asdcore.storage.home import Home
from flows.failures import completed, failed
from tasks.recordings import Ingest, ingest_recordings
from tasks.warn import warn


@flow(name="ingest", on_failure=[failed], on_completion=[completed])
def ingest(
    recordings: Path,
    settings: RecordingSettings = RecordingSettings(),
    arrived: list[Path] | None = None,
    home: Path | None = None,
) -> Ingest:
    """Read a folder in a DCASE layout, a manifest CSV or plain machine folders, and add what is new.

    Args:
        recordings: the folder or the manifest.
        settings: channel, sample rate, and when a recording is too bad to use.
        arrived: only these files, as unreviewed recordings: the flow `arrivals` scores them.
        home: where the table is; default ``ASD_HOME`` or ``.asd``.
    """
    place = Home.at(home) if home else Home.default()
    with place.lock(warn):
        return ingest_recordings(Path(recordings), place, settings, arrived=arrived)
