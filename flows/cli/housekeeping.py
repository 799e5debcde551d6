"""The commands that keep a home tidy and say how it is set up."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.console import out
from flows.cli.options import HomeOption, PresetOption, SetOption, SettingsOption
from flows.cli.output import Output, with_output
from flows.cli.settings import settings_of, with_settings
from flows.cli.startup import start

if TYPE_CHECKING:
    from asdcore.setting_rows import SettingRow
    from asdcore.settings import Settings


@with_settings
def clean(
    settings: "Settings",
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without it, they are only listed")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every shard to find damage on the disk")] = False,
    home: HomeOption = None,
) -> None:
    """List features that neither these settings nor a registered detector needs, and reports older than 30 days."""
    place = start(home)
    from flows.clean import clean as find
    from flows.clean import told

    for line in told(find(place, settings, delete=yes, verify=verify), place, deleted=yes):
        out.print(line)


@with_output
def settings(
    output: Output,
    containing: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only settings whose names contain this", show_default=False)
    ] = None,
    preset: PresetOption = "default",
    file: SettingsOption = None,
    change: SetOption = None,
    write: Annotated[
        Path | None, typer.Option(help="Write a file of these settings, for --settings", show_default=False)
    ] = None,
) -> None:
    """List all settings with value, unit, default (if different) and description, everyday ones first."""
    from asdcore.setting_rows import setting_rows, shown_value
    from asdcore.settings_file import write_settings
    from flows.cli.tables import print_table

    chosen = settings_of(preset, change, file)
    if write is not None:
        write_settings(write, chosen)
        out.print(f"Settings: {write}. Edit it, and use it with --settings {write}")
        return
    rows = [row for row in setting_rows(chosen) if (containing or "") in row.name]
    if not rows:
        raise typer.BadParameter(f"no setting has {containing!r} in its name", param_hint="NAME")
    for title, common in (("Everyday settings", True), ("Expert settings", False)):
        shown = [
            [row.name, shown_value(row.value), row.unit, _default(row), row.description]
            for row in rows
            if row.common == common
        ]
        if shown:
            print_table(["setting", "value", "unit", "default", "description"], shown, title=title)
    out.print("--set training.epochs=80 changes one; `asd settings --write plant.yaml` makes a file for --settings.")
    output.write([row._asdict() for row in rows])


def _default(row: "SettingRow") -> str:
    """The default, where the value is another one."""
    from asdcore.setting_rows import shown_value

    if row.value == row.default:
        return ""
    return shown_value(row.default) or "empty"
