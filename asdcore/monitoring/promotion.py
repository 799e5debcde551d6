"""The promotion gate: may a challenger replace the champion? Compares both on the same recordings."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from asdcore.evaluation.bootstrap import ALL, Bootstrap, paired_bootstrap
from asdcore.evaluation.challenges import DEFAULT_RULE
from asdcore.evaluation.metrics import machine_metrics, summary
from asdcore.monitoring.intervals import rate_interval
from asdcore.monitoring.learned import Learned
from asdcore.settings import GateSettings

SURE = 0.9
"""Fraction of the resamples that must agree."""


@dataclass(frozen=True)
class Compared:
    """Champion and challenger on one machine, or on all of them; ranking metrics in 0..1."""

    machine: str
    champion: float
    """mean of AUC source, AUC target and pAUC; of ``all``: the official score, their harmonic mean"""
    challenger: float
    low: float
    """80 % interval of challenger minus champion: one tenth of the resamples is below it"""
    high: float
    recordings: int


@dataclass(frozen=True)
class FalseAlarms:
    """False alarms on one machine's normal recordings that neither detector was fitted on."""

    machine: str
    champion: int
    challenger: int
    recordings: int
    low: float
    """lower end of the 95 % interval of the challenger's rate (Clopper and Pearson 1934)"""


@dataclass(frozen=True)
class Judgement:
    """The gate's judgement of a challenger; `to_json` is stored with its version."""

    promote: bool
    reasons: list[str]
    """sentences, the decisive ones first"""
    compared: list[Compared]
    false_alarms: list[FalseAlarms]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def judge(
    champion: pd.DataFrame,
    challenger: pd.DataFrame,
    settings: GateSettings,
    rates: Mapping[str, float],
    lost: Sequence[str] = (),
    learned: Mapping[str, Learned] | None = None,
    silent: Mapping[str, int] | None = None,
) -> Judgement:
    """Compare two detectors on the same recordings.

    The challenger is refused if it may be worse by more than ``settings.margin`` over all machines; if a machine is
    significantly worse by more than that; if it significantly exceeds the nominal false-alarm rate of a machine and has
    more false alarms than the champion; if the champion finds what it has newly learned strange, see `Learned`; if it
    lacks a machine; and if the recordings of a machine cannot be read, since nothing is known then.

    Args:
        champion: one row per recording: ``recording, machine, section, domain, label, score, decision``.
        challenger: the same recordings.
        settings: the margin.
        rates: machine: the false-alarm rate asked of the challenger.
        lost: machines that the champion knows and the challenger does not.
        learned: machine: what the champion thinks of its newly learned recordings. With few test recordings this
            reveals what their scores cannot.
        silent: machine: the number of recordings to compare by, none of which can be read.
    """
    difference = paired_bootstrap(_ranking(challenger), _ranking(champion))
    compared = [_compare(machine, champion, challenger, difference) for machine in _machines(champion)]
    overall = _compare(ALL, champion, challenger, difference)
    alarms = _false_alarms(champion, challenger)
    objections = [f"The challenger does not know {name}, which the champion does." for name in lost]
    objections += [
        f"{name}: none of the {n} recordings to compare by can be read: is the drive or the share mounted?"
        for name, n in (silent or {}).items()
    ]
    new = {name: own for name, own in (learned or {}).items() if own.recordings or own.unread}
    said = [own.objection(name, rates[name], len(new)) for name, own in new.items()]
    now = "If that is how the machine sounds now, `asd promote` makes the challenger champion."
    objections += [f"{objection} {now}" for objection in said if objection]
    for row in compared:
        if row.high < -settings.margin:
            objections.append(
                f"{row.machine} got worse: {_percent(row.champion)} by the champion, {_percent(row.challenger)} by the "
                f"challenger, of {row.recordings} recordings; {_sure(row)}."
            )
    if overall.low < -settings.margin:
        more = " More labelled recordings would reduce the uncertainty." if overall.high > 0 else ""
        objections.append(
            f"Over all machines the challenger may be worse by more than {100 * settings.margin:g} points: "
            f"{_percent(overall.champion)} by the champion, {_percent(overall.challenger)} by the challenger, of "
            f"{overall.recordings} recordings; {_sure(overall)}.{more}"
        )
    for alarm in alarms:
        if alarm.low > rates[alarm.machine] and alarm.challenger > alarm.champion:
            objections.append(
                f"{alarm.machine}: {alarm.challenger} of {alarm.recordings} normal recordings called anomalous, "
                f"{alarm.champion} by the champion; {100 * rates[alarm.machine]:g} % are allowed."
            )
    passed = (
        f"Over all machines {_percent(overall.challenger)}, {_percent(overall.champion)} by the champion, of "
        f"{overall.recordings} recordings; {_sure(overall)}. No machine got clearly worse."
    )
    return Judgement(not objections, objections or [passed], [overall, *compared], alarms)


def _machines(scores: pd.DataFrame) -> list[str]:
    return sorted(set(scores["machine"]))


def _ranking(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.drop(columns="decision")


def _compare(machine: str, champion: pd.DataFrame, challenger: pd.DataFrame, difference: Bootstrap) -> Compared:
    tables = [champion, challenger] if machine == ALL else [t[t["machine"] == machine] for t in (champion, challenger)]
    old, new = (_metric(table, machine) for table in tables)
    if machine == ALL:
        samples = difference.official_score
    else:
        names = difference.samples.columns
        columns = (names.get_level_values(0) == machine) & names.get_level_values(2).isin(DEFAULT_RULE.metrics)
        samples = difference.samples.loc[:, columns].mean(axis=1).to_numpy()
    low, high = np.nanquantile(samples, [1 - SURE, SURE])
    return Compared(machine, old, new, float(low), float(high), len(tables[0]))


def _metric(scores: pd.DataFrame, machine: str) -> float:
    metrics = machine_metrics(_ranking(scores))
    if machine == ALL:
        return summary(metrics)["official_score"]
    return float(np.nanmean(metrics[list(DEFAULT_RULE.metrics)].to_numpy(dtype=np.float64)))


def _false_alarms(champion: pd.DataFrame, challenger: pd.DataFrame) -> list[FalseAlarms]:
    counted = []
    for machine in _machines(champion):
        calls = []
        for table in (champion, challenger):
            normal = table[(table["machine"] == machine) & (table["label"] == "normal")]
            calls.append(int((normal["decision"] == 1).sum()))
        n = len(normal)
        counted.append(FalseAlarms(machine, calls[0], calls[1], n, rate_interval(calls[1], n)[0]))
    return counted


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _sure(compared: Compared) -> str:
    return (
        f"the difference is {100 * compared.low:+.1f} to {100 * compared.high:+.1f} (80 % interval, paired bootstrap)"
    )
