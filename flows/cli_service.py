"""The commands that run as long as the plant does."""

from typing import Annotated

import typer

from flows.options import HomeOption, out, start


def ui(
    home: HomeOption = None,
    prefect_port: Annotated[int, typer.Option(help="0: any free one")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="0: any free one")] = 5000,
) -> None:
    """Start the Prefect and MLflow servers of this home on loopback, until Ctrl-C."""
    place = start(home)
    from flows.servers import serve

    serve(place, prefect_port, mlflow_port, out.print)
