"""The options that several commands share."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def existing(path: Path | None) -> Path | None:
    """Refuse a path that does not exist. Whether something is at an ``s3://`` address shows when it is fetched."""
    if path is None or str(path).startswith("s3:"):
        return path
    from asdcore.recordings.paths import on_disk, printable

    try:
        on_disk(path).stat()
    except (OSError, ValueError) as error:
        why = (
            "does not exist"
            if isinstance(error, FileNotFoundError)
            else f"cannot be reached ({getattr(error, 'strerror', None) or error})"
        )
        raise typer.BadParameter(f"path {str(printable(path))!r} {why}") from None
    return printable(path)


def names(text: str | None) -> list[str] | None:
    """The parts of a comma-separated list; None if there is none."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def since_of(text: str, now: datetime) -> datetime:
    """The time that ``--since`` means; without a time zone, of this machine.

    Raises:
        typer.BadParameter: it is not a time, or in the future.
    """
    try:
        if ago := re.fullmatch(r"(\d+)\s*([mhdw])", text.strip().lower()):
            begin = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            begin = datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is not a time; write 2026-05-01, 2026-05-01T06:00, or how long ago: 90m, 12h, 7d, 2w",
            param_hint="--since",
        ) from None
    if begin > now:
        raise typer.BadParameter(f"{text!r} is in the future", param_hint="--since")
    return begin


HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Where everything is kept: a folder or s3://bucket/prefix; default: ASD_HOME or .asd",
        show_default=False,
    ),
]
PresetOption = Annotated[str, typer.Option(help="paper, default, or demo (minutes on two CPU cores)")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change one setting, for example training.epochs=80; can be repeated; `asd settings` lists them",
        show_default=False,
    ),
]
SettingsOption = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        exists=True,
        dir_okay=False,
        help="A YAML file of settings; `asd settings --write FILE` makes one. --set overrides it",
        show_default=False,
    ),
]
RecordingsOption = Annotated[
    Path | None,
    typer.Option(
        callback=existing,
        help="Ingest these recordings first and use only their machines; default: everything that was ingested",
        show_default=False,
    ),
]
MachinesOption = Annotated[str | None, typer.Option(help="Only these machines, comma-separated", show_default=False)]
ModelOption = Annotated[str, typer.Option(help="Alias or version of the registered detector")]
