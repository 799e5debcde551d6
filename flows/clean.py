"""Find features and reports that are no longer needed, and delete them on request. Not a flow: nothing is computed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asdcore.errors import AsdError, OutdatedDetectorError
from asdcore.features.cleanup import Orphans, delete_orphans, find_orphans
from asdcore.recordings.catalog import Catalog
from asdcore.settings import Settings
from asdcore.storage.home import Home
from tasks.features import stores_in_use
from tasks.no_answer import NoAnswerError
from tasks.registered import registered_models, registered_settings
from tasks.reports import KEPT_DAYS, delete_reports, old_reports
from tasks.warn import warn


@dataclass(frozen=True)
class Cleaned:
    """What can be deleted, or was."""

    orphans: Orphans
    reports: list[Path]
    """older than `KEPT_DAYS`"""
    size: int
    """bytes of all of it"""


def clean(home: Home, settings: Settings, *, delete: bool, verify: bool) -> Cleaned:
    """Find the features that neither ``settings`` nor any registered detector uses, and reports older than
    `KEPT_DAYS`; delete them on request.

    Args:
        home: where features and reports are.
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
        if not known and home.features.exists():
            raise AsdError(
                f"{home.recordings} has no recording, so every feature would be deleted. Is it mounted, or to be "
                f"restored? To delete all features, delete {home.features}"
            )
        in_use = stores_in_use([settings, *_registered_settings(home)])
        orphans = find_orphans(home.features, in_use, known, verify=verify)
        reports = old_reports(home)
        found = Cleaned(orphans, reports, orphans.size + sum(report.stat().st_size for report in reports))
        if delete:
            delete_orphans(orphans)
            delete_reports(reports)
    return found


def _registered_settings(home: Home) -> Iterator[Settings]:
    for row in registered_models(home):
        try:
            yield registered_settings(home, row["version"])
        except OutdatedDetectorError as error:
            warn(f"version {row['version']} needs no features, since it can no longer be used: {error}")
        except NoAnswerError:
            raise
        except AsdError as error:
            raise AsdError(
                f"nothing is deleted, since it is not known which features version {row['version']} needs: {error}. If "
                "its files are gone for good, delete the version in the MLflow UI"
            ) from error


def told(found: Cleaned, home: Home, *, deleted: bool) -> Iterator[str]:
    """The lines that say what was found, and what became of it."""
    orphans = found.orphans

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
    for path in found.reports:
        yield f"{short(path)}: a report older than {KEPT_DAYS} days"
    size = f"{found.size / 2**20:.1f} MiB"
    if found.size == 0:
        yield f"Nothing to clean in {home.root}."
    else:
        yield f"Deleted: {size}." if deleted else f"{size} can go; `asd clean --yes` deletes them."
