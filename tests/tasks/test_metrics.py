"""The names of metrics in MLflow."""

import pandas as pd

from asdcore.monitoring.outcomes import COLUMNS, FAULTY, UNKNOWN
from tasks.metrics import headline_metrics, machine_table, scores_of_run, table_metrics

RESULTS = pd.DataFrame(
    [("fan", "AUC source", 90.123, 80.0), ("fan", "pAUC", float("nan"), 60.0), ("All", "harmonic mean", 85.0, 70.0)],
    columns=["machine", "metric", "detector", "spectrum"],
)
COUNTED = pd.DataFrame(
    [
        ("fan", FAULTY, 3, 1, 1, 0, 1, 0, 0.9),
        ("fan", UNKNOWN, 4, 0, 1, 0, 1, 0, 0.9),
        ("pump", FAULTY, 1, 1, 0, 0, 1, 0, 1),
    ],
    columns=COLUMNS,
)


def test_what_matters_first_has_the_first_name_and_no_name_has_a_space() -> None:
    metrics = headline_metrics(RESULTS, COUNTED) | table_metrics(RESULTS)
    assert list(metrics)[:3] == ["all/caught", "all/false_alarms", "all/harmonic_mean"]
    assert (metrics["all/caught"], metrics["all/false_alarms"], metrics["all/harmonic_mean"]) == (75, 25, 85)
    assert metrics["by_machine/fan/caught"] == 66.67 and metrics["by_machine/fan/auc_source"] == 90.12
    assert metrics["side_by_side/spectrum/harmonic_mean"] == 70
    assert not [name for name in metrics if " " in name]
    assert headline_metrics(None, COUNTED.head(0)) == {}


def test_the_table_has_one_row_per_machine() -> None:
    table = machine_table(RESULTS, COUNTED)
    assert table["machine"].tolist() == ["fan", "pump"]
    assert table.loc[0, ["faulty", "caught", "normal", "false_alarms"]].tolist() == [3, 2, 4, 1]
    assert table.loc[0, "auc_source"] == 90.12


def test_the_scores_of_a_run_are_those_of_one_system() -> None:
    scores = scores_of_run(headline_metrics(RESULTS, COUNTED) | table_metrics(RESULTS), "spectrum")
    assert scores == {"harmonic_mean": 70.0, "fan/auc_source": 80.0, "fan/pauc": 60.0}
