"""The years of DCASE Challenge Task 2: how each scores a system, and what its files are called.

Sources: the evaluators' code, github.com/y-kawagu/dcase2020_task2_evaluator and
dcase2021_task2_evaluator, Kota-Dohi/dcase2022_evaluator, nttcslab/dcase2023_task2_evaluator and
dcase2024_task2_evaluator; of 2025 only the README of nttcslab/dcase2025_task2_evaluator, whose figures agree with the
rule of 2024.
"""

from dataclasses import dataclass
from typing import Literal

from asdcore.errors import AsdError

TITLES = {
    "auc_all": "AUC", "auc_target": "AUC target", "auc_source": "AUC source",
    "pauc": "pAUC", "pauc_target": "pAUC target", "pauc_source": "pAUC source",
}  # fmt: skip
"""Metric: what a table calls it, in the order of the paper's Table 1."""


@dataclass(frozen=True)
class Rule:
    """How the metrics of machines and sections become the official score. The default is that of 2022 to 2025."""

    metrics: tuple[str, ...] = ("auc_source", "auc_target", "pauc")
    """columns of `asdcore.evaluation.metrics.machine_metrics` that the official score is the mean of"""
    within_domain: bool = False
    """A domain has an AUC and a pAUC of its own recordings only. Otherwise its AUC is of its normal recordings and the
    anomalous ones of both domains, and there is one pAUC, of all recordings.
    """
    mean: Literal["harmonic", "arithmetic"] = "harmonic"
    """harmonic: of all machines and sections at once; arithmetic: of the sections of each machine, then of machines"""

    @property
    def text(self) -> str:
        """
        >>> Rule().text
        'harmonic mean of AUC source, AUC target and pAUC'
        """
        *titles, last = (TITLES[name] for name in self.metrics)
        return f"{self.mean} mean of {', '.join(titles)} and {last}"


DEFAULT_RULE = Rule()


@dataclass(frozen=True)
class Challenge:
    """A year."""

    rule: Rule = DEFAULT_RULE
    files: str = "{kind}_{machine}_section_{section}_test.csv"
    """name of a file of scores or decisions, for `kind` ``anomaly_score`` or ``decision_result``"""
    decisions: bool = True
    """whether a submission has files of decisions"""


YEAR = 2023
"""The default."""
CHALLENGES: dict[int, Challenge] = {
    # The evaluator ends with the averages of AUC and of pAUC over the IDs of each machine, from which the challenge
    # ranked its systems. A score of a single system does not exist: the mean of these averages is ours.
    2020: Challenge(Rule(("auc_all", "pauc"), mean="arithmetic"), "{kind}_{machine}_id_{section}.csv", decisions=False),
    2021: Challenge(
        Rule(("auc_source", "auc_target", "pauc_source", "pauc_target"), within_domain=True),
        "{kind}_{machine}_section_{section}_{domain}_test.csv",
    ),
} | dict.fromkeys((2022, YEAR, 2024, 2025), Challenge())


def challenge_of(year: int) -> Challenge:
    """The challenge of a year.

    Raises:
        AsdError: none is known of that year.

    >>> challenge_of(2024).rule.metrics
    ('auc_source', 'auc_target', 'pauc')
    """
    if year not in CHALLENGES:
        raise AsdError(f"year={year}, must be one of {', '.join(map(str, CHALLENGES))}")
    return CHALLENGES[year]
