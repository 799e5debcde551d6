"""The report of a ranking: systems on all machines of all datasets, one HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from asdcore.arrays import Floats
from asdcore.evaluation.challenges import DEFAULT_RULE, TITLES, Rule
from asdcore.evaluation.ranking import BLOCK, RESAMPLES, Ranking
from asdcore.plots.ranking import ranking_drawing
from asdcore.reports.page import rendered

GROUPS_SHOWN = 200
"""rows of the table by property"""


@dataclass(frozen=True)
class Ranked:
    """All that is known of a comparison of systems, see `asdcore.evaluation.ranking`."""

    quality: pd.DataFrame
    ranking: Ranking
    comparisons: pd.DataFrame
    groups: pd.DataFrame
    """by `by_group`"""
    costs: pd.DataFrame
    """system, fit_seconds, score_milliseconds, megabytes"""
    twins: Mapping[str, str]
    """see `asdcore.evaluation.ranking.twins`"""
    recordings: int
    """of the tests"""
    rule: Rule = DEFAULT_RULE
    """of the official score"""


def ranking_report(ranked: Ranked, notes: Sequence[str], simulated: str) -> str:
    """The HTML page.

    Args:
        ranked: what is shown.
        notes: sentences, such as what the systems are.
        simulated: the banner; empty if no recording is simulated.
    """
    order = [str(name) for name in ranked.ranking.ranks.columns]
    table = ranked.quality
    datasets = list(dict.fromkeys(table["dataset"]))
    title = f"{len(order)} systems on {len(ranked.ranking.ranks)} machines"
    tiles = {
        "systems": len(order), "datasets": len(datasets), "machines": len(ranked.ranking.ranks),
        "test recordings": ranked.recordings, "seeds": table["seed"].nunique(),
    }  # fmt: skip
    return rendered(
        "ranking.html",
        title=title,
        about=[", ".join(datasets)],
        simulated=simulated,
        numbers=tiles,
        drawing=Markup(ranking_drawing(ranked.ranking)),
        p_value=ranked.ranking.p_value,
        systems=system_rows(ranked),
        rule=ranked.rule,
        titles=TITLES,
        first=_first(ranked),
        order=order,
        machines=_machine_rows(table, order),
        groups=_group_rows(ranked.groups, order)[:GROUPS_SHOWN],
        group_count=ranked.groups[["dataset", "machine", "group"]].drop_duplicates().shape[0],
        resamples=RESAMPLES,
        notes=list(notes),
    )


def system_rows(ranked: Ranked) -> list[dict[str, Any]]:
    """One row per system, the best rank first; percentages as numbers, missing values as None."""
    average = ranked.ranking.average
    means = ranked.quality.groupby("system")[
        [
            "official",
            *dict.fromkeys(("auc_source", "auc_target", "pauc", *ranked.rule.metrics)),
            "f1_best",
            "f1_ev",
            "f1_ev_bounded",
            "f1_verdict",
            "false_alarms",
        ]
    ].mean()
    spread = ranked.quality.groupby(["system", "seed"])["official"].mean().groupby("system").std()
    compared = ranked.comparisons.set_index("system").to_dict("index") if len(ranked.comparisons) else {}
    costs = ranked.costs.set_index("system").to_dict("index") if len(ranked.costs) else {}
    rows: list[dict[str, Any]] = []
    for name, rank in zip(map(str, average.index), average, strict=True):
        row: dict[str, Any] = {"system": name, "rank": float(rank), "seed_deviation": _percent(spread[name])}
        row |= {str(column): _percent(value) for column, value in means.loc[name].items()}
        against = compared.get(name, {})
        for column in ("difference", "low", "high"):
            row[column] = _percent(against[column]) if against else None
        row |= {column: against.get(column) for column in ("wins", "machines")}
        row["same_as"] = ranked.twins.get(name, "")
        row["p_holm"] = _known(against.get("p_holm"))
        cost = costs.get(name, {})
        row |= {column: _known(cost.get(column)) for column in ("fit_seconds", "score_milliseconds", "megabytes")}
        rows.append(row)
    return rows


def _first(ranked: Ranked) -> str:
    others = set(ranked.comparisons["system"]) if len(ranked.comparisons) else set()
    return next((str(name) for name in dict.fromkeys(ranked.quality["system"]) if name not in others), "")


def _machine_rows(table: pd.DataFrame, order: Sequence[str]) -> list[dict[str, object]]:
    """Percent by block, and which system is the best there."""
    values = table.pivot_table(index=BLOCK, columns="system", values="official", aggfunc="mean", sort=False)[
        list(order)
    ]
    sections = values.index.to_frame(index=False).groupby("machine")["section"].transform("nunique").to_numpy()
    rows = []
    for (dataset, machine, section), several, row in zip(values.index, sections, values.to_numpy(), strict=True):
        name = f"{machine} {section}" if several > 1 else machine
        rows.append({"dataset": dataset, "machine": name, "cells": _cells(row)})
    return rows


def _group_rows(groups: pd.DataFrame, order: Sequence[str]) -> list[dict[str, object]]:
    if groups.empty:
        return []
    values = groups.pivot_table(index=["dataset", "machine", "group"], columns="system", values="auc", sort=False)
    counts = groups.groupby(["dataset", "machine", "group"])["anomalies"].first()
    return [
        {
            "dataset": key[0],
            "machine": key[1],
            "group": key[2],
            "anomalies": int(counts[key]),
            "cells": _cells(row),
        }
        for key, row in zip(values.index, values[list(order)].to_numpy(), strict=True)
    ]


def _cells(row: Floats) -> list[tuple[float | None, bool]]:
    """Percent, and whether it is the best of a row in which systems differ."""
    known = row[np.isfinite(row)]
    differ = len(known) > 0 and known.min() < known.max()
    return [(_percent(value), bool(differ and value == known.max())) for value in row]


def _percent(value: object) -> float | None:
    number = _known(value)
    return None if number is None else 100 * number


def _known(value: object) -> float | None:
    number = float(value) if isinstance(value, int | float | np.number) else float("nan")
    return number if np.isfinite(number) else None
