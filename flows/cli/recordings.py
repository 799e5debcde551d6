"""The commands about recordings: what there is, and what each of them is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.console import out
from flows.cli.options import HomeOption, existing
from flows.cli.output import Output, with_output
from flows.cli.settings import with_settings
from flows.cli.startup import announce_api, imports, start
from flows.cli.user import user_name

if TYPE_CHECKING:
    from asdcore.settings import Settings


@with_settings
@with_output
def ingest(
    output: Output,
    settings: "Settings",
    recordings: Annotated[Path, typer.Argument(callback=existing, help="A folder of recordings, or a manifest CSV")],
    home: HomeOption = None,
) -> None:
    """Check recordings and add new ones to the table of recordings. The files are only read."""
    place = start(home)
    from flows.ingest import ingest as flow

    announce_api()
    done = flow(recordings=recordings, settings=settings.recordings, home=place.root)
    from flows.cli.show import show_ingest

    rows = show_ingest(done, place, settings)
    counts: dict[str, Any] = {name: value for name, value in done.items() if name != "machines"}
    output.write(rows, **counts)


@with_output
def label(
    output: Output,
    recordings: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, digests, or a CSV with the columns recording (path or digest) and label; none: list "
            "the recordings that wait for a label",
            show_default=False,
        ),
    ] = None,
    as_: Annotated[str | None, typer.Option("--as", help="normal, anomaly or unknown", show_default=False)] = None,
    by: Annotated[str | None, typer.Option(help="Who labels them; default: the user", show_default=False)] = None,
    home: HomeOption = None,
) -> None:
    """Label recordings. Normal training recordings train from now on; no later ingest changes the label."""
    place = start(home)
    with imports():
        from asdcore.recordings.catalog import Catalog, pending_review
        from asdcore.recordings.labels import labels_of
        from flows.cli.tables import print_table

    with place.lock(out.print):
        catalog = Catalog(place.recordings)
        if recordings:
            labels = labels_of(catalog, recordings, as_)
            labelled_by = by or user_name()
            catalog.label(labels, labelled_by)
            out.print(f"{len(labels)} recordings labelled by {labelled_by}.")
            return
    waiting = pending_review(catalog.recordings)
    columns = ["machine", "labelled_by", "recording", "path"]
    output.write(waiting[columns], columns)
    if waiting.empty:
        out.print("No recording waits for a label.")
        return
    rows = waiting[columns].fillna("nobody").astype(str).values.tolist()
    print_table(
        ["machine", "judged by", "recording", "path"],
        [[machine, judge, digest[:12], path] for machine, judge, digest, path in rows],
    )
    out.print("They do not train until they are labelled: `asd label PATH --as normal`, or `--as anomaly`.")
