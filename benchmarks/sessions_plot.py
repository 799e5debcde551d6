"""The plot of docs/evidence/sessions.md."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

ASKED = 0.1
LOOKS = (
    ("leave-one-out", "false_alarms", "found", "#d62728", "o-", "leave-one-out: anomalous"),
    ("leave-one-session-out", "false_alarms", "found", "#1f77b4", "o-", "leave-one-session-out: anomalous"),
    ("leave-one-session-out", "false_alarms_any", "found_any", "#1f77b4", "x--", "the same: suspect or anomalous"),
)


def draw(figures: dict[str, Any], path: Path) -> None:
    """False alarms in unheard sessions, and faults found, against the number of sessions heard."""
    groups = [group for group in ("simulated", "real") if group in figures]
    figure = Figure(figsize=(9, 3.1 * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), 2, squeeze=False, sharey="col")
    for group, (alarms, found) in zip(groups, axes, strict=True):
        machines = len({row["machine"] for row in figures[group]})
        for method, false_name, found_name, colour, style, label in LOOKS:
            _draw(alarms, figures[group], method, false_name, colour, style, label)
            _draw(found, figures[group], method, found_name, colour, style, label)
        alarms.axhline(100 * ASKED, color="0.35", linestyle=":", label="asked for")
        alarms.set_title(f"{group} machines ({machines}): false alarms, %")
        found.set_title(f"{group} machines ({machines}): faults found, %")
        for ax in (alarms, found):
            ax.set(xlabel="sessions heard", ylim=(-3, 103))
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.grid(alpha=0.3)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=100)


def _draw(ax: Axes, rows: list[dict[str, Any]], method: str, name: str, colour: str, style: str, label: str) -> None:
    own = [row for row in rows if (row["method"], row["scorer"], row["asked"]) == (method, "fused", ASKED)]
    own = [row for row in own if row["per_session"] > 1]  # many sessions of one: another experiment
    sessions = sorted({row["sessions"] for row in own})
    values = [np.nanmean([row[name] for row in own if row["sessions"] == count]) for count in sessions]
    ax.plot(sessions, values, style, color=colour, label=label)
