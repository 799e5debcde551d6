"""False alarms of the next session, against the number of sessions known: from the machine's own recordings.

The models of a machine are fitted on some of its sessions and judge the others, in several orders. This shows whether
more sessions would help, before they are recorded. The encoder is not trained again: it has heard all of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from asdcore.errors import AsdError
from asdcore.normality.base import NormalityModel
from asdcore.normality.gaussian import GaussianModel
from asdcore.normality.machine import ANOMALOUS, NORMAL, MachineModel, Vectors
from asdcore.normality.robust import RobustCovariance

FEWEST = 3
"""sessions, of which one or two can be known"""
MOST_COUNTS = 8
"""different numbers of known sessions"""
MOST_REFITS = 40
MOST_VALUES = 1024
"""of a vector that has a covariance: one of more takes many seconds to invert, and its scorer is left out here"""
_WORK = 6e9
"""multiplications that refits may have together, roughly: some seconds"""
_PER_SESSION = 20
"""recordings of a session that are enough here"""


@dataclass(frozen=True)
class NextSession:
    """What happens in sessions that a machine has not heard, when it knows so many others."""

    sessions: int
    """known"""
    worth: float
    """independent recordings that these are worth, see `Calibration`"""
    anomalous: float
    """fraction of the normal recordings of the other sessions"""
    strange: float
    """the same, suspect or anomalous"""
    largest: float
    """``strange`` of the worst draw of sessions"""
    draws: int


def next_session(
    machine: MachineModel,
    vectors: Vectors,
    domains: Sequence[str],
    groups: Sequence[str],
    false_alarm_rate: float,
) -> list[NextSession]:
    """The machine fitted on 1 to K-1 of its K sessions, judging the rest.

    Args:
        machine: whose models are fitted again.
        vectors: scorer: (n, p), of the normal training recordings.
        domains: n names.
        groups: n names of sessions.
        false_alarm_rate: of the verdicts.

    Returns:
        By number of sessions, at most `MOST_COUNTS`; empty with fewer than `FEWEST` sessions, and for models of which a
        single fit takes a minute.
    """
    models = {
        scorer: model
        for scorer, model in machine.models.items()
        if np.shape(vectors[scorer])[1] <= MOST_VALUES or not isinstance(model, GaussianModel)
    }
    sessions = np.asarray(groups).astype(str)
    names = np.unique(sessions)
    if not models or len(names) < FEWEST or any(isinstance(model, RobustCovariance) for model in models.values()):
        return []
    most = len(names) - 1
    counts = np.unique(np.geomspace(1, most, MOST_COUNTS).round()) if most > MOST_COUNTS else np.arange(1, most + 1)
    kept = _first_of_each(sessions)
    work = sum(_work(model, int(kept.sum()), np.shape(vectors[scorer])[1]) for scorer, model in models.items())
    orders = int(min(MOST_REFITS, _WORK // work) // len(counts))
    rng = np.random.default_rng(0)
    named = np.asarray(domains).astype(str)
    found: dict[int, list[tuple[float, float, float]]] = {int(count): [] for count in counts}
    for _ in range(max(orders, 1)):
        order = rng.permutation(names)
        for count, draws in found.items():
            known = np.isin(sessions, order[:count])
            rows = np.flatnonzero(known & kept)
            try:
                again: dict[str, NormalityModel] = {
                    scorer: clone(model).fit(
                        np.asarray(vectors[scorer])[rows], domains=named[rows], groups=sessions[rows]
                    )
                    for scorer, model in models.items()
                }
                fitted = MachineModel(again, groups=sessions[rows])
            except AsdError:  # too few recordings, or all the same: these sessions alone make no model
                continue
            others = {scorer: np.asarray(vectors[scorer])[~known & kept] for scorer in models}
            verdict = fitted.verdict(others, false_alarm_rate)["verdict"]
            shares = float((verdict == ANOMALOUS).mean()), float((verdict != NORMAL).mean())
            draws.append((fitted.calibration.n_effective_, *shares))
    return [_summary(count, np.array(draws)) for count, draws in found.items() if draws]


def _summary(count: int, draws: NDArray[np.float64]) -> NextSession:
    """``draws``: (m, 3), what the sessions are worth, the fraction that is anomalous, and suspect or anomalous."""
    worth, anomalous, strange = draws.mean(axis=0).tolist()
    return NextSession(count, worth, anomalous, strange, float(draws[:, 2].max()), len(draws))


def _work(model: NormalityModel, n: int, p: int) -> float:
    """Multiplications of a fit to (n, p) vectors, roughly: those of a covariance's inverse, or of all distances."""
    return p**3 if isinstance(model, GaussianModel) else n**2 * p


def sessions_needed(sessions: int, worth: float, false_alarm_rate: float) -> int | None:
    """How many sessions like the known ones support the rate; None with one, which says nothing of others.

    >>> sessions_needed(6, 7.4, 0.1), sessions_needed(1, 1.0, 0.1)
    (8, None)
    """
    if sessions < 2:
        return None
    return math.ceil((1 / false_alarm_rate - 1) * sessions / worth - 1e-6)


def _first_of_each(sessions: NDArray[np.str_]) -> NDArray[np.bool_]:
    """(n,) whether a recording is among the first `_PER_SESSION` of its session."""
    seen: dict[str, int] = {}
    kept = []
    for name in sessions:
        seen[name] = seen.get(name, 0) + 1
        kept.append(seen[name] <= _PER_SESSION)
    return np.array(kept)
