"""The commands about recordings: what there is, and what each of them is."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.console import err, out
from flows.cli.options import HomeOption, existing
from flows.cli.output import Output, with_output
from flows.cli.settings import with_settings
from flows.cli.startup import imports, prefect_server, prefect_server_named, start
from flows.cli.user import user_name

if TYPE_CHECKING:
    from asdcore.settings import Settings


class Unlabelled(StrEnum):
    """The label of recordings whose place does not say it."""

    normal = "normal"
    unknown = "unknown"


@with_settings
@with_output
def ingest(
    output: Output,
    settings: "Settings",
    recordings: Annotated[Path, typer.Argument(callback=existing, help="A folder of recordings, or a manifest CSV")],
    as_: Annotated[
        Unlabelled, typer.Option("--as", help="Label of recordings whose folder, name or manifest says none")
    ] = Unlabelled.normal,
    home: HomeOption = None,
) -> None:
    """Check recordings and add new ones to the table of recordings. The files are only read.

    If there is a champion, it judges what would become normal training data. What it calls suspect or anomalous is
    pending review, until you label it with `asd label`. Exit code 1: all recordings are quarantined.
    """
    place = start(home)
    if prefect_server_named():
        from flows.ingest import ingest as flow

        with prefect_server(place):
            done = flow(recordings=recordings, settings=settings.recordings, unlabelled=as_.value, home=place.root)
    else:
        with imports():
            from asdcore.progress import say
            from tasks.recordings import ingest_recordings
            from tasks.review import champions_review

        with place.lock_table(say):
            done = ingest_recordings(
                recordings, place, settings.recordings, unlabelled=as_.value, review=champions_review(place, say)
            )
    from flows.cli.show_recordings import show_ingest

    rows = show_ingest(done, place, settings)
    counts: dict[str, Any] = {name: value for name, value in done.items() if name != "machines"}
    output.write(rows, **counts)
    if done["quarantined"] and not (done["added"] or done["known"] or done["duplicates"] or done["forgotten"]):
        raise typer.Exit(1)


@with_output
def label(
    output: Output,
    recordings: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files that were ingested or scored, folders, digests, or a CSV with the columns recording (path or "
            "digest) and label; none: list the recordings that are pending review",
            show_default=False,
        ),
    ] = None,
    as_: Annotated[str | None, typer.Option("--as", help="normal, anomaly or unknown", show_default=False)] = None,
    pending: Annotated[
        bool, typer.Option("--pending", help="Those that are pending review: list them; with --as, label them all")
    ] = False,
    machine: Annotated[
        str | None, typer.Option(help="With --pending: only of this machine", show_default=False)
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who labels them; default: your user name", show_default=False)] = None,
    home: HomeOption = None,
) -> None:
    """Label recordings. Normal training recordings are used for training; no later ingest changes the label."""
    if recordings and (pending or machine):
        raise typer.BadParameter("name recordings, or all that are --pending")
    place = start(home)
    with imports():
        from asdcore.errors import AsdError
        from asdcore.recordings.catalog import Catalog
        from asdcore.recordings.training import pending_review
        from flows.cli.show_recordings import PENDING, home_option, show_pending
        from tasks.labels import label_recordings

    if not recordings:
        with place.synchronised(out.print):
            catalog = Catalog(place.recordings)
        if as_ is None:
            output.write(show_pending(catalog, machine, home_option(place)), PENDING)
            return
        if not pending:
            raise AsdError("name the recordings to label, or --pending for all that are")
        recordings = pending_review(catalog.of_machines([machine] if machine else None))["recording"].tolist()
        if not recordings:
            out.print("No recording is pending review.")
            output.write([])
            return
    labelled_by = by or user_name()
    labels = label_recordings(place, recordings, as_, labelled_by)
    out.print(f"{len(labels)} recording{'s' * (len(labels) != 1)} labelled by {labelled_by}.")
    output.write([{"recording": recording, "label": label} for recording, label in labels.items()])


def forget(
    recordings: Annotated[
        list[str] | None, typer.Argument(help="Files, folders or digests", show_default=False)
    ] = None,
    machine: Annotated[str | None, typer.Option(help="All recordings of this machine", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, they are only counted")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Bring forgotten recordings back, with their labels")] = False,
    home: HomeOption = None,
) -> None:
    """Remove recordings from the table of recordings: no ingest adds them again. Your files stay as they are."""
    if bool(recordings) == bool(machine):
        raise typer.BadParameter("name recordings, or a --machine")
    place = start(home)
    with imports():
        from flows.cli.show_recordings import counts, home_option
        from tasks.labels import forget_recordings

    chosen = forget_recordings(place, recordings or [], machine, user_name() if yes else None, undo=undo)
    for line in counts(chosen):
        out.print(line)
    option = home_option(place)
    if not yes:
        done = "brought back" if undo else "forgotten"
        out.print(f"{len(chosen)} recordings would be {done}; --yes does it.")
    elif undo:
        out.print(f"{len(chosen)} recordings are in the table again.")
    else:
        out.print(
            f"{len(chosen)} recordings forgotten; `asd forget --undo PATH{option}` brings them back. A detector that "
            "was fitted on them does not change until `asd retrain`."
        )


def rename(
    machine: Annotated[str, typer.Argument(help="A machine of the table of recordings")],
    name: Annotated[str, typer.Argument(help="Its new name")],
    home: HomeOption = None,
) -> None:
    """Rename a machine in the table of recordings, in later ingests and in the champion."""
    place = start(home)
    with prefect_server(place):
        from flows.rename import rename as flow

        done = flow(machine=machine, name=name, home=place.root)
    out.print(f"{machine} is now called {name}: {done['recordings']} recordings. Nothing was computed again.")
    out.print(f"Folders and manifests can keep the name {machine}; earlier scores and reports keep it, too.")
    if done["version"]:
        out.print(f"registry   asd-detector version {done['version']}, the champion, knows it as {name}.")
    else:
        err.print("No champion knows this machine: there was nothing to rename in the registry.")
