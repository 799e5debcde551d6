"""How far to trust one machine's detector: what it was fitted on, whether it keeps its promise, what is missing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2
from scipy.stats import f as f_distribution
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, KFold

from asdcore.arrays import Floats
from asdcore.detector import Detector
from asdcore.encoder.metrics import effective_rank
from asdcore.monitoring.intervals import rate_interval
from asdcore.monitoring.next_session import NextSession, next_session, sessions_needed
from asdcore.normality.base import NormalityModel
from asdcore.normality.gaussian import GaussianModel
from asdcore.normality.machine import MachineModel, Vectors
from asdcore.normality.robust import RobustCovariance
from asdcore.recordings.sessions import cuts_sentences
from asdcore.registry import SCORERS

FOLDS = 5
FEW_OF_A_DOMAIN = 10
COLLAPSED = 2.0
"""effective rank below which embeddings vary in hardly more than one way"""
LEFT_OUT, TEST = "left_out", "test"
PValues = dict[str, list[float]]
"""by domain"""

Rating = Literal["reliable", "use with care", "collect more"]


@dataclass(frozen=True)
class ScorerReport:
    """The normality model of one scorer."""

    estimator: str
    p: int
    """values per vector"""
    rank: int
    condition: float | None
    """largest divided by smallest observed variance; None: infinite"""
    effective_rank: float
    """exp of the entropy of the singular values of the centred vectors (Roy and Vetterli 2007)"""
    note: str
    """why another estimator than that of the settings was used; otherwise empty"""


@dataclass(frozen=True)
class Achieved:
    """False alarms on normal recordings that the model had not seen."""

    alarms: int
    recordings: int
    low: float
    high: float
    """95 % interval of the rate (Clopper and Pearson 1934)"""

    @classmethod
    def of(cls, alarms: int, recordings: int) -> "Achieved":
        """With the exact interval; 0 to 1 if there are no recordings."""
        return cls(alarms, recordings, *rate_interval(alarms, recordings))

    @property
    def percent(self) -> str:
        """The interval as text."""
        return f"{100 * self.low:.1f} to {100 * self.high:.1f} %"

    def __str__(self) -> str:
        return f"{self.alarms} of {self.recordings} ({self.percent})"


@dataclass(frozen=True)
class Reliability:
    """The reliability report of one machine; `to_json` and `from_json` for a detector's description."""

    rating: Rating
    collect: int
    """how many more normal recordings are needed"""
    sentences: list[str]
    """the rating first, then the reasons for it"""
    n: int
    """normal training recordings"""
    domains: dict[str, int]
    asked: float
    """false-alarm rate"""
    scorers: dict[str, ScorerReport]
    left_out: dict[str, Achieved]
    """by domain, and ``all``: training recordings, each judged by a model of four fifths of the others"""
    test: dict[str, Achieved]
    """by domain, and ``all``: test recordings that are labelled normal"""
    next_sessions: list[NextSession] = field(default_factory=list)
    """false alarms of sessions not heard, by number of those known; empty where sessions are unknown or too few"""
    next_asked: float = 0.0
    """the rate of ``next_sessions``"""
    worth: float = 0.0
    """independent recordings that the training recordings are worth, see `Calibration`"""
    sessions: int = 0
    """of the training recordings; 0: unknown"""
    notes: list[str] = field(default_factory=list)
    """the reasons that hold at any rate"""
    p_values: dict[str, PValues] = field(default_factory=dict)
    """of the recordings of ``left_out`` and ``test``"""

    def at(self, false_alarm_rate: float) -> Self:
        """The report at another rate: nothing is fitted, and ``next_sessions``, which needs fits, is as it was."""
        return self if false_alarm_rate == self.asked else self._judged(false_alarm_rate)

    def _judged(self, rate: float) -> Self:
        left_out, test = (_achieved(self.p_values[what], rate) for what in (LEFT_OUT, TEST))
        # The tolerance: 1 / 0.05 and the like are not exact.
        collect = max(math.ceil(1 / rate - 1 - self.worth - 1e-6), 0)
        reasons = [*_reasons_of_rate(rate, left_out, test, supported=not collect), *self.notes]
        rating: Rating = "collect more" if collect else "use with care" if reasons else "reliable"
        first = {
            "collect more": _collect_more(self.n, self.worth, collect, self.sessions, rate),
            "use with care": "Use it with care.",
            "reliable": "Reliable.",
        }[rating]
        sentences = [first, *reasons]
        return replace(
            self, rating=rating, collect=collect, sentences=sentences, asked=rate, left_out=left_out, test=test
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, without NaN or infinity."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Reliability":
        """What `to_json` wrote."""
        nested = {
            "scorers": {name: ScorerReport(**one) for name, one in values["scorers"].items()},
            "left_out": {name: Achieved(**one) for name, one in values["left_out"].items()},
            "test": {name: Achieved(**one) for name, one in values["test"].items()},
            "next_sessions": [NextSession(**one) for one in values.get("next_sessions", ())],
        }
        return cls(**{**values, **nested})


def reliability_of(detector: Detector, machine: str) -> Reliability | None:
    """The reliability report that a detector carries of an enrolled machine, at the machine's own rate if it has one;
    None if it has none.

    Raises:
        AsdError: it is not enrolled.
    """
    values = detector.about.get("reliability", {}).get(detector.enrolled(machine))
    return Reliability.from_json(values).at(detector.threshold_of(machine).false_alarm_rate) if values else None


def suspicion(machine: MachineModel, scores: Sequence[float], reliability: Reliability | None) -> str:
    """What suspect recordings of these scores mean: how rare such a score is among normal recordings, and what to
    collect so that such a recording can be called anomalous.

    Args:
        machine: that judged them.
        scores: of the suspect recordings, one or more; the lowest counts.
        reliability: what is known of the machine; None: nothing.
    """
    lowest, calibration = min(scores), machine.calibration
    alone, in_session = (float(1 / p([lowest])[0]) for p in (calibration.rank_p_value, calibration.p_value))
    sentence = f"About 1 in {alone:.0f} normal recordings is this strange"
    if round(in_session) < round(alone):
        sentence += f", about 1 in {in_session:.0f} of those of another session"
    missing = f" {reliability.sentences[0]}" if reliability is not None and reliability.collect else ""
    return f"{sentence}.{missing}"


def reliability_report(
    machine: MachineModel,
    vectors: Vectors,
    domains: Sequence[str],
    false_alarm_rate: float,
    test: Vectors | None = None,
    test_domains: Sequence[str] = (),
    of_training: Sequence[str] = (),
    groups: Sequence[str] | None = None,
) -> Reliability:
    """The reliability report of a fitted machine.

    Everything, calibration and fusion included, is fitted again on four fifths of the recordings and judges the last
    fifth, in turn; that is how the nominal rate is checked without test recordings. A session is never on both sides.
    ``elliptic``, with six fits for each model, each of a minute, is checked by halves.

    Args:
        machine: fitted on these vectors.
        vectors: scorer: (n, p), of the normal training recordings, in the order of their names.
        domains: n names.
        false_alarm_rate: the nominal rate.
        test: scorer: (m, p), of test recordings that are known to be normal.
        test_domains: m names.
        of_training: what is wrong with the training of the encoder, sentences of `collapse`.
        groups: n names of sessions, as the models were fitted with; None: each recording by itself.
    """
    n = len(domains)
    named = np.asarray(domains).astype(str)
    p_values = {LEFT_OUT: _by_domain(_cross_fitted(machine, vectors, named, groups), named), TEST: {}}
    if test is not None and len(test_domains):
        of_test = machine.verdict(test, false_alarm_rate)["p_value"].to_numpy()
        p_values[TEST] = _by_domain(of_test, np.asarray(test_domains).astype(str))
    reports = {scorer: _scorer_report(model, vectors[scorer]) for scorer, model in machine.models.items()}
    counts = {str(name): int((named == name).sum()) for name in np.unique(named)}
    notes = cuts_sentences(vectors["spectrum"], groups) if "spectrum" in vectors else []
    notes += _notes(counts, reports)
    notes += sorted({note for model in machine.models.values() if (note := _one_session(model))})
    # What a scorer without the encoder says does not depend on its training.
    notes += of_training if any(SCORERS.get(scorer).needs_encoder for scorer in machine.models) else []
    sessions = len(set(groups or ()))
    curve: list[NextSession] = []
    if groups is not None and sessions < n:
        curve = next_session(machine, vectors, domains, groups, false_alarm_rate)
    worth = machine.calibration.n_effective_
    rate = false_alarm_rate
    known = Reliability(
        "reliable", 0, [], n, counts, rate, reports, {}, {}, curve, rate, worth, sessions, notes, p_values
    )
    return known._judged(rate)


def theory(model: NormalityModel) -> tuple[Floats, Floats, str] | None:
    """What the left-out distances would be if the vectors were Gaussian, beside what they are.

    Returns:
        expected (k,), observed (k,), both sorted, and the name of the distribution; None for models that are not
        Gaussian, which have none.
        ``ml`` with more recordings than values: exact, (n p / (n - 1 - p)) F(p, n - 1 - p). Else chi-squared with as
        many degrees of freedom as directions were seen, scaled to the same median: only its shape can be compared.
        Infinite distances are left out.
    """
    report = model.report_
    if not isinstance(model, GaussianModel) or model.left_out_ is None:
        return None
    observed = np.sort(model.left_out_[np.isfinite(model.left_out_)])
    if not len(observed):
        return None
    shares = (np.arange(len(observed)) + 0.5) / len(model.left_out_)
    m, p = report.n - 1, report.p
    if report.used == "ml" and report.rank == p and m > p:
        expected: Floats = (m + 1) * p / (m - p) * f_distribution.ppf(shares, p, m - p)
        return expected, observed, f"F({p}, {m - p}), exact for Gaussian vectors"
    expected = chi2.ppf(shares, max(report.rank, 1))
    expected = expected * np.median(observed) / np.median(expected)
    return expected, observed, f"chi-squared({report.rank}), scaled to the median"


def _cross_fitted(
    machine: MachineModel,
    vectors: Vectors,
    domains: NDArray[np.str_],
    groups: Sequence[str] | None,
) -> Floats:
    """The p-value of each training recording by a machine that was fitted without its fold: (n,)."""
    n = len(domains)
    p_values = np.zeros(n)
    halves = any(isinstance(model, RobustCovariance) for model in machine.models.values())
    folds = 2 if halves else FOLDS
    sessions = np.arange(n).astype(str) if groups is None else np.asarray(groups).astype(str)
    count = len(np.unique(sessions))
    by_session = groups is not None and count > 2
    splitter = GroupKFold(min(folds, count)) if by_session else KFold(min(folds, n), shuffle=True, random_state=0)
    for rest, fold in splitter.split(np.arange(n), groups=sessions if by_session else None):
        fitted: dict[str, NormalityModel] = {}
        own = sessions[rest] if by_session else None
        for scorer, model in machine.models.items():
            again = clone(model)
            if isinstance(again, RobustCovariance):
                again.set_params(folds=2)
            fitted[scorer] = again.fit(np.asarray(vectors[scorer])[rest], domains=domains[rest], groups=own)
        held_out = {scorer: np.asarray(vectors[scorer])[fold] for scorer in machine.models}
        # The p-value is the same at any rate.
        p_values[fold] = MachineModel(fitted, groups=own).verdict(held_out, 0.5)["p_value"].to_numpy()
    return p_values


def _collect_more(n: int, worth: float, collect: int, sessions: int, rate: float) -> str:
    unsupported = (
        f"a decision at {100 * rate:g} % false alarms is not supported: strange recordings are suspect at most"
    )
    if worth > n - 0.5:
        return f"Collect {collect} more normal recordings: with {n}, {unsupported}."
    needed = sessions_needed(sessions, worth, rate)
    enough = f" (about {needed} such sessions would do)" if needed else ""
    return (
        f"Record more sessions: {n} recordings of {sessions} {'session' if sessions == 1 else 'sessions'} are worth "
        f"{worth:.1f} independent ones, {collect} too few{enough}: {unsupported}."
    )


def _one_session(model: NormalityModel) -> str:
    note = model.report_.left_out_note
    return f"{note[0].upper()}{note[1:]}." if note else ""


def _by_domain(p_values: Floats, domains: NDArray[np.str_]) -> PValues:
    return {str(name): p_values[domains == name].tolist() for name in np.unique(domains)}


def _achieved(p_values: PValues, rate: float) -> dict[str, Achieved]:
    """By domain if there are several, and ``all``; empty without recordings."""
    found = {"all": [p for own in p_values.values() for p in own]} if p_values else {}
    found |= p_values if len(p_values) > 1 else {}
    return {domain: Achieved.of(sum(p <= rate for p in own), len(own)) for domain, own in found.items()}


def _scorer_report(model: NormalityModel, vectors: ArrayLike) -> ScorerReport:
    report = model.report_
    condition = float(report.condition) if math.isfinite(report.condition) else None
    return ScorerReport(
        report.used, report.p, report.rank, condition, effective_rank(torch.as_tensor(np.asarray(vectors))), report.note
    )


def _reasons_of_rate(
    asked: float, left_out: Mapping[str, Achieved], tested: Mapping[str, Achieved], *, supported: bool
) -> list[str]:
    said = []
    percent = f"{100 * asked:g} %"
    for what, achieved in (("left out of the training", left_out), ("of the test", tested)):
        for domain, one in achieved.items():
            whose = "" if domain == "all" else f" of the domain {domain}"
            if one.low > asked:
                said.append(f"Too many false alarms: {one} of the normal recordings{whose} {what}; {percent} asked.")
            elif one.high < asked and supported:  # A rate that is not supported gives no alarm at all.
                said.append(f"Too few alarms: {one} of the normal recordings{whose} {what}; {percent} asked.")
    return said


def _notes(counts: Mapping[str, int], scorers: Mapping[str, ScorerReport]) -> list[str]:
    said = []
    for scorer, report in scorers.items():
        if report.note:
            said.append(f"The {scorer} is not judged as the settings ask: {report.note}.")
        if report.effective_rank < COLLAPSED:
            said.append(
                f"The {scorer} varies in hardly more than one way (effective rank {report.effective_rank:.1f} of "
                f"{report.p}): the representation may have collapsed."
            )
    few = {name: n for name, n in counts.items() if len(counts) > 1 and n < FEW_OF_A_DOMAIN}
    for name, n in few.items():
        said.append(f"Only {n} recordings of the domain {name}: its normal sound is hardly known.")
    return said
