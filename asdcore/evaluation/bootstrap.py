"""Uncertainty of the metrics of `asdcore.evaluation.metrics` due to the test recordings: a stratified bootstrap.

Strata are machine x section x domain x label: a resample draws, with replacement, as many recordings from each as
there are, so every resample has the composition of the test set. A harmonic mean of noisier metrics is lower, so the
samples of the official score are centred slightly below its estimate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdcore.arrays import Floats
from asdcore.errors import AsdError
from asdcore.evaluation.challenges import DEFAULT_RULE, Rule
from asdcore.evaluation.metrics import (
    MachineScores,
    Metrics,
    each_machine,
    has_decisions,
    require_columns,
    summarise,
)

ALL = "all"
"""Machine and section in the rows of the means over all of them (`summary`)."""

KEY = ["machine", "section", "metric"]

_WEIGHTS_AT_ONCE = 100_000
"""Resamples x recordings in memory at a time: few enough for a processor's cache, and to bound the memory."""


@dataclass(frozen=True)
class Bootstrap:
    """Metrics and their distribution over resamples, for one system or for the difference of two."""

    estimate: "pd.Series[float]"
    """The metrics of the recordings as they are; index ``machine, section, metric``, means over all under "all"."""
    samples: pd.DataFrame
    """(resamples, n metrics); the columns are the index of ``estimate``."""

    @property
    def official_score(self) -> Floats:
        """The official score of each resample, (resamples,)."""
        return self.samples[(ALL, ALL, "official_score")].to_numpy(dtype=np.float64)

    def intervals(self, level: float = 0.95) -> pd.DataFrame:
        """Percentile intervals: one row per metric, ``machine, section, metric, estimate, low, high``.

        Args:
            level: the fraction of resamples between ``low`` and ``high``, half of the rest on each side. Undefined
                metrics have NaN.

        Raises:
            AsdError: ``level`` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise AsdError(f"level is {level}: a fraction between 0 and 1 is needed, for instance 0.95.")
        low, high = np.quantile(self.samples.to_numpy(), [(1 - level) / 2, (1 + level) / 2], axis=0)
        return self.estimate.to_frame("estimate").assign(low=low, high=high).reset_index()


def bootstrap(scores: pd.DataFrame, resamples: int = 2000, seed: int = 0, rule: Rule = DEFAULT_RULE) -> Bootstrap:
    """The distribution of each metric and of the official score over resampled test recordings.

    Args:
        scores: the table that `machine_metrics` reads; with a column ``recording`` its row order does not matter.
        resamples: how many; the ends of a 95 % interval rest on 50 of 2000 each.
        seed: the same seed and table give the same numbers.
        rule: of a year of the challenge, see `machine_metrics`.

    Raises:
        AsdError: as `machine_metrics`; or ``resamples`` is below 1.

    >>> import pandas as pd
    >>> scores = pd.DataFrame({"machine": "fan", "section": "00", "domain": "source",
    ...                        "label": ["normal", "anomaly"] * 4, "score": [0.1, 0.7, 0.4, 0.9, 0.2, 0.3, 0.8, 0.6]})
    >>> spread = bootstrap(scores, resamples=100).intervals()
    >>> spread[spread.metric == "auc_source"].estimate.item()
    0.75

    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentile interval).
    """
    return _bootstraps([_sorted(scores)], resamples, seed, rule)[0]


def paired_bootstrap(
    a: pd.DataFrame, b: pd.DataFrame, resamples: int = 2000, seed: int = 0, rule: Rule = DEFAULT_RULE
) -> Bootstrap:
    """The distribution of every metric of ``a`` minus that of ``b``: two systems on the same test recordings.

    Both are measured on the same resamples, so what makes a resample easy or hard for both cancels, and the interval
    of a difference is narrower than two intervals suggest. Above 0: ``a`` is better.

    Args:
        a: a table as for `bootstrap`, with a column ``recording`` that names each recording once in its machine and
            section; rows in any order. Decision metrics are there where both tables have decisions.
        b: the same of the other system.
        resamples: as for `bootstrap`.
        seed: as for `bootstrap`.
        rule: as for `bootstrap`.

    Raises:
        AsdError: as `bootstrap`; or the tables do not hold the same recordings, or disagree about a domain or label.
    """
    tables = [_sorted(a), _sorted(b)]
    _check_pairs(*tables)
    if not all(has_decisions(table) for table in tables):
        tables = [table.drop(columns="decision", errors="ignore") for table in tables]
    of_a, of_b = _bootstraps(tables, resamples, seed, rule)
    return Bootstrap(of_a.estimate - of_b.estimate, of_a.samples - of_b.samples)


def _bootstraps(tables: Sequence[pd.DataFrame], resamples: int, seed: int, rule: Rule) -> list[Bootstrap]:
    """One Bootstrap per table; the tables have the same recordings in the same order, and use the same resamples."""
    if resamples < 1:
        raise AsdError(f"resamples is {resamples}: at least 1 is needed; 2000 are usual.")
    rng = np.random.default_rng(seed)
    systems = [list(each_machine(table, rule)) for table in tables]
    if not systems[0]:
        raise AsdError("the table of scores has no rows: score some test recordings first.")
    keys = [(machine, section) for machine, section, _ in systems[0]]
    plain: list[list[Metrics]] = [[] for _ in systems]
    drawn: list[list[Metrics]] = [[] for _ in systems]
    for of_machine in zip(*systems, strict=True):
        views = [view for _, _, view in of_machine]
        for system, metrics in enumerate(_resampled(views, resamples, rng)):
            drawn[system].append(metrics)
            plain[system].append(views[system].metrics(views[system].every_recording_once()))
    return [
        Bootstrap(_table(keys, of_plain, rule).iloc[0], _table(keys, of_drawn, rule))
        for of_plain, of_drawn in zip(plain, drawn, strict=True)
    ]


def _resampled(views: Sequence[MachineScores], resamples: int, rng: np.random.Generator) -> list[Metrics]:
    """The metrics of one machine and section for each system (``views``), (resamples,) each."""
    strata = 2 * views[0].target + views[0].anomaly
    step = max(1, _WEIGHTS_AT_ONCE // len(strata))
    parts: list[list[Metrics]] = [[] for _ in views]
    for first in range(0, resamples, step):
        weights = _draw(strata, min(step, resamples - first), rng)
        for part, view in zip(parts, views, strict=True):
            part.append(view.metrics(weights))
    return [{name: np.concatenate([metrics[name] for metrics in part]) for name in part[0]} for part in parts]


def _draw(strata: NDArray[Any], resamples: int, rng: np.random.Generator) -> Floats:
    """How often each recording is drawn: (resamples, n), each stratum drawn with replacement to its own size."""
    weights = np.empty((resamples, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        size = len(members)
        picks = rng.integers(size, size=(resamples, size)) + size * np.arange(resamples)[:, None]
        weights[:, members] = np.bincount(picks.ravel(), minlength=resamples * size).reshape(resamples, size)
    return weights


def _table(keys: Sequence[tuple[str, str]], of_machines: Sequence[Metrics], rule: Rule) -> pd.DataFrame:
    """Metrics of all machines, and their means, as columns ``machine, section, metric``."""
    names = list(of_machines[0])
    columns = {(*key, name): metrics[name] for key, metrics in zip(keys, of_machines, strict=True) for name in names}
    stacked = {name: np.stack([metrics[name] for metrics in of_machines], axis=-1) for name in names}
    means = summarise(stacked, [machine for machine, _ in keys], rule)
    columns |= {(ALL, ALL, name): values for name, values in means.items()}
    table = pd.DataFrame(columns)
    table.columns = pd.MultiIndex.from_tuples(list(columns), names=KEY)
    return table


def _sorted(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows in a canonical order, so that the resamples do not depend on the order in the table."""
    keys = [name for name in ("machine", "section", "recording") if name in scores.columns]
    return scores.sort_values(keys, kind="stable", ignore_index=True) if keys else scores


def _check_pairs(a: pd.DataFrame, b: pd.DataFrame) -> None:
    key = ["machine", "section", "recording"]
    for name, table in (("first", a), ("second", b)):
        require_columns(table, (*key, "domain", "label"))
        twice = table.duplicated(key)
        if twice.any():
            who = "/".join(map(str, table.loc[twice, key].iloc[0]))
            raise AsdError(f"{who} occurs twice in the {name} table: keep one row of each recording.")
    left, right = (table[[*key, "domain", "label"]].astype(str) for table in (a, b))
    both = left.merge(right, on=key, how="outer", indicator=True)
    for side, name in (("left_only", "first"), ("right_only", "second")):
        lone = both.loc[both["_merge"] == side, key]
        if len(lone):
            who = "/".join(map(str, lone.iloc[0]))
            raise AsdError(
                f"recordings in the {name} table only: {len(lone)}, {who} first. Score the same ones with both."
            )
    for column in ("domain", "label"):
        differs = both[f"{column}_x"] != both[f"{column}_y"]
        if differs.any():
            who = "/".join(map(str, both.loc[differs, key].iloc[0]))
            raise AsdError(f"the tables disagree about the {column} of {who}: use the same ground truth for both.")
