"""Many systems on many machines: ranks, and which differences are more than chance.

A block is a machine (and section) of a dataset. Systems are ranked in each block by the official score of that machine,
by default the harmonic mean of both AUCs and pAUC, averaged over the seeds (J. Demsar, Statistical Comparisons of
Classifiers over Multiple Data Sets, JMLR 7, 2006). The first system is compared with each of the others: an interval
from resampling machines and their recordings, and Wilcoxon's signed-rank test over the machines with Holm's correction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from asdcore.arrays import Floats
from asdcore.errors import AsdError
from asdcore.evaluation.bootstrap import ALL, paired_bootstrap
from asdcore.evaluation.challenges import DEFAULT_RULE, Rule
from asdcore.evaluation.metrics import machine_metrics, mean_of_rule
from asdcore.evaluation.threshold_quality import threshold_quality

BLOCK = ["dataset", "machine", "section"]
RESAMPLES = 1000


@dataclass(frozen=True)
class Ranking:
    """Systems by average rank."""

    ranks: pd.DataFrame
    """blocks x systems: 1 is the best; the best system first"""
    critical_difference: float
    """of average ranks, Nemenyi at 5 %; NaN with fewer than two systems or blocks"""
    p_value: float
    """p-value of Friedman's test that all systems are alike; NaN with fewer than three systems or blocks"""

    @property
    def average(self) -> "pd.Series[float]":
        """System: its average rank."""
        return self.ranks.mean()

    def alike(self) -> list[tuple[str, str]]:
        """The best and the worst of each group of systems whose average ranks differ by less than the critical
        difference; groups within another are left out."""
        average = self.average
        names = [str(name) for name in average.index]
        ends = [max(j for j, other in enumerate(average) if other - own <= self.critical_difference) for own in average]
        groups = [(i, end) for i, end in enumerate(ends) if end > i and (i == 0 or ends[i - 1] < end)]
        return [(names[start], names[end]) for start, end in groups]


def quality(scores: pd.DataFrame, rule: Rule = DEFAULT_RULE) -> pd.DataFrame:
    """How good each system is on each machine.

    Args:
        scores: one row per test recording, system, seed and dataset: ``dataset, seed, system, recording`` and the
            columns that `machine_metrics` reads; ``verdict``, if known, for the quality of the threshold.
        rule: of a year of the challenge.

    Returns:
        One row per dataset, machine, section, system and seed: the metrics of `machine_metrics`, official (their mean
        by the rule; NaN values are left out), and the columns of `threshold_quality`.
    """
    tables = []
    for (dataset, seed, system), rows in scores.groupby(["dataset", "seed", "system"], sort=False):
        metrics = machine_metrics(rows.drop(columns="decision", errors="ignore"), rule)
        metrics["official"] = mean_of_rule(metrics[list(rule.metrics)].to_numpy(), rule)
        metrics = metrics.merge(threshold_quality(rows), on=["machine", "section"])
        metrics["dataset"], metrics["system"], metrics["seed"] = str(dataset), str(system), int(str(seed))
        tables.append(metrics)
    table = pd.concat(tables, ignore_index=True)
    return table[
        [*BLOCK, "system", "seed", *(name for name in table.columns if name not in (*BLOCK, "system", "seed"))]
    ]


def ranking(table: pd.DataFrame) -> Ranking:
    """Rank systems in every block.

    Args:
        table: by `quality`.

    Raises:
        AsdError: a system lacks a machine that another one has.
    """
    values = table.pivot_table(index=BLOCK, columns="system", values="official", aggfunc="mean", sort=False)
    for row, column in np.argwhere(values.isna().to_numpy())[:1]:
        block = "/".join(map(str, values.index[row]))
        raise AsdError(f"system {values.columns[column]} has no score of {block}: every system needs every machine")
    ranks = values.rank(axis=1, ascending=False)
    ranks = ranks[ranks.mean().sort_values(kind="stable").index]
    blocks, systems = ranks.shape
    friedman = float("nan")
    if systems > 2 and blocks > 2:
        friedman = float(stats.friedmanchisquare(*(values[name] for name in values)).pvalue)
    return Ranking(ranks, critical_difference(systems, blocks), friedman)


def critical_difference(systems: int, blocks: int) -> float:
    """The difference of average ranks that is more than chance, by Nemenyi's test at 5 % (Demsar 2006, equation 2).

    >>> round(critical_difference(4, 14), 2)  # Demsar's example has 1.25: 2.569 * sqrt(4 * 5 / (6 * 14))
    1.25
    """
    if systems < 2 or blocks < 2:
        return float("nan")
    quantile = float(stats.studentized_range.ppf(0.95, systems, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(systems * (systems + 1) / (6 * blocks)))


def comparisons(scores: pd.DataFrame, table: pd.DataFrame, first: str, rule: Rule = DEFAULT_RULE) -> pd.DataFrame:
    """The mean official score of every system minus that of ``first``, over machines and seeds.

    Args:
        scores: as for `quality`.
        table: by `quality`.
        first: the system that the others are compared with.
        rule: that ``table`` was made with.

    Returns:
        One row per other system: system, difference, low, high (0 to 1; the 95 % interval: `RESAMPLES` times machines
        are drawn with replacement, and of each its recordings); wins: on how many machines it is better; p_value:
        Wilcoxon's test over the machines; p_holm: corrected for the number of comparisons.
    """
    values = table.pivot_table(index=BLOCK, columns="system", values="official", aggfunc="mean", sort=False)
    rows = []
    for system in values:
        if system == first:
            continue
        difference = values[system] - values[first]
        drawn = _drawn(scores, str(system), first, rule)
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        rows.append(
            {
                "system": str(system),
                "difference": float(difference.mean()),
                "low": float(low),
                "high": float(high),
                "wins": int((difference > 0).sum()),
                "machines": len(difference),
                "p_value": _wilcoxon(difference.to_numpy()),
            }
        )
    compared = pd.DataFrame(rows)
    return compared.assign(p_holm=holm(compared["p_value"].to_numpy())) if rows else compared


def twins(scores: pd.DataFrame) -> dict[str, str]:
    """System: an earlier one with identical scores, because both have fallen back to the same thing."""
    keys = [*BLOCK, "seed", "recording"]
    of_systems = {str(name): rows.set_index(keys)["score"].sort_index() for name, rows in scores.groupby("system")}
    names = [str(name) for name in scores["system"].unique()]
    found: dict[str, str] = {}
    for index, name in enumerate(names):
        own = of_systems[name]
        alike = (
            other
            for other in names[:index]
            if own.index.equals(of_systems[other].index) and np.allclose(own, of_systems[other], rtol=1e-9, atol=0)
        )
        if (twin := next(alike, None)) is not None:
            found[name] = twin
    return found


def holm(p_values: Floats) -> Floats:
    """P-values corrected for their number (S. Holm 1979), (n,) each; NaN stays NaN and is not counted.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    corrected = np.full(len(p_values), np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    raised = p_values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(raised), 1.0) if len(order) else raised
    return corrected


def by_group(scores: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """AUC of each system by a property of the anomalous recordings, against all normal ones of their machine.

    Args:
        scores: as for `quality`.
        groups: recording: what it is of, such as ``domain: target`` or ``fault: rub``; anomalous ones count.

    Returns:
        One row per dataset, machine, group and system: anomalies (how many), auc (mean over the seeds).
    """
    rows = []
    keys = ["dataset", "machine", "system", "seed"]
    for key, own in scores.groupby(keys, sort=False):
        normal = np.sort(own.loc[own["label"] == "normal", "score"].to_numpy(dtype=float))
        anomalies = own[own["label"] == "anomaly"]
        of = anomalies.assign(group=anomalies["recording"].map(lambda recording: list(groups.get(recording, ()))))
        for group, strange in of.explode("group").dropna(subset="group").groupby("group", sort=True):
            values = strange["score"].to_numpy(dtype=float)
            below = (np.searchsorted(normal, values, "left") + np.searchsorted(normal, values, "right")) / 2
            auc = float(below.mean() / len(normal)) if len(normal) else float("nan")
            rows.append(dict(zip(keys, key, strict=True)) | {"group": group, "anomalies": len(strange), "auc": auc})
    columns = ["dataset", "machine", "group", "system", "anomalies", "auc"]
    if not rows:
        return pd.DataFrame(columns=columns)
    return pd.DataFrame(rows).groupby(columns[:4], sort=False)[["anomalies", "auc"]].mean().reset_index()


def _drawn(scores: pd.DataFrame, system: str, first: str, rule: Rule) -> Floats:
    """The mean difference in each resample, (RESAMPLES,)."""
    of_blocks: dict[tuple[object, ...], list[Floats]] = {}
    known = scores[scores["system"].isin([system, first])]
    for block, (key, rows) in enumerate(known.groupby([*BLOCK, "seed"], sort=True)):
        a, b = (rows[rows["system"] == name].drop(columns="decision", errors="ignore") for name in (system, first))
        samples = paired_bootstrap(a, b, RESAMPLES, block, rule).samples[ALL, ALL, "official_score"]
        of_blocks.setdefault(key[:-1], []).append(samples.to_numpy(dtype=float))
    means = np.stack([np.mean(seeds, axis=0) for seeds in of_blocks.values()])
    picks = np.random.default_rng(0).integers(len(means), size=means.shape)
    drawn: Floats = np.nanmean(np.take_along_axis(means, picks, axis=0), axis=0)
    return drawn


def _wilcoxon(difference: Floats) -> float:
    if len(difference) < 2 or not np.any(difference):
        return float("nan")
    return float(stats.wilcoxon(difference).pvalue)
