"""The commands that keep running in a plant: servers, worker, watcher."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.console import out
from flows.cli.options import HomeOption, existing
from flows.cli.settings import with_settings
from flows.cli.startup import prefect_server, start, warn_of_a_share

if TYPE_CHECKING:
    from asdcore.settings import Settings

RetrainAfterOption = Annotated[int, typer.Option(help="New normal recordings that make a retraining due")]


def ui(
    home: HomeOption = None,
    prefect_port: Annotated[int, typer.Option(help="0: any free port")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="0: any free port")] = 5000,
) -> None:
    """Start the Prefect and MLflow servers of this home on loopback, until Ctrl-C."""
    place = start(home)
    warn_of_a_share(place)
    from flows.servers import serve

    with place.synchronised(out.print):
        serve(place, prefect_port, mlflow_port, out.print)


def board(
    home: HomeOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback requires an access token")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any free port")] = 5080,
) -> None:
    """Serve a web page for the shift, until Ctrl-C: machines, incidents, recordings to listen to and to label."""
    place = start(home)
    from flows.board.server import serve

    serve(place, host, port, out.print)


@with_settings
def deploy(
    settings: "Settings",
    recordings: Annotated[
        Path | None,
        typer.Option(
            callback=existing,
            help="Folder that the schedule retrains on; default: everything that was ingested",
            show_default=False,
        ),
    ] = None,
    score: Annotated[
        Path | None,
        typer.Option(
            callback=existing,
            help="Folder of new recordings that the schedule scores; default: no such schedule",
            show_default=False,
        ),
    ] = None,
    retrain_after: RetrainAfterOption = 50,
    home: HomeOption = None,
) -> None:
    """Deploy every flow to the Prefect server, for this home and these settings. Schedules start inactive."""
    place = start(home)
    from flows.deployment import deploy as deploy_flows

    names = deploy_flows(place, settings, recordings, retrain_after, score)
    out.print(f"Deployed for {place.name}: {', '.join(names)}.")
    out.print("`asd worker` runs them. Activate the schedules in the Prefect UI, under Deployments.")


def worker(home: HomeOption = None) -> None:
    """Run the deployed flows of the Prefect server, until Ctrl-C."""
    place = start(home)
    from flows.deployment import work

    work(place)


@with_settings
def watch(
    settings: "Settings",
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Where recordings arrive")],
    quiet: Annotated[float, typer.Option(help="Seconds without a change after which a file has arrived")] = 10.0,
    retrain_after: RetrainAfterOption = 50,
    poll: Annotated[
        bool,
        typer.Option("--poll", help="Scan all files every few seconds: for network shares, which send no events"),
    ] = False,
    home: HomeOption = None,
) -> None:
    """Ingest and judge recordings as they arrive, until Ctrl-C. Suspect and anomalous ones are pending review."""
    place = start(home)
    with prefect_server(place):
        from flows.watching import watch_folder

        watch_folder(
            folder.resolve(),
            place,
            settings.recordings,
            quiet,
            retrain_after,
            poll,
            out.print,
        )
