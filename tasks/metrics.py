"""The names and values of the metrics that MLflow shows of an evaluation.

MLflow sorts its charts by name. So the names are such that the alphabet has what matters first: ``all/``,
``by_machine/``, ``reliability/``, ``side_by_side/``, ``training/``.
"""

import pandas as pd

from asdcore.evaluation.table import systems_of
from asdcore.monitoring.outcomes import FAULTY

OUTCOMES = "outcomes.parquet"
"""File of an evaluation: what its verdicts come to, see `asdcore.monitoring.outcomes`."""
DIGITS = 2
"""of percent: no test set measures more, and MLflow shows all that there are"""
ALL, BY_MACHINE, SIDE_BY_SIDE = "all", "by_machine", "side_by_side"


def headline_metrics(results: pd.DataFrame | None, counted: pd.DataFrame) -> dict[str, float]:
    """What a run is judged by at first sight, in percent: faults caught, false alarms and the official score.

    Args:
        results: see `asdcore.evaluation.table.results_table`; its first system gives the verdicts. None: there are no
            labelled test recordings.
        counted: see `asdcore.monitoring.outcomes.outcomes`.

    Returns:
        ``all/<metric>`` and ``by_machine/<machine>/<metric>``.
    """
    metrics = _rates(counted, ALL)
    of_machines = {str(machine): _rates(own, f"{BY_MACHINE}/{machine}") for machine, own in counted.groupby("machine")}
    if results is not None:
        first = systems_of(results)[0]
        for row in results.to_dict("records"):
            if row["machine"] == "All":
                metrics[f"{ALL}/{_plain(row['metric'])}"] = round(float(row[first]), DIGITS)
            else:
                name = f"{BY_MACHINE}/{row['machine']}/{_plain(row['metric'])}"
                of_machines.setdefault(row["machine"], {})[name] = round(float(row[first]), DIGITS)
    for own in of_machines.values():
        metrics |= own
    return metrics


def table_metrics(results: pd.DataFrame) -> dict[str, float]:
    """Every system of a results table, percent: ``side_by_side/<system>/harmonic_mean`` (by the rule of DCASE 2020:
    ``arithmetic_mean``), and by machine and metric.
    """
    systems = {system: _metrics_of(results, system) for system in systems_of(results)}
    mean = _plain(results.iloc[-1]["metric"])
    official = {f"{SIDE_BY_SIDE}/{system}/{mean}": metrics[mean] for system, metrics in systems.items()}
    every = {f"{SIDE_BY_SIDE}/{system}/{name}": value for system, own in systems.items() for name, value in own.items()}
    return official | every


def machine_table(results: pd.DataFrame | None, counted: pd.DataFrame) -> pd.DataFrame:
    """One row per machine: faulty test recordings and how many are caught, normal ones and how many are false alarms,
    and the first system's metrics in percent with two digits.
    """
    rows: dict[str, dict[str, object]] = {}
    for machine, own in counted.groupby("machine"):
        faulty = own["recordings_of"] == FAULTY
        rows[str(machine)] = {
            "faulty": int(own.loc[faulty, "n"].sum()),
            "caught": int(own.loc[faulty, ["anomalous", "suspect"]].to_numpy().sum()),
            "normal": int(own.loc[~faulty, "n"].sum()),
            "false_alarms": int(own.loc[~faulty, ["anomalous", "suspect"]].to_numpy().sum()),
        }
    if results is not None:
        first = systems_of(results)[0]
        for row in results.iloc[:-1].to_dict("records"):
            value = row[first]
            rows.setdefault(row["machine"], {})[_plain(row["metric"])] = (
                None if pd.isna(value) else round(value, DIGITS)
            )
    return pd.DataFrame([{"machine": machine, **values} for machine, values in rows.items()])


def scores_of_run(metrics: dict[str, float], system: str) -> dict[str, float]:
    """The official metrics of ``system`` among those of a run: ``harmonic_mean`` and ``<machine>/<metric>``."""
    prefix = f"{SIDE_BY_SIDE}/{system}/"
    return {name.removeprefix(prefix): value for name, value in sorted(metrics.items()) if name.startswith(prefix)}


def _rates(counted: pd.DataFrame, prefix: str) -> dict[str, float]:
    faulty = counted["recordings_of"] == FAULTY
    rates = {}
    for name, rows in (("caught", counted[faulty]), ("false_alarms", counted[~faulty])):
        if n := int(rows["n"].sum()):
            rates[f"{prefix}/{name}"] = round(100 * float(rows[["anomalous", "suspect"]].to_numpy().sum()) / n, DIGITS)
    return rates


def _metrics_of(results: pd.DataFrame, system: str) -> dict[str, float]:
    *machines, mean = results.to_dict("records")
    metrics = {f"{row['machine']}/{_plain(row['metric'])}": round(float(row[system]), DIGITS) for row in machines}
    return metrics | {_plain(mean["metric"]): round(float(mean[system]), DIGITS)}


def _plain(metric: str) -> str:
    """
    >>> _plain("AUC source")
    'auc_source'
    """
    return metric.lower().replace(" ", "_")
