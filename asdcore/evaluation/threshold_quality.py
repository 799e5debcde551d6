"""How well a threshold can be chosen, and how good the chosen one is: F1-EV, and F1 of the verdicts.

A good AUC is of little use if no good threshold can be found from normal recordings. F1-EV is the mean of F1 over
the thresholds that one might choose (K. Wilkinghoff and K. Imoto, F1-EV Score: Measuring the Likelihood of Estimating a
Good Decision Threshold for Semi-Supervised Anomaly Detection, ICASSP 2024, arXiv:2312.09143); the bounded form counts
those between the mean of the normal scores and 1.28 times their largest possible deviation above it.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdcore.arrays import Floats
from asdcore.evaluation.metrics import Bools

_ALPHA = 1.28
"""deviations above the mean: the 90th percentile of a normal distribution"""


def threshold_quality(scores: pd.DataFrame) -> pd.DataFrame:
    """F1 of each machine and section: at the best threshold, F1-EV, its bounded form, and at the verdicts.

    Args:
        scores: ``machine, section, label, score``, and if there are verdicts ``verdict`` (missing: none).

    Returns:
        machine, section, f1_best, f1_ev, f1_ev_bounded, f1_verdict (suspect and anomalous count as called; NaN without
        verdicts), false_alarms (fraction of normal recordings that are called; NaN likewise). NaN where a machine has
        no normal or no anomalous recording.
    """
    rows = []
    for (machine, section), own in scores.groupby(["machine", "section"], sort=True):
        anomaly = (own["label"] == "anomaly").to_numpy()
        values = own["score"].to_numpy(dtype=float)
        row = {"machine": machine, "section": section, "f1_best": np.nan, "f1_ev": np.nan, "f1_ev_bounded": np.nan}
        row |= {"f1_verdict": np.nan, "false_alarms": np.nan}
        if anomaly.any() and not anomaly.all():
            row["f1_best"] = float(_f1_above(np.unique(values), values, anomaly).max())
            row["f1_ev"] = f1_ev(values, anomaly)
            row["f1_ev_bounded"] = f1_ev(values, anomaly, bounded=True)
            if "verdict" in own and own["verdict"].notna().all():
                called = ~own["verdict"].isin(["normal", ""]).to_numpy()
                hits = int((called & anomaly).sum())
                row["f1_verdict"] = 2 * hits / (int(called.sum()) + int(anomaly.sum()))
                row["false_alarms"] = float(called[~anomaly].mean())
        rows.append(row)
    return pd.DataFrame(rows)


def f1_ev(scores: Floats, anomaly: Bools, *, bounded: bool = False) -> float:
    """The mean of F1 over the thresholds from the lowest to the highest score, or over the bounded ones: 0 to 1.

    Args:
        scores: (n,), higher is more anomalous.
        anomaly: (n,).
        bounded: only thresholds between the mean of the normal scores and 1.28 deviations above it, at the largest
            deviation that their range allows (inequality of Bhatia and Davis).

    >>> scores, anomaly = np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, False, True, True])
    >>> round(f1_ev(scores, anomaly), 3)
    0.822
    """
    thresholds: NDArray[np.float64] = np.unique(scores)
    if bounded:
        normal = scores[~anomaly]
        low = float(normal.mean())
        high = low + _ALPHA * float(np.sqrt((normal.max() - low) * (low - normal.min())))
        thresholds = np.array([low, *thresholds[(thresholds > low) & (thresholds < high)], high])
    if thresholds[-1] <= thresholds[0]:
        return 0.0
    f1 = _f1_above(thresholds[:-1], scores, anomaly)
    return float((f1 * np.diff(thresholds)).sum() / (thresholds[-1] - thresholds[0]))


def _f1_above(thresholds: Floats, scores: Floats, anomaly: Bools) -> Floats:
    """F1 where scores above each threshold are called anomalous, (n thresholds,)."""
    called = scores[None, :] > thresholds[:, None]
    hits = (called & anomaly[None, :]).sum(axis=1)
    f1: Floats = 2.0 * hits / (called.sum(axis=1) + anomaly.sum())
    return f1
