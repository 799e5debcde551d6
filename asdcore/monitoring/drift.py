"""Drift monitoring: does the detector of a machine still fit it? Computed per scoring run, without labels."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kstest, kstwobign

from asdcore.heard import Heard
from asdcore.monitoring.intervals import rate_interval
from asdcore.normality.machine import NORMAL, MachineModel
from asdcore.recordings.formats import NOT_COMPARED

ENOUGH = 10
"""Minimum number of recordings of a machine for a statement about it; with fewer, only the counts are reported."""
RARE = 0.001
"""p-value below which a test is reported: of 100 machines tested daily, about one false report per fortnight"""
SHIFTED = 0.5
"""distance of the mean of the recordings from that of the training, in typical distances of one normal recording"""
NOT_SCORED_FRACTION = 0.05
"""fraction of recordings that could not be scored"""
LEVEL_MOVED = 6.0
"""dB between the median levels of two scoring runs"""


@dataclass(frozen=True)
class DriftReport:
    """One machine in one scoring run. ``sentences``: one per limit that was exceeded."""

    machine: str
    recordings: int
    not_scored: int
    alarms: int
    asked: float
    """false-alarm rate"""
    alarms_low: float
    """lower end of the 95 % interval of the fraction of alarms (Clopper and Pearson 1934)"""
    uniform: float | None
    """p-value of the hypothesis that the recordings not called anomalous have uniform p-values (Kolmogorov-Smirnov)"""
    shift: dict[str, float]
    """scorer: distance of their mean from that of the training, in typical distances of one normal recording"""
    target_fraction: float | None
    """among the recordings whose names contain the domain"""
    level_dbfs: float | None
    """median RMS, dB of full scale"""
    clipped: float | None
    """mean fraction of samples at full scale"""
    seconds: float | None
    """median length"""
    sample_rates: list[int] = field(default_factory=list)
    """Hz, of the files"""
    sentences: list[str] = field(default_factory=list)

    @property
    def drifted(self) -> bool:
        """Whether any limit was exceeded."""
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
    """The drift report of one machine.

    Args:
        heard: its recordings in this run.
        machine: its fitted model.
        false_alarm_rate: the nominal rate.
        training: its normal training recordings: ``seconds, sample_rate, domain``, as in the table of recordings; may
            be empty.
        before: report of the previous run, with which the level is compared.
    """
    scored = [recording for recording in heard if recording.measured is not None]
    alarms = sum(recording.verdict["decision"] == 1 for recording in scored)
    presumed = [recording for recording in scored if recording.verdict["verdict"] == NORMAL]
    low, _ = rate_interval(alarms, len(scored))
    measured = [recording.measured for recording in scored if recording.measured is not None]
    domains = [domain for recording in heard if (domain := _domain(recording)) is not None]
    result = DriftReport(
        machine=heard[0].machine,
        recordings=len(heard),
        not_scored=len(heard) - len(scored),
        alarms=alarms,
        asked=false_alarm_rate,
        alarms_low=low,
        uniform=_uniform([recording.verdict["p_value"] for recording in presumed], false_alarm_rate, machine),
        shift=_shift(presumed, machine) if len(presumed) >= ENOUGH else {},
        target_fraction=domains.count("target") / len(domains) if domains else None,
        level_dbfs=float(np.median([recording.level_dbfs for recording in measured])) if measured else None,
        clipped=float(np.mean([recording.clipped for recording in measured])) if measured else None,
        seconds=float(np.median([recording.seconds for recording in measured])) if measured else None,
        sample_rates=sorted({recording.sample_rate for recording in measured}),
    )
    others = sum(recording.reason.startswith(NOT_COMPARED) for recording in heard)
    return replace(result, sentences=_sentences(result, presumed, others, training, before))


def _uniform(p_values: list[float], rate: float, machine: MachineModel) -> float | None:
    m, n = len(p_values), len(machine.calibration.distances_)
    if m < ENOUGH:
        return None
    statistic = kstest((np.asarray(p_values) - rate) / (1 - rate), "uniform").statistic
    # A p-value is a rank among n training recordings, which are a sample too: hence the two-sample statistic.
    return float(kstwobign.sf(statistic * np.sqrt(n * m / (n + m))))


def _shift(presumed: Sequence[Heard], machine: MachineModel) -> dict[str, float]:
    shifts = {}
    for scorer in machine.scorers:
        vectors = [recording.vectors[scorer] for recording in presumed if recording.vectors is not None]
        mean: NDArray[np.floating] = np.concatenate(vectors).mean(axis=0, keepdims=True)
        distances = machine.calibrations[scorer].distances_
        typical = float(np.median(distances[np.isfinite(distances)]))
        shifts[scorer] = float(np.sqrt(machine.models[scorer].distance(mean)[0] / typical))
    return shifts


def _sentences(
    report: DriftReport, presumed: Sequence[Heard], others: int, training: pd.DataFrame, before: "DriftReport | None"
) -> list[str]:
    """``others``: recordings that were not scored because they have another codec or band than the training."""
    scored = report.recordings - report.not_scored
    sentences = []
    if (unusable := report.not_scored - others) > NOT_SCORED_FRACTION * report.recordings:
        sentences.append(f"{unusable} of {report.recordings} recordings could not be scored: check the microphone.")
    if others > NOT_SCORED_FRACTION * report.recordings:
        sentences.append(
            f"{others} of {report.recordings} recordings were not judged, since their codec or sample rate is not that "
            "of the training: check the settings of the recorder."
        )
    if report.alarms_low > report.asked:
        sentences.append(
            f"{report.alarms} of {scored} recordings are anomalous; {100 * report.asked:g} % are expected of a normal "
            "machine: it has a fault, or its normal sound has changed."
        )
    if report.uniform is not None and report.uniform < RARE:
        sentences.append(
            f"The p-values of the {len(presumed)} recordings not called anomalous are not uniform, as those of normal "
            f"recordings would be (p = {report.uniform:.1g}): the sound drifts."
        )
    # The mean of few recordings deviates this far by chance.
    limit = (
        max(SHIFTED, 3 * np.sqrt(1 / max(len(presumed), 1) + 1 / max(len(training), 1))) if len(training) else SHIFTED
    )
    for scorer, distance in report.shift.items():
        if distance > limit:
            sentences.append(
                f"The mean {scorer} differs from that of the training recordings by {distance:.1f} times the usual "
                f"difference of one normal recording (limit {limit:.1f}): the sound has changed."
            )
    if len(training):
        strange = sorted(set(report.sample_rates) - set(training["sample_rate"].dropna().astype(int)))
        if strange:
            sentences.append(f"Files of {', '.join(map(str, strange))} Hz: no training recording has that sample rate.")
        low, high = training["seconds"].min(), training["seconds"].max()
        if report.seconds is not None and not low / 2 <= report.seconds <= 2 * high:
            sentences.append(
                f"Recordings of {report.seconds:.1f} s: the training recordings have {low:.1f} to {high:.1f} s."
            )
    if report.level_dbfs is not None and before is not None and before.level_dbfs is not None:
        moved = report.level_dbfs - before.level_dbfs
        if abs(moved) > LEVEL_MOVED:
            sentences.append(f"The level has changed by {moved:+.0f} dB since the last run: check the microphone.")
    return sentences


def _domain(recording: Heard) -> str | None:
    return next((domain for domain in ("source", "target") if f"_{domain}_" in recording.path.name), None)
