"""The command that ranks the recordings of a folder without labels and without a detector."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import err, out
from flows.cli.options import HomeOption, existing
from flows.cli.output import Output, with_output
from flows.cli.startup import start

SHOWN = 5
"""rows of a machine, if fewer stand out"""


@with_output
def screen(
    output: Output,
    recordings: Annotated[Path, typer.Argument(callback=existing, help="A folder of recordings, or a manifest CSV")],
    machine: Annotated[
        str | None, typer.Option(help="Machine of recordings that are not in a machine's folder", show_default=False)
    ] = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write an HTML report")] = True,
    home: HomeOption = None,
) -> None:
    """Which of these sound wrong? Rank the recordings of each machine: no labels, no detector, no training.

    Exit code 4: something stands out; else 1: something could not be ranked; else 0.
    """
    from asdcore.errors import AsdError
    from asdcore.screening import listen_and_screen
    from flows.cli.show import show_screening

    screening = listen_and_screen(recordings, machine)
    table = screening.table
    show_screening(table, SHOWN)
    bad = table[table["reason"] != ""]
    for (of, reason), own in bad.groupby(["machine", "reason"]):
        # A machine with too few recordings is one complaint.
        first = own["path"].iloc[0]
        what = first if len(own) == 1 else f"{of or first}, {len(own)} files"
        err.print(f"not ranked: {what}: {reason}")
    output.write(table)
    if report and not output.alone and screening.machines:
        from tasks.reports import screening_page

        try:
            place = start(home)
        except (OSError, AsdError) as error:  # The ranking needs no home, and must not fail for lack of one.
            err.print(f"done, but without a report: the home cannot be used: {error}")
        else:
            if page := screening_page(place, screening, recordings):
                out.print(f"Report: {page}")
    raise typer.Exit(4 if table["stands_out"].fillna(False).any() else 1 if len(bad) else 0)
