"""Systems side by side, in the layout of the paper's Table 1."""

from collections.abc import Mapping

import pandas as pd

from asdcore.evaluation.bootstrap import ALL, bootstrap
from asdcore.evaluation.metrics import DOMAINS, LABELS

FIGURES = {"auc_target": "AUC target", "auc_source": "AUC source", "pauc": "pAUC"}
RESAMPLES = 2000


def labelled(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows that figures can be made from: label and domain are known, and there is a score."""
    known = scores["label"].isin(LABELS) & scores["domain"].isin(DOMAINS) & scores["score"].notna()
    return scores[known].reset_index(drop=True)


def results_table(scores: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a machine and figure, the harmonic mean last, one column a system.

    Args:
        scores: system: a table as `machine_metrics` reads it, all of the same test recordings.

    Returns:
        machine, figure and a column a system, in percent, NaN where a figure is undefined; ``<system> low`` and
        ``<system> high``: the ends of the 95 % interval of a stratified bootstrap over the test recordings.
    """
    columns: dict[str, pd.Series[float]] = {}
    for system, table in scores.items():
        intervals = bootstrap(table, RESAMPLES).intervals().set_index(["machine", "section", "figure"])
        columns |= {
            system: intervals["estimate"],
            f"{system} low": intervals["low"],
            f"{system} high": intervals["high"],
        }
    every = (pd.DataFrame(columns) * 100).reset_index()
    # Both, because a machine may well be called "all".
    means = (every["machine"] == ALL) & (every["section"] == ALL)
    official = every[means & (every["figure"] == "official_score")]
    of_machines = every[~means & every["figure"].isin(FIGURES)]
    sections = of_machines.groupby("machine")["section"].transform("nunique")
    named = of_machines["machine"] + (" " + of_machines["section"]).where(sections > 1, "")
    of_machines = of_machines.assign(machine=named, order=of_machines["figure"].map(list(FIGURES).index))
    of_machines = of_machines.sort_values(["machine", "order"]).drop(columns="order")
    table = pd.concat([of_machines, official.assign(machine="All", figure="harmonic mean")]).drop(columns="section")
    return table.assign(figure=table["figure"].replace(FIGURES)).reset_index(drop=True)


def systems_of(table: pd.DataFrame) -> list[str]:
    """The systems of a `results_table`, in its order."""
    return [name for name in table.columns[2:] if not name.endswith((" low", " high"))]


def cells(table: pd.DataFrame) -> list[list[str]]:
    """A `results_table` as text, header first: percent with two digits; the interval of the harmonic mean last."""
    systems = systems_of(table)
    rows = [["machine", "figure", *systems]]
    for row in table.to_dict("records"):
        figures = ["-" if pd.isna(row[system]) else f"{row[system]:.2f}" for system in systems]
        rows.append([str(row["machine"]), str(row["figure"]), *figures])
    last = table.iloc[-1]
    intervals = [
        "-" if pd.isna(last[f"{system} low"]) else f"{last[f'{system} low']:.1f}-{last[f'{system} high']:.1f}"
        for system in systems
    ]
    return [*rows, ["", "95 % interval", *intervals]]


def markdown(table: pd.DataFrame) -> str:
    """A `results_table` as a Markdown table."""
    header, *rows = [[cell.replace("|", r"\|") for cell in line] for line in cells(table)]
    lines = [header, ["---", "---", *["---:"] * (len(header) - 2)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
