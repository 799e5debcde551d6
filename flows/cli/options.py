"""What the commands share: their options, and the start of Prefect and MLflow on a home."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from asdcore.settings import Settings
    from asdcore.storage.home import Home

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def at_hand(path: Path | None) -> Path | None:
    """Refuse a path that does not exist. Whether something is at an ``s3://`` address shows when it is fetched."""
    if path is not None and not path.exists() and not str(path).startswith("s3:"):
        raise typer.BadParameter(f"path {str(path)!r} does not exist")
    return path


HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Where everything is kept, a folder or s3://bucket/prefix; default ASD_HOME or .asd",
        show_default=False,
    ),
]
PresetOption = Annotated[str, typer.Option(help="paper, default, or demo (minutes on two CPU cores)")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting, for example training.epochs=80; can be repeated", show_default=False),
]
RecordingsOption = Annotated[
    Path | None,
    typer.Option(
        callback=at_hand, help="Ingest these, and use the machines that are there; default: all that was ingested"
    ),
]
MachinesOption = Annotated[
    str | None, typer.Option(help="Only these machines, with commas between", show_default=False)
]


def start(home: Path | None, below: str = "") -> "Home":
    """The home, after Prefect and MLflow have been told about it. Call it before importing a flow."""
    from asdcore.storage.home import Home
    from flows.environment import prepare

    place = Home.at(home) if home else Home.default()
    if below:
        place = Home.at(f"{place.name}/{below}")
    prepare(place, quiet=not os.environ.get("ASD_DEBUG"))
    return place


def say_starting() -> None:
    if not os.environ.get("PREFECT_API_URL"):
        err.print("Starting Prefect's API for this run ...", style="dim")


def settings_of(preset: str, changes: list[str] | None) -> "Settings":
    from pydantic import ValidationError

    from asdcore.settings import PRESETS, Settings

    if preset not in PRESETS:
        raise typer.BadParameter(f"{preset!r} is none of {', '.join(PRESETS)}", param_hint="--preset")
    values = Settings.preset(preset).model_dump()
    for change in changes or []:
        name, separator, value = change.partition("=")
        stage, _, knob = name.partition(".")
        if not separator or knob not in values.get(stage, {}):
            raise typer.BadParameter(
                f"{change!r}: write stage.name=value, for example training.epochs=80", param_hint="--set"
            )
        values[stage][knob] = value.split(",") if isinstance(values[stage][knob], tuple) else value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        given = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
        raise typer.BadParameter(f"{where}: {first['msg']}{given}", param_hint="--set") from error


def names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None
