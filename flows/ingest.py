"""The flow `ingest`: add recordings to the table of recordings."""

from pathlib import Path
from typing import Literal

from prefect import flow

from asdcore.settings import RecordingSettings
from asdcore.storage.home import Home
from flows.failures import completed, failed
from tasks.publishing import ingest_and_publish
from tasks.recordings import Ingest
from tasks.run_names import run_name
from tasks.warn import warn


@flow(name="ingest", flow_run_name=run_name, on_failure=[failed], on_completion=[completed])
def ingest(
    recordings: Path,
    settings: RecordingSettings = RecordingSettings(),
    arrived: list[Path] | None = None,
    unlabelled: Literal["normal", "unknown"] = "normal",
    home: Path | None = None,
) -> Ingest:
    """Read a folder in a DCASE layout, a manifest CSV or plain machine folders, and add what is new.

    What would become normal training data is judged by the champion first, see `tasks.review`.

    Args:
        recordings: the folder or the manifest.
        settings: channel, sample rate, and when a recording is too bad to use.
        arrived: only these files, as unreviewed recordings: the flow `arrivals` scores them.
        unlabelled: the label of training recordings whose place does not say one.
        home: where the table is; default ``ASD_HOME`` or ``.asd``.
    """
    place = Home.at(home) if home else Home.default()
    with place.lock_table(warn):
        return ingest_and_publish(
            Path(recordings), place, settings, arrived=arrived, unlabelled=unlabelled, judged=True
        )
