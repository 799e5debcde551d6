"""Published metrics of DCASE 2023 Task 2, for comparison with measured ones.

Source: S. Shin and S. Lee, *Two-stage contrastive learning for anomalous sound detection*, technical report, DCASE 2023
Challenge Task 2, Table 1 (development set; percent; machine names as in the data set).
"""

import re
from pathlib import Path

import pandas as pd

from asdcore.evaluation.metrics import DOMAINS, LABELS

SYSTEMS = ("published ML", "published elliptic", "published MSE", "published Mahalanobis")
METRICS = ("auc_target", "auc_source", "pauc")

_TABLE_1 = {
    "ToyCar": ((39.36, 40.72, 46.89, 43.42), (51.64, 52.04, 70.10, 74.53), (54.57, 51.47, 52.47, 49.18)),
    "ToyTrain": ((44.36, 45.68, 57.02, 42.45), (47.63, 49.80, 57.93, 55.98), (49.37, 48.27, 48.57, 48.13)),
    "bearing": ((73.40, 70.64, 55.75, 55.28), (73.40, 71.04, 65.92, 65.16), (59.73, 50.58, 50.42, 51.37)),
    "fan": ((65.44, 65.52, 36.18, 45.98), (65.60, 65.10, 80.19, 87.10), (48.16, 52.16, 59.04, 59.33)),
    "gearbox": ((74.32, 77.68, 60.69, 70.78), (80.80, 78.72, 60.31, 71.88), (54.53, 51.58, 53.22, 54.34)),
    "slider": ((83.84, 82.52, 48.77, 63.29), (82.92, 81.32, 70.31, 84.02), (62.89, 51.90, 56.37, 54.73)),
    "valve": ((99.80, 99.56, 50.69, 51.40), (98.73, 99.24, 55.35, 56.31), (98.74, 99.24, 51.18, 51.08)),
}


def published_metrics() -> pd.DataFrame:
    """One row per machine and metric (auc_target, auc_source, pauc), one column per published system; percent."""
    rows = [
        (machine, metric, *values)
        for machine, metrics in _TABLE_1.items()
        for metric, values in zip(METRICS, metrics, strict=True)
    ]
    return pd.DataFrame(rows, columns=["machine", "metric", *SYSTEMS])


PER_KIND = 50
"""number of test recordings of each domain and label of a machine of the development set"""
_NAME = re.compile(r"section_00_(source|target)_test_(normal|anomaly)_\d{4}.*\.wav")
# The development sets of 2024 and 2025 have the same machines, as many recordings, and other names of some of them:
# section_00_source_test_normal_0000_noAttribute.wav, …_car_A2_spd_28V_mic_1_noise_1.wav
_LATER_NAME = re.compile(r".*_(noAttribute|noise_[^_]*)\.wav")


def machines_of_the_paper(test: pd.DataFrame) -> set[str]:
    """The machines whose test recordings are those of the development set; the name alone is not enough.

    They have its section, its file names, and `PER_KIND` recordings of each domain and label. None of them are if one
    has a name as in the development sets of 2024 and 2025.

    Args:
        test: one row per test recording: machine, section, domain, label, path.
    """
    own = test[test["machine"].isin(list(_TABLE_1))]
    if own["path"].map(lambda path: bool(_LATER_NAME.fullmatch(Path(path).name))).any():
        return set()
    kinds = {(domain, label) for domain in DOMAINS for label in LABELS}
    found = set()
    for machine, rows in test.groupby("machine"):
        counts = rows.groupby(["domain", "label"]).size().to_dict()
        named = rows["path"].map(lambda path: bool(_NAME.fullmatch(Path(path).name))).all()
        if str(machine) in _TABLE_1 and set(rows["section"]) == {"00"} and named:
            found |= {str(machine)} if counts == dict.fromkeys(kinds, PER_KIND) else set()
    return found
