"""Is a machine's detector still right about it? Asked of the recordings of a scoring run, without labels."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kstest, kstwobign

from asdcore.detector import Heard
from asdcore.monitoring.intervals import rate_interval
from asdcore.normality.machine import NORMAL, MachineModel

ENOUGH = 10
"""Recordings of a machine that a sentence about it needs; of fewer, only the counts are given."""
RARE = 0.001
"""p-value of a test below which its sentence is said: of a hundred machines, one a fortnight if asked every day"""
SHIFTED = 0.5
"""distance of the recordings' mean from the training's, in typical distances of one normal recording"""
BAD_SHARE = 0.05
"""of recordings that could not be scored"""
LEVEL_MOVED = 6.0
"""dB between the median levels of two scoring runs"""


@dataclass(frozen=True)
class DriftReport:
    """One machine in one scoring run. ``sentences``: what crossed a limit, empty if nothing did."""

    machine: str
    recordings: int
    not_scored: int
    alarms: int
    asked: float
    """false-alarm rate"""
    alarms_low: float
    """lower end of the 95 % interval of the share of alarms (Clopper and Pearson 1934)"""
    uniform: float | None
    """p-value that those not called anomalous have uniform p-values (Kolmogorov and Smirnov)"""
    shift: dict[str, float]
    """scorer: distance of their mean from the training's mean, in typical distances of one normal recording"""
    target_fraction: float | None
    """of the recordings whose names tell the domain"""
    level_dbfs: float | None
    """median RMS, dB of full scale"""
    clipped: float | None
    """mean share of samples at full scale"""
    seconds: float | None
    """median length"""
    sample_rates: list[int] = field(default_factory=list)
    """Hz, of the files"""
    sentences: list[str] = field(default_factory=list)

    @property
    def drifted(self) -> bool:
        """Whether any limit was crossed."""
        return bool(self.sentences)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def drift_report(
    heard: Sequence[Heard],
    machine: MachineModel,
    false_alarm_rate: float,
    training: pd.DataFrame,
    before: "DriftReport | None" = None,
) -> DriftReport:
    """The health of one machine's detector.

    Args:
        heard: its recordings in this run.
        machine: what is normal for it.
        false_alarm_rate: what was promised.
        training: its normal training recordings: ``seconds, sample_rate, domain``, as in the table of recordings; may
            be empty.
        before: of the run before this one: the level is compared with it.
    """
    scored = [one for one in heard if one.measured is not None]
    alarms = sum(one.verdict["decision"] == 1 for one in scored)
    presumed = [one for one in scored if one.verdict["verdict"] == NORMAL]
    low, _ = rate_interval(alarms, len(scored))
    measured = [one.measured for one in scored if one.measured is not None]
    domains = [domain for one in heard if (domain := _domain(one)) is not None]
    result = DriftReport(
        machine=heard[0].machine,
        recordings=len(heard),
        not_scored=len(heard) - len(scored),
        alarms=alarms,
        asked=false_alarm_rate,
        alarms_low=low,
        uniform=_uniform([one.verdict["p_value"] for one in presumed], false_alarm_rate, machine),
        shift=_shift(presumed, machine) if len(presumed) >= ENOUGH else {},
        target_fraction=domains.count("target") / len(domains) if domains else None,
        level_dbfs=float(np.median([one.level_dbfs for one in measured])) if measured else None,
        clipped=float(np.mean([one.clipped for one in measured])) if measured else None,
        seconds=float(np.median([one.seconds for one in measured])) if measured else None,
        sample_rates=sorted({one.sample_rate for one in measured}),
    )
    return DriftReport(**{**result.to_json(), "sentences": _sentences(result, presumed, training, before)})


def _uniform(p_values: list[float], rate: float, machine: MachineModel) -> float | None:
    m, n = len(p_values), len(machine.calibration.distances_)
    if m < ENOUGH:
        return None
    statistic = kstest((np.asarray(p_values) - rate) / (1 - rate), "uniform").statistic
    # A p-value is a rank among n training recordings: as in the test of two samples, theirs is a matter of chance, too.
    return float(kstwobign.sf(statistic * np.sqrt(n * m / (n + m))))


def _shift(presumed: Sequence[Heard], machine: MachineModel) -> dict[str, float]:
    shifts = {}
    for scorer in machine.scorers:
        rows = [one.vectors[scorer] for one in presumed if one.vectors is not None]
        mean: NDArray[np.floating] = np.concatenate(rows).mean(axis=0, keepdims=True)
        own = machine.calibrations[scorer].distances_
        typical = float(np.median(own[np.isfinite(own)]))
        shifts[scorer] = float(np.sqrt(machine.models[scorer].distance(mean)[0] / typical))
    return shifts


def _sentences(
    one: DriftReport, presumed: Sequence[Heard], training: pd.DataFrame, before: "DriftReport | None"
) -> list[str]:
    scored = one.recordings - one.not_scored
    said = []
    if one.not_scored > BAD_SHARE * one.recordings:
        said.append(f"{one.not_scored} of {one.recordings} recordings could not be scored: look at the microphone.")
    if one.alarms_low > one.asked:
        said.append(
            f"{one.alarms} of {scored} recordings are anomalous where {100 * one.asked:g} % are expected of a normal "
            "machine: it has a fault, or its normal sound has changed."
        )
    if one.uniform is not None and one.uniform < RARE:
        said.append(
            f"The {len(presumed)} recordings not called anomalous have other p-values than normal ones would (uniform: "
            f"p = {one.uniform:.1g}): its sound drifts."
        )
    # So far does the mean of a handful of recordings stray by chance.
    limit = (
        max(SHIFTED, 3 * np.sqrt(1 / max(len(presumed), 1) + 1 / max(len(training), 1))) if len(training) else SHIFTED
    )
    for scorer, distance in one.shift.items():
        if distance > limit:
            said.append(
                f"The mean {scorer} lies {distance:.1f} times as far from that of the training as a normal recording "
                f"does (limit {limit:.1f}): its sound has moved."
            )
    if len(training):
        strange = sorted(set(one.sample_rates) - set(training["sample_rate"].dropna().astype(int)))
        if strange:
            said.append(f"Files of {', '.join(map(str, strange))} Hz: the training knows none of that rate.")
        low, high = training["seconds"].min(), training["seconds"].max()
        if one.seconds is not None and not low / 2 <= one.seconds <= 2 * high:
            said.append(f"Recordings of {one.seconds:.1f} s: those of the training have {low:.1f} to {high:.1f} s.")
    if one.level_dbfs is not None and before is not None and before.level_dbfs is not None:
        moved = one.level_dbfs - before.level_dbfs
        if abs(moved) > LEVEL_MOVED:
            said.append(f"The level moved by {moved:+.0f} dB since the last run: look at the microphone.")
    return said


def _domain(one: Heard) -> str | None:
    return next((domain for domain in ("source", "target") if f"_{domain}_" in one.path.name), None)
