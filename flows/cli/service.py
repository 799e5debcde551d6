"""The commands that run as long as the plant does."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import HomeOption, PresetOption, SetOption, at_hand, out, say_starting, settings_of, start

RetrainAfterOption = Annotated[int, typer.Option(help="New normal recordings that make a retraining due")]


def ui(
    home: HomeOption = None,
    prefect_port: Annotated[int, typer.Option(help="0: any free one")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="0: any free one")] = 5000,
) -> None:
    """Start the Prefect and MLflow servers of this home on loopback, until Ctrl-C."""
    place = start(home)
    from flows.servers import serve

    with place.synchronised(out.print):
        serve(place, prefect_port, mlflow_port, out.print)


def deploy(
    recordings: Annotated[
        Path | None,
        typer.Option(callback=at_hand, help="Folder that is retrained on and scored by schedule", show_default=False),
    ] = None,
    retrain_after: RetrainAfterOption = 50,
    preset: PresetOption = "default",
    change: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Put every flow on the Prefect server, for this home and these settings. Schedules are switched off."""
    settings = settings_of(preset, change)
    place = start(home)
    from flows.deployment import deploy as deploy_flows

    names = deploy_flows(place, settings, recordings, retrain_after)
    out.print(f"Deployed for {place.name}: {', '.join(names)}.", highlight=False)
    out.print("`asd worker` runs them. Switch the schedules on in the Prefect UI, under Deployments.")


def worker(home: HomeOption = None) -> None:
    """Run the deployed flows of the Prefect server, until Ctrl-C."""
    place = start(home)
    from flows.deployment import work

    work(place)


def watch(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Where recordings arrive")],
    quiet: Annotated[float, typer.Option(help="Seconds without a change after which a file has arrived")] = 10.0,
    retrain_after: RetrainAfterOption = 50,
    poll: Annotated[
        bool, typer.Option("--poll", help="Look at every file: for network drives, which tell nothing")
    ] = False,
    preset: PresetOption = "default",
    change: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Ingest and judge recordings as they arrive, until Ctrl-C. Anomalous ones never train before `asd label`."""
    settings = settings_of(preset, change)
    place = start(home)
    from flows.watching import watch_folder

    say_starting()
    watch_folder(
        folder.resolve(),
        place,
        settings.recordings,
        quiet,
        retrain_after,
        poll,
        lambda text: out.print(text, highlight=False, markup=False),
    )
