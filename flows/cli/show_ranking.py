"""What the command line prints of a ranking of systems."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.console import out
from flows.cli.output import Output
from flows.cli.show import short
from flows.cli.tables import print_table

if TYPE_CHECKING:
    from flows.ranking import RankedSystems


def show_ranking(done: "RankedSystems", output: Output) -> None:
    """A row per system, the best average rank first, and where the rest is."""
    rows = []
    for row in done["systems"]:
        name = f"{row['system']}, the same as {row['same_as']}" if row["same_as"] else row["system"]
        text = [name, f"{row['rank']:.2f}", f"{row['official']:.1f}", "", "", ""]
        if row["difference"] is not None:
            p_value = "" if row["p_holm"] is None else f"{row['p_holm']:.2g}"
            span = f"{row['low']:+.1f} to {row['high']:+.1f}"
            text[3:] = [f"{row['difference']:+.1f}", span, p_value]
        rows.append(text)
    mean = done["official"].partition(" of ")[0]
    header = ["system", "rank", mean, f"minus {done['first']}", "95 % interval", "p (Holm)"]
    title = f"Average ranks on {done['machines']} machines; critical difference {done['critical_difference']:.2f}"
    print_table(header, rows, right=range(1, 6), title=title)
    out.print(f"report     {short(Path(done['page']))}")
    out.print(f"scores     {short(Path(done['scores']))}")
    facts: dict[str, Any] = {name: value for name, value in done.items() if name != "systems"}
    output.write(done["systems"], **facts)
