"""False alarms that a threshold promises and those that it makes: leave-one-out against in-sample distances.

    python benchmarks/calibration.py [--quick] [--json FILE]

All data are simulated: Gaussian embeddings with a random covariance. Each normality model is fitted on n of them, its
`Calibration` once on the leave-one-out distances and once on the distances of the training recordings themselves. The
table of docs/evidence/calibration.md is printed: the percentage of fresh normal recordings called anomalous, the
median over training sets of 1000 recordings, and the mean over those of few, where ranks are coarse.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from asdcore.normality.base import model_class
from asdcore.normality.calibration import Calibration
from asdcore.progress import progress
from asdcore.registry import NORMALITY_MODELS

RATES = (0.01, 0.05, 0.1)
SIZES = (32, 64, 128, 256, 512)
FEW = 100
"""recordings, below which means are shown"""
ELLIPTIC_UP_TO = 32
"""values per embedding: six fits of 1000 x 128 take minutes"""


def achieved_rates(estimator: str, n: int, p: int, seed: int, fresh: int) -> dict[str, NDArray[np.float64]]:
    """Achieved rates of both calibrations on one training set, in the order of `RATES`."""
    rng = np.random.default_rng([n, p, seed])
    mixing = rng.normal(size=(p, p)) / np.sqrt(p) + np.eye(p)
    X, new = rng.normal(size=(n, p)) @ mixing, rng.normal(size=(fresh, p)) @ mixing
    model = model_class(estimator)().fit(X, domains=np.where(np.arange(n) % 100, "source", "target"))
    distances = model.distance(new)
    return {
        name: np.array([Calibration().fit(values).decision(distances, rate).mean() for rate in RATES])
        for name, values in (("leave-one-out", model.left_out_), ("in-sample", model.distance(X)))
    }


def measure(n: int, sizes: tuple[int, ...], seeds: int, fresh: int) -> list[dict[str, Any]]:
    """One row per size, model, calibration and rate."""
    plan = [
        (p, estimator)
        for p in sizes
        for estimator in NORMALITY_MODELS.built_in
        if estimator != "elliptic" or p <= ELLIPTIC_UP_TO
    ]
    rows: list[dict[str, Any]] = []
    for p, estimator in progress(plan, f"calibration of {n} recordings"):
        trials = [achieved_rates(estimator, n, p, seed, fresh) for seed in range(seeds)]
        for calibration in trials[0]:
            achieved = np.array([rates[calibration] for rates in trials])
            for rate, values in zip(RATES, achieved.T, strict=True):
                median, mean = float(np.median(values)), float(values.mean())
                row = {"n": n, "p": p, "model": estimator, "calibration": calibration, "asked": rate, "median": median}
                rows.append(row | {"mean": mean, "largest": float(values.max()), "ratio": median / rate})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; percent of normal recordings called anomalous, in-sample / leave-one-out."""
    asked = " | ".join(f"{100 * rate:g} %" for rate in RATES)
    lines = [f"| recordings | values | model | asked: {asked} |", "| ---: | ---: | --- |" + " ---: |" * len(RATES)]
    for n, p, model in dict.fromkeys((row["n"], row["p"], row["model"]) for row in rows):
        values = {(r["calibration"], r["asked"]): r for r in rows if (r["n"], r["p"], r["model"]) == (n, p, model)}
        shown = "mean" if n < FEW else "median"
        cells = [
            " / ".join(f"{100 * values[name, rate][shown]:.1f}" for name in ("in-sample", "leave-one-out"))
            for rate in RATES
        ]
        lines.append(f"| {n} | {p} | `{model}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer training sets and p up to 128: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as one JSON object; - is stdout")
    arguments = parser.parse_args()
    started = time.monotonic()
    seeds, sizes = (3, SIZES[:3]) if arguments.quick else (11, SIZES)
    rows = measure(1000, sizes, seeds, fresh=2000)
    for few in (16, 60):
        rows += measure(few, (128,), 5 * seeds, fresh=500)
    figures = {"benchmark": "calibration", "data": "simulated", "training_sets": seeds, "rows": rows}
    figures["seconds"] = round(time.monotonic() - started, 1)
    if arguments.json and str(arguments.json) == "-":
        print(json.dumps(figures))
        return
    print(f"Simulated data; {seeds} training sets of 1000 recordings, {5 * seeds} of 16 and 60\n\n{table(rows)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    with threadpool_limits(1):  # Its matrices are so small that two threads spend their time waiting for each other.
        main()
