"""Normality models of the mean spectrum that know sessions, against plain pooling: faults found, false alarms.

    OMP_NUM_THREADS=1 python benchmarks/session_covariance.py [--quick]

The same recordings, draws of sessions and calibration (leave one session out) as `benchmarks/sessions.py`; only the
model of the mean spectrum differs:

- ``pooled``: covariance of all recordings, shrunk to a sphere (Ledoit-Wolf): what `asd` does
- ``within``: covariance within sessions, shrunk, around the mean of all
- ``within+between``: the same plus the covariance of the session means, less what they owe to few recordings, shrunk
- ``without q``: ``within``, blind to the q directions in which session means differ most (nuisance directions)

``fused``: with the other scorers of the default detector, change and embedding by the base encoder, as they are.
AUC is over the recordings of unheard sessions, faulty against normal: what a model could find at any threshold.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sessions import (
    PER_SESSION,
    RATES,
    SCORERS,
    Case,
    Measured,
    Recordings,
    choices,
    distances,
    judged,
    real_sessions,
    simulated,
)
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from asdcore.arrays import Floats, Indices
from asdcore.datasets.machines import MACHINES
from asdcore.normality.base import NormalityModel
from asdcore.normality.gaussian import LedoitWolfCovariance
from asdcore.normality.machine import MachineModel
from asdcore.progress import progress

REAL = (2, 3, 4, 5, 6, 7)
SIMULATED = (2, 3, 5, 8, 12, 20)
SHOWN = {"real": (3, 5, 7), "simulated": (5, 12, 20)}
"""numbers of sessions that the page's table has"""
DIRECTIONS = (1, 3)
Estimate = Callable[[Floats, Indices], tuple[Floats, Floats]]
"""(n, p) rows and (n,) sessions to location (p,) and precision (p, p)"""


def parts_of(X: Floats, group: Indices) -> tuple[Floats, Floats, Floats, NDArray[np.intp]]:
    """Covariance within sessions (p, p), shrunk; session means (K, p) and their mean (p,); recordings of each (K,)."""
    counts = np.bincount(group)
    means = np.stack([X[group == index].mean(axis=0) for index in range(len(counts))])
    rows = X - means[group]
    shrunk = LedoitWolf(assume_centered=True).fit(rows)
    within = shrunk.covariance_ * len(X) / max(len(X) - len(counts), 1)
    return within, means, means.mean(axis=0), counts


def within_only(X: Floats, group: Indices) -> tuple[Floats, Floats]:
    within, _, location, _ = parts_of(X, group)
    return location, np.linalg.pinv(within, hermitian=True)


def within_and_between(X: Floats, group: Indices) -> tuple[Floats, Floats]:
    within, means, location, counts = parts_of(X, group)
    k = len(means)
    if k == 1:  # one session left: nothing is known between sessions
        return location, np.linalg.pinv(within, hermitian=True)
    between = LedoitWolf(assume_centered=True).fit(means - location).covariance_ * k / max(k - 1, 1)
    values, vectors = np.linalg.eigh(between - within * np.mean(1 / counts))
    between = (vectors * np.maximum(values, 0)) @ vectors.T
    return location, np.linalg.pinv(within + (1 + 1 / k) * between, hermitian=True)


def without_directions(count: int) -> Estimate:
    def estimate(X: Floats, group: Indices) -> tuple[Floats, Floats]:
        within, means, location, _ = parts_of(X, group)
        _, _, axes = np.linalg.svd(means - location, full_matrices=False)
        axes = axes[: min(count, len(means) - 1)]
        rest = np.eye(X.shape[1]) - axes.T @ axes
        return location, np.linalg.pinv(rest @ within @ rest, rcond=1e-10, hermitian=True)

    return estimate


class SessionGaussian(NormalityModel):
    """Squared Mahalanobis distance, by an estimate that knows the session of each recording."""

    name = "session_gaussian"

    def __init__(self, estimate: Estimate) -> None:
        self.estimate = estimate

    def fit(self, X: NDArray[np.floating], y: object = None, **given: ArrayLike | None) -> "SessionGaussian":
        self.sessions = np.unique(np.asarray(given["groups"]), return_inverse=True)[1]
        super().fit(X, y, **given)
        return self

    def _fit(self, X: Floats, domain: Indices) -> None:
        self.location_, self.precision_ = self.estimate(X, self.sessions)

    def _distance(self, X: Floats) -> Floats:
        away = X - self.location_
        return np.maximum(np.einsum("ij,jk,ik->i", away, self.precision_, away), 0)

    def _left_out(self, X: Floats, domain: Indices, group: Indices) -> Floats:
        distances = np.full(len(X), np.inf)
        for index in range(int(group.max()) + 1):
            rest = group != index
            if len(np.unique(group[rest])) > 0 and rest.sum() > 1:
                named = np.unique(group[rest], return_inverse=True)[1]
                location, precision = self.estimate(X[rest], named)
                away = X[~rest] - location
                distances[~rest] = np.maximum(np.einsum("ij,jk,ik->i", away, precision, away), 0)
        return distances


MODELS: dict[str, Callable[[], NormalityModel]] = {
    "pooled": LedoitWolfCovariance,
    "within": lambda: SessionGaussian(within_only),
    "within+between": lambda: SessionGaussian(within_and_between),
    **{f"without {q}": (lambda q=q: SessionGaussian(without_directions(q))) for q in DIRECTIONS},
}


def measured(case: Case, training: NDArray[np.bool_]) -> list[dict[str, Any]]:
    heard = case.normal.of(training)
    parts = [part.of(~np.isin(part.session, heard.session)) for part in (case.normal, case.faulty)]
    groups = heard.session
    others: dict[str, NormalityModel] = {
        name: scorer.model().fit(heard.vectors[name], groups=groups)
        for name, scorer in SCORERS.items()
        if name != "spectrum"
    }
    of_others = [distances(others, part) for part in parts]
    rows = []
    for name, build in MODELS.items():
        spectrum: dict[str, NormalityModel] = {"spectrum": build().fit(heard.vectors["spectrum"], groups=groups)}
        alone = [distances(spectrum, part) for part in parts]
        joined = [
            Recordings(one.vectors | rest.vectors, one.session) for one, rest in zip(alone, of_others, strict=True)
        ]
        for scorers, models, (unheard, faulty) in (
            ("spectrum", spectrum, alone),
            ("fused", spectrum | others, joined),
        ):
            machine = MachineModel({scorer: Measured(model) for scorer, model in models.items()}, groups=groups)
            auc = float("nan")
            if len(faulty.session):
                scores = [machine.verdict(part.vectors, 0.1)["score"].to_numpy() for part in (unheard, faulty)]
                finite = np.nan_to_num(np.concatenate(scores), posinf=1e12)
                auc = 100 * roc_auc_score(np.repeat([0, 1], [len(part) for part in scores]), finite)
            row = {"data": case.data, "machine": case.machine, "model": name, "scorers": scorers, "auc": auc}
            for rate in RATES:
                false, found = judged(machine, unheard, rate), judged(machine, faulty, rate)
                rows.append(row | {"asked": rate, "false": false, "found": found})
    return rows


def rows_of(cases: Sequence[Case], plan: Sequence[int], most: int = 1) -> list[dict[str, Any]]:
    """``cases``: of one machine, and ``most`` choices of sessions of each; see `sessions.by_sessions`."""
    count = len(np.unique(cases[0].normal.session))
    chosen = [(case, k, names) for case in cases for k in plan if k < count for names in choices(case, k, most)]
    return [
        row | {"sessions": k}
        for case, k, names in progress(chosen, f"{cases[0].data} {cases[0].machine}")
        for row in measured(case, np.isin(case.normal.session, names))
    ]


def table(rows: Sequence[dict[str, Any]], scorers: str, rate: float) -> str:
    """One line per model and number of sessions: means over draws and machines."""
    lines = [
        "| sessions | model | AUC | false: anomalous | suspect or anomalous | found: anomalous | suspect or anomalous |"
    ]
    lines.append("|---:|---|---:|---:|---:|---:|---:|")
    for sessions in sorted({row["sessions"] for row in rows}):
        for model in MODELS:
            own = [
                r
                for r in rows
                if (r["sessions"], r["model"], r["scorers"], r["asked"]) == (sessions, model, scorers, rate)
            ]
            # Each machine counts the same, however many draws it has.
            machines = sorted({row["machine"] for row in own})
            values = []
            for pick in (lambda r: (r["auc"],), lambda r: r["false"], lambda r: r["found"]):
                means = [np.mean([pick(row) for row in own if row["machine"] == name], axis=0) for name in machines]
                values += np.nanmean(means, axis=0).tolist()
            lines.append(f"| {sessions} | {model} | " + " | ".join(f"{value:.1f}" for value in values) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer draws and sessions")
    arguments = parser.parse_args()
    draws, most = (3, 5) if arguments.quick else (15, 20)
    plan = SIMULATED[:4] if arguments.quick else SIMULATED
    data: dict[str, list[dict[str, Any]]] = {"simulated": []}
    for machine in MACHINES:
        cases = [simulated(machine, draw, [(max(plan), PER_SESSION)]) for draw in progress(range(draws), machine)]
        data["simulated"] += rows_of(cases, plan)
    if folder := os.environ.get("ASD_SAMPLE_DATA"):
        motors = real_sessions(Path(folder) / "real-sessions")
        data["real"] = [row for case, _ in motors for row in rows_of([case], REAL, most)]
    print("10 % asked\n" + short_table(data))
    for name, rows in data.items():
        for scorers in ("spectrum", "fused"):
            for rate in RATES:
                print(f"\n{name}, {scorers}, {rate:.0%} asked\n{table(rows, scorers, rate)}", flush=True)


def short_table(data: dict[str, list[dict[str, Any]]], rate: float = 0.1) -> str:
    """The table of docs/evidence/sessions.md."""
    header = "| data | scorers | sessions | model | AUC | false alarms: anomalous | suspect or anomalous "
    header += "| found: anomalous | suspect or anomalous |"
    lines = [header, "|---|---|---:|---|---:|---:|---:|---:|---:|"]
    for name in reversed(data):
        for scorers in ("spectrum", "fused"):
            for line in table(data[name], scorers, rate).splitlines()[2:]:
                if int(line.split("|")[1]) in SHOWN[name]:
                    lines.append(f"| {name} | {scorers} {line}")
    return "\n".join(lines)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
