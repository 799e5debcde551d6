"""The metrics of DCASE Challenge Task 2 of a table of scores, for any set of machines and sections.

The table has one row per test recording: ``machine, section, domain, label, score`` and, optionally, ``decision``.
The metrics follow the official evaluators, by default those of 2022 to 2025 (`asdcore.evaluation.challenges`); scoring
that resamples (`asdcore.evaluation.bootstrap`) counts with the same code, so a metric and its interval cannot disagree.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from asdcore.arrays import Floats
from asdcore.errors import AsdError
from asdcore.evaluation.challenges import DEFAULT_RULE, Rule

Bools = NDArray[np.bool_]

MAX_FPR = 0.1
"""The maximum false positive rate of pAUC."""

EPSILON = sys.float_info.epsilon
"""The minimum value in a harmonic mean, so that one metric of 0 does not make the mean undefined."""

DOMAINS = ("source", "target")
LABELS = ("normal", "anomaly")

RANKING_METRICS = ("auc_source", "auc_target", "pauc", "auc_all")
DOMAIN_METRICS = ("pauc_source", "pauc_target")
"""Where the rule is within domains, in addition."""
DECISION_METRICS = tuple(f"{kind}_{domain}" for domain in DOMAINS for kind in ("precision", "recall", "f1"))

Metrics = dict[str, Floats]
"""A metric's name to its values; the leading axes are resamples, machines or none."""


def machine_metrics(scores: pd.DataFrame, rule: Rule = DEFAULT_RULE) -> pd.DataFrame:
    """The metrics of each machine and section.

    Args:
        scores: one row per test recording: ``machine``, ``section`` (text), ``domain`` (source, target), ``label``
            (normal, anomaly), ``score`` (finite, higher is more anomalous); optionally ``decision`` (1: anomalous,
            0: normal, missing: none was taken).
        rule: of a year of the challenge.

    Returns:
        One row per machine and section, sorted: ``machine, section, auc_source, auc_target, pauc, auc_all``, each in
        0..1. ``auc_<domain>``: the normal recordings of that domain against the anomalous ones of both, or, within
        domains, against its own. ``pauc``: all recordings, false positive rates up to 0.1, standardised after McClish
        (0.5 is chance, 9/19 the least). ``auc_all``: all recordings. Within domains also ``pauc_<domain>``, of its own
        recordings.
        Where any recording has a decision also ``precision_<domain>, recall_<domain>, f1_<domain>``, each within one
        domain; precision is 0 where nothing was called anomalous.
        NaN where a metric is undefined: an AUC without normal or without anomalous recordings; precision, recall and
        F1 of a domain that lacks one of the two, or one of whose recordings has no decision.

    Raises:
        AsdError: a column is missing, a score is not finite, or a domain, label or decision is not one of the words
            above.

    >>> import pandas as pd
    >>> scores = pd.DataFrame({"machine": "fan", "section": "00", "domain": "source",
    ...                        "label": ["normal", "normal", "anomaly"], "score": [0.1, 0.7, 0.4]})
    >>> machine_metrics(scores)[["machine", "section", "auc_source", "auc_target"]]
      machine section  auc_source  auc_target
    0     fan      00         0.5         NaN

    Source: the evaluators of `asdcore.evaluation.challenges`; D. K. McClish, Medical Decision Making 9 (1989) 190-195.
    """
    names = metric_names(has_decisions(scores), rule)
    rows = [
        {"machine": machine, "section": section}
        | {name: float(values[0]) for name, values in one.metrics(one.every_recording_once()).items()}
        for machine, section, one in each_machine(scores, rule)
    ]
    return pd.DataFrame(rows, columns=["machine", "section", *names])


def harmonic_mean(values: ArrayLike, axis: int | None = None) -> Any:
    """Harmonic mean, each value floored at the float epsilon (2.2e-16), NaN left out; NaN if nothing is left.

    Args:
        values: array of any shape.
        axis: the axis to average over; None: all values, giving a float.

    >>> harmonic_mean([0.5, 1.0, float("nan")])
    0.6666666666666666
    """
    array = np.asarray(values, dtype=np.float64)
    present = ~np.isnan(array)
    inverse = np.where(present, 1.0 / np.maximum(np.where(present, array, 1.0), EPSILON), 0.0)
    mean = _ratio(present.sum(axis=axis), inverse.sum(axis=axis))
    return float(mean) if mean.ndim == 0 else mean


def summary(metrics: pd.DataFrame, rule: Rule = DEFAULT_RULE) -> dict[str, float]:
    """Means over all machines, sections and domains of a table made by `machine_metrics` with the same rule.

    Returns:
        ``official_score``: by default the harmonic mean of every ``auc_source``, ``auc_target`` and ``pauc``;
        ``arithmetic_mean_<kind>`` and ``harmonic_mean_<kind>`` over both domains, ``source_harmonic_mean_<kind>`` and
        ``target_harmonic_mean_<kind>``, for the kinds auc, pauc and, where the table has them, precision, recall, f1.
        pAUC knows no domain, so its source and target means are its mean, but for a rule within domains. Undefined
        metrics (NaN) are left out; a mean without any metric is NaN.

    Raises:
        AsdError: a column ``auc_source``, ``auc_target`` or ``pauc``, or one that the rule needs, is missing.

    Source: the evaluators of `asdcore.evaluation.challenges`; those since 2022 call ``official_score`` by that name.
    """
    by_machine = ("machine",) if rule.mean == "arithmetic" else ()
    require_columns(metrics, ("auc_source", "auc_target", "pauc", *rule.metrics, *by_machine))
    names = [name for name in metric_names(decisions=True, rule=rule) if name in metrics.columns]
    values = {name: metrics[name].to_numpy(dtype=np.float64) for name in names}
    machines = list(metrics["machine"]) if by_machine else []
    return {name: float(mean) for name, mean in summarise(values, machines, rule).items()}


def summarise(metrics: Mapping[str, Floats], machines: Sequence[str], rule: Rule = DEFAULT_RULE) -> Metrics:
    """`summary` on arrays: metrics of shape (..., n machines and sections) to means of shape (...).

    ``machines``: the machine of each of the n, which an arithmetic mean needs.
    """
    means: Metrics = {"official_score": _official_score(metrics, machines, rule)}
    for kind in ("auc", "pauc", "precision", "recall", "f1"):
        of_domains = [f"{kind}_{domain}" for domain in DOMAINS]
        if kind == "pauc" and not rule.within_domain:
            of_domains = ["pauc", "pauc"]
        if of_domains[0] not in metrics:
            continue
        source, target = (metrics[name] for name in of_domains)
        both = np.concatenate([source, target], axis=-1)
        means[f"arithmetic_mean_{kind}"] = _mean(both)
        means[f"harmonic_mean_{kind}"] = harmonic_mean(both, axis=-1)
        means[f"source_harmonic_mean_{kind}"] = harmonic_mean(source, axis=-1)
        means[f"target_harmonic_mean_{kind}"] = harmonic_mean(target, axis=-1)
    return means


def mean_of_rule(values: ArrayLike, rule: Rule) -> Floats:
    """The mean of the last axis that ``rule`` takes, NaN left out: (..., n) to (...)."""
    array = np.asarray(values, dtype=np.float64)
    return np.asarray(harmonic_mean(array, axis=-1)) if rule.mean == "harmonic" else _mean(array)


def area_under_roc(normal: Floats, anomaly: Floats) -> Floats:
    """Area under the ROC curve from counts; ties count half.

    Args:
        normal: (..., n) float64, how many normal recordings have each of n distinct scores, scores ascending.
        anomaly: (..., n) float64, how many anomalous ones.

    Returns:
        (...) float64, 0..1; NaN where there is no normal or no anomalous recording.
    """
    pairs = (normal * (_above(anomaly) + 0.5 * anomaly)).sum(axis=-1)
    return _ratio(pairs, normal.sum(axis=-1) * anomaly.sum(axis=-1))


def partial_area_under_roc(normal: Floats, anomaly: Floats, max_fpr: float = MAX_FPR) -> Floats:
    """Area under the ROC curve up to ``max_fpr``, standardised after McClish: 0.5 is chance, 1 is the best.

    Counts as for `area_under_roc`. Between two distinct scores the curve is a straight line, also where ``max_fpr``
    cuts it, as in scikit-learn's ``roc_auc_score(max_fpr=...)``.
    """
    limit = max_fpr * normal.sum(axis=-1, keepdims=True)
    above = _above(normal)
    # A step of the curve, from the highest score down, is `normal` wide and `anomaly` high; only the part of its
    # width below the limit counts, and the same fraction of its height.
    width = np.minimum(above + normal, limit) - np.minimum(above, limit)
    height = _above(anomaly) + 0.5 * anomaly * width / np.maximum(normal, EPSILON)
    area = _ratio((width * height).sum(axis=-1), normal.sum(axis=-1) * anomaly.sum(axis=-1))
    chance = 0.5 * max_fpr**2
    return 0.5 * (1.0 + (area - chance) / (max_fpr - chance))


@dataclass(frozen=True)
class MachineScores:
    """The test recordings of one machine and section as arrays of shape (n,)."""

    score: Floats
    target: Bools
    anomaly: Bools
    decision: Floats | None
    """1, 0 or NaN; None where the table has no decisions at all."""
    rule: Rule = DEFAULT_RULE

    def every_recording_once(self) -> Floats:
        """The weights of the plain metrics: (1, n) ones."""
        return np.ones((1, len(self.score)))

    def metrics(self, weights: Floats) -> Metrics:
        """All metrics when recording i counts ``weights[r, i]`` times: (resamples, n) to (resamples,) each."""
        found = self._ranking_metrics(weights)
        if self.decision is not None:
            for domain in DOMAINS:
                found |= self._decision_metrics(weights, self.decision, domain)
        return found

    def _in(self, domain: str) -> Bools:
        return self.target if domain == "target" else ~self.target

    def _ranking_metrics(self, weights: Floats) -> Metrics:
        order = np.argsort(self.score, kind="stable")
        _, starts = np.unique(self.score[order], return_index=True)
        ordered = weights[:, order]

        def counts(chosen: Bools) -> Floats:
            return np.add.reduceat(ordered * chosen[order], starts, axis=1)

        anomaly = counts(self.anomaly)
        normal = {domain: counts(~self.anomaly & self._in(domain)) for domain in DOMAINS}
        against = dict.fromkeys(DOMAINS, anomaly)
        if self.rule.within_domain:
            against = {domain: counts(self.anomaly & self._in(domain)) for domain in DOMAINS}
        every = normal["source"] + normal["target"]
        metrics = {f"auc_{domain}": area_under_roc(normal[domain], against[domain]) for domain in DOMAINS}
        metrics |= {"pauc": partial_area_under_roc(every, anomaly), "auc_all": area_under_roc(every, anomaly)}
        if self.rule.within_domain:
            of_domains = {domain: partial_area_under_roc(normal[domain], against[domain]) for domain in DOMAINS}
            metrics |= {f"pauc_{domain}": value for domain, value in of_domains.items()}
        return metrics

    def _decision_metrics(self, weights: Floats, decision: Floats, domain: str) -> Metrics:
        inside = self._in(domain)
        names = [f"{kind}_{domain}" for kind in ("precision", "recall", "f1")]
        anomalous, normal = inside & self.anomaly, inside & ~self.anomaly
        if not anomalous.any() or not normal.any() or np.isnan(decision[inside]).any():
            return dict.fromkeys(names, np.full(len(weights), np.nan))
        called = decision == 1
        hits = weights[:, anomalous & called].sum(axis=1)
        false_alarms = weights[:, normal & called].sum(axis=1)
        precision = hits / np.maximum(hits + false_alarms, EPSILON)
        recall = hits / weights[:, anomalous].sum(axis=1)
        f1 = 2.0 * precision * recall / np.maximum(precision + recall, EPSILON)
        return dict(zip(names, (precision, recall, f1), strict=True))


def each_machine(scores: pd.DataFrame, rule: Rule = DEFAULT_RULE) -> Iterator[tuple[str, str, MachineScores]]:
    """Machine, section and their recordings, sorted by machine and section; raises AsdError as `machine_metrics`."""
    _check(scores)
    decisions = has_decisions(scores)
    for key, rows in scores.groupby(["machine", "section"], sort=True, observed=True):
        machine, section = cast("tuple[str, str]", key)
        yield (
            machine,
            section,
            MachineScores(
                score=as_floats(rows["score"]),
                target=(rows["domain"] == "target").to_numpy(dtype=np.bool_),
                anomaly=(rows["label"] == "anomaly").to_numpy(dtype=np.bool_),
                decision=as_floats(rows["decision"]) if decisions else None,
                rule=rule,
            ),
        )


def has_decisions(scores: pd.DataFrame) -> bool:
    """Whether any recording of the table has a decision."""
    return "decision" in scores.columns and bool(scores["decision"].notna().any())


def metric_names(decisions: bool, rule: Rule = DEFAULT_RULE) -> tuple[str, ...]:
    """The metrics of one machine and section, in the order of the columns."""
    ranking = RANKING_METRICS + DOMAIN_METRICS if rule.within_domain else RANKING_METRICS
    return ranking + DECISION_METRICS if decisions else ranking


def _check(scores: pd.DataFrame) -> None:
    """Refuse a table that would silently give wrong metrics."""
    require_columns(scores, ("machine", "section", "domain", "label", "score"))
    for column in ("machine", "section"):
        refuse_rows(scores, column, scores[column].isna().to_numpy(), "name it in every row")
    for column, words in (("domain", DOMAINS), ("label", LABELS)):
        refuse_rows(scores, column, ~scores[column].isin(words).to_numpy(), f"use {' or '.join(words)}")
    finite = np.isfinite(as_floats(scores["score"]))
    refuse_rows(scores, "score", ~finite, "every recording needs a finite number")
    if has_decisions(scores):
        wrong = scores["decision"].notna().to_numpy() & ~np.isin(as_floats(scores["decision"]), (0.0, 1.0))
        refuse_rows(scores, "decision", wrong, "use 1 (anomalous), 0 (normal) or leave it missing")


def require_columns(table: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """Refuse a table that lacks one of the columns."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise AsdError(f"the table lacks the column {missing[0]!r}; it has {list(table.columns)}. Add it.")


def refuse_rows(table: pd.DataFrame, column: str, wrong: Bools, remedy: str) -> None:
    """Refuse a table with a wrong value in ``column``: names the first such row (from 1) and value."""
    if wrong.any():
        row = int(np.argmax(wrong))
        value = table[column].iloc[row]
        value = value.item() if isinstance(value, np.generic) else value
        raise AsdError(f"{column} is {value!r} in row {row + 1} of the table of scores: {remedy}.")


def as_floats(column: "pd.Series[Any]") -> Floats:
    """Values of any nullable dtype as float64, missing as NaN; text that is no number becomes NaN too."""
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _official_score(metrics: Mapping[str, Floats], machines: Sequence[str], rule: Rule) -> Floats:
    values = [metrics[name] for name in rule.metrics]
    if rule.mean == "harmonic" or not len(machines):
        return mean_of_rule(np.concatenate(values, axis=-1), rule)
    named = np.asarray(machines)
    of_each = [[value[..., named == machine] for value in values] for machine in dict.fromkeys(machines)]
    return _mean(np.stack([_mean(np.concatenate(own, axis=-1)) for own in of_each], axis=-1))


def _above(counts: Floats) -> Floats:
    """For each distinct score (ascending along the last axis) how many recordings score strictly higher."""
    cumulated = np.cumsum(counts, axis=-1)
    return cumulated[..., -1:] - cumulated


def _mean(values: Floats) -> Floats:
    """Arithmetic mean over the last axis, NaN left out; NaN if nothing is left (numpy's own would warn)."""
    present = ~np.isnan(values)
    return _ratio(np.where(present, values, 0.0).sum(axis=-1), present.sum(axis=-1))


def _ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    """part / whole, NaN where whole is 0."""
    top, bottom = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return cast("Floats", np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan))
