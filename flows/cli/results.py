"""The command that lists what was scored."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from flows.cli.console import out
from flows.cli.options import HomeOption, names, since_of
from flows.cli.output import Output, number, with_output
from flows.cli.startup import start

SHOWN = 50
"""rows, without --all"""
STRANGE = ("anomalous", "suspect")
VERDICTS = (*STRANGE, "normal", "not scored")


@with_output
def results(
    output: Output,
    machine: Annotated[
        list[str] | None, typer.Option(help="Only this machine; can be repeated", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="How long ago (30m, 12h, 2d, 1w), or 2026-05-01, or '2026-05-01 08:30'", show_default=False),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help=f"Comma-separated: {', '.join(VERDICTS)}", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help=f"Print all rows, not only the first {SHOWN}")] = False,
    home: HomeOption = None,
) -> None:
    """List the stored scores of `asd score`, `asd watch` and scheduled scoring, the newest first."""
    begin = since_of(since, datetime.now().astimezone()) if since is not None else None
    verdicts = _verdicts(only)
    place = start(home)
    from flows.cli.tables import print_table
    from tasks.results import COLUMNS, scored_machines, stored_scores

    for folder in (place.scores, place.recordings):
        place.fetch_folder(folder)
    _refuse_unknown(machine, scored_machines(place) if machine else [])
    whole = every or output.csv is not None or output.json
    rows, counts = stored_scores(place, machine, begin, verdicts, None if whole else SHOWN)
    shown = rows if every else rows[:SHOWN]
    header = ["scored at", "machine", "score", "p-value", "verdict", "triggered by", "label", "detector", "recording"]
    if shown:
        print_table(header, [_cells(row) for row in shown], right=[2, 3])
    if not counts:
        nothing = f"No scores in {place.name} yet. `asd score` scores recordings, and `asd watch` those that arrive."
        out.print("No stored score matches." if machine or since or only else nothing)
    for line in _summary(counts, shown):
        out.print(line)
    output.write([row | {"detector": number(row["detector"])} for row in rows], COLUMNS)


def _cells(row: dict[str, Any]) -> list[str]:
    verdict = row["verdict"].upper() if row["verdict"] == "anomalous" else row["verdict"]
    when = datetime.fromisoformat(row["scored_at"]).astimezone() if row["scored_at"] else None
    return [
        f"{when:%Y-%m-%d %H:%M:%S}" if when else "unknown",
        row["machine"] or "",
        "-" if row["score"] is None else f"{row['score']:.1f}",
        "-" if row["p_value"] is None else f"{row['p_value']:.2g}",
        f"{verdict} (in training)" if row["in_training"] else verdict,
        row["triggered_by"] or "",
        row["label"] or "",
        row["detector"] or "",
        row["path"],
    ]


def _summary(counts: Mapping[str, int], shown: list[dict[str, Any]]) -> list[str]:
    """What the scores come to, and how to get those that are not shown."""
    if not counts:
        return []
    total = sum(counts.values())
    said = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in VERDICTS if verdict in counts)
    lines = [f"{total:,} {'score' if total == 1 else 'scores'}: {said}."]
    if left := total - len(shown):
        strange = sum(counts.get(verdict, 0) for verdict in STRANGE)
        strange -= sum(row["verdict"] in STRANGE for row in shown)
        line = f"The oldest {left:,} are not shown, {strange:,} of them anomalous or suspect"
        lines.append(f"{line}: --all, --csv FILE, or --only anomalous,suspect.")
    return lines


def _verdicts(only: str | None) -> list[str] | None:
    wanted = names(only)
    for verdict in wanted or ():
        if verdict not in VERDICTS:
            raise typer.BadParameter(f"{verdict!r} is none of {', '.join(VERDICTS)}", param_hint="--only")
    return wanted


def _refuse_unknown(wanted: list[str] | None, known: list[str]) -> None:
    import difflib

    from asdcore.errors import AsdError

    for machine in wanted or ():
        if machine not in known:
            near = difflib.get_close_matches(machine, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are scores of {', '.join(known) or 'none'}"
            raise AsdError(f"no scores of machine {machine!r}; {hint}")
