"""The flow `features`: log-mel spectrograms and variants of all recordings that have none yet."""

from pathlib import Path

from prefect import flow

from asdcore.recordings.catalog import Catalog
from asdcore.recordings.clips import clip_lengths, cut
from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.failures import completed, failed
from tasks.features import complete_features
from tasks.run_names import run_name
from tasks.warn import warn


@flow(name="features", flow_run_name=run_name, on_failure=[failed], on_completion=[completed])
def features(settings: Settings = Settings(), machines: list[str] | None = None, home: Path | None = None) -> int:
    """Compute what the feature store lacks; return how many recordings and clips have features then.

    Args:
        settings: `recordings`, `mel` and `augmentation` matter here.
        machines: only these; default all.
        home: where the recordings and features are; default ``ASD_HOME`` or ``.asd``.
    """
    place = Home.at(home) if home else Home.default()
    with place.lock(warn):
        place.sweep()
        recordings = Catalog(place.recordings).of_machines(machines)
        clips = cut(recordings, clip_lengths(recordings, settings.recordings))
        return len(complete_features(clips, settings))
