"""The commands that keep a home tidy and say how it is set up."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.console import out
from flows.cli.options import HomeOption, PresetOption
from flows.cli.settings import settings_of, with_settings
from flows.cli.startup import start

if TYPE_CHECKING:
    from asdcore.settings import Settings


@with_settings
def clean(
    settings: "Settings",
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without it they are only listed")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every shard to find damage on the disk")] = False,
    home: HomeOption = None,
) -> None:
    """List features that neither these settings nor a registered detector needs, and reports older than 30 days."""
    place = start(home)
    from flows.clean import clean as find
    from flows.clean import told

    for line in told(find(place, settings, delete=yes, verify=verify), place, deleted=yes):
        out.print(line)


def settings(
    preset: PresetOption = "default",
    every: Annotated[bool, typer.Option("--all", help="Expert settings, too")] = False,
) -> None:
    """List the settings that --set changes: name, value and description."""
    from asdcore.settings import setting_rows
    from flows.cli.tables import print_table

    rows = setting_rows(settings_of(preset, None))
    # The common ones first; the order is otherwise that of the stages.
    rows.sort(key=lambda row: not row.common)
    shown = [row for row in rows if every or row.common]
    print_table(["setting", "value", "description"], [[row.name, row.value, row.description] for row in shown])
    if len(shown) < len(rows):
        out.print(f"{len(rows) - len(shown)} expert settings more: `asd settings --all`.")
    out.print("Change one with --set, for example `asd retrain --set training.epochs=80`.")
