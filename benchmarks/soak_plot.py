"""The plot of docs/evidence/soak.md."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLOURS = {"watch": "#1f77b4", "worker": "#2ca02c", "prefect server": "#d62728", "mlflow server": "#9467bd"}


def draw(results: dict[str, Any], path: Path) -> None:
    """Seconds from the last byte of each recording to its verdict, and memory, over time; each kill is a line."""
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    latency, memory = figure.subplots(2, 1, sharex=True)
    times, seconds = np.array(results["latencies"]).reshape(-1, 2).T
    latency.plot(times / 60, seconds, ".", color="0.3", markersize=2)
    latency.set(yscale="log", ylabel="s", title="from the last byte of a recording to its verdict")
    for name, colour in COLOURS.items():
        samples = np.array(results["memory"].get(name, [])).reshape(-1, 3)
        memory.plot(samples[:, 0] / 60, samples[:, 2], ".", color=colour, markersize=2, label=name)
        for at in [at for at, victim in results["killed"] if victim == name]:
            for ax in (latency, memory):
                ax.axvline(at / 60, color=colour, alpha=0.5, linewidth=0.8)
    memory.set(ylabel="MiB", xlabel="minutes; a line: kill -9 of the part with its colour", title="resident memory")
    memory.set_ylim(bottom=0)
    memory.legend(loc="lower right", ncols=4, markerscale=5)
    for ax in (latency, memory):
        ax.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
