"""Find features that are no longer needed, and delete them on request. Not a flow: nothing is computed."""

from collections.abc import Iterator
from pathlib import Path

from asdcore.errors import AsdError
from asdcore.features.cleanup import Orphans, delete_orphans, find_orphans
from asdcore.recordings.catalog import Catalog
from asdcore.settings import Settings
from asdcore.storage.home import Home
from tasks.features import stores_in_use
from tasks.registered import registered_models, registered_settings
from tasks.warn import warn


def clean(home: Home, settings: Settings, *, delete: bool, verify: bool) -> Orphans:
    """Find the features that neither ``settings`` nor any registered detector uses; delete them on request.

    Args:
        home: where the features are.
        settings: those to work with from now on.
        delete: not only find them.
        verify: read every shard that stays, whether or not it has changed since it was last checked.
    """
    if home.address:
        raise AsdError(
            f"{home.address}: nothing is deleted in object storage; delete features/ there, it is computed again"
        )
    with home.lock(warn):
        catalog = Catalog(home.recordings)
        # What is in quarantine may come back when its file does.
        known = {*catalog.recordings["recording"], *catalog.quarantined["recording"]}
        in_use = stores_in_use([settings, *_registered_settings(home)])
        orphans = find_orphans(home.features, in_use, known, verify=verify)
        if delete:
            delete_orphans(orphans)
    return orphans


def _registered_settings(home: Home) -> Iterator[Settings]:
    for row in registered_models(home):
        try:
            yield registered_settings(home, row["version"])
        except AsdError as error:
            warn(f"version {row['version']} claims no features: {error}")


def told(orphans: Orphans, home: Home, *, deleted: bool) -> Iterator[str]:
    """The lines that say what was found, and what became of it."""

    def short(path: Path) -> str:
        return str(path.relative_to(home.root))

    for folder in orphans.stores:
        yield f"{short(folder)}: features of other settings, or of another version of asd"
    for path, unknown in orphans.shards.items():
        yield f"{short(path)}: {len(unknown)} recordings that are not in the table of recordings"
    for path in orphans.damaged:
        yield f"{short(path)}: damaged; its recordings are computed again when they are needed"
    for path in orphans.partials:
        yield f"{short(path)}: left by a writer that was killed"
    size = f"{orphans.size / 2**20:.1f} MiB"
    if orphans.size == 0:
        yield f"Nothing to clean in {home.features}."
    else:
        yield f"Deleted: {size}." if deleted else f"{size} can go; `asd clean --yes` deletes them."
