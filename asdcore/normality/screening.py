"""Which recordings of a machine to listen to first, where nothing is known of any of them: no label, no detector.

Each is judged by a model of the others. Faults among these are what makes it hard: they pull the model towards
themselves, and those of one kind vouch for each other. `screened` says what is done about it; the alternatives were
measured in docs/evidence/screening.md.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from asdcore.arrays import Floats
from asdcore.errors import AsdError
from asdcore.normality.base import NormalityModel
from asdcore.normality.fusion import Fusion
from asdcore.normality.machine import Vectors, upper_quartile

FEWEST = 8
"""recordings of a machine; among fewer, nothing is usual"""
NEIGHBOURS = 0.25
"""fraction of the clips that are the neighbours of each, so that those of one fault do not vouch for each other"""
LEFT_ASIDE = 0.1
"""fraction of the recordings, the strangest, that the models are fitted without"""
ROUNDS = 3
"""refits without them"""
STANDS_OUT = 6.0
"""usual deviations (see `deviations`) from which a recording stands out"""
SCREENED = ["recording", "rank", "score", "stands_out", "times_usual", "found_by", "strangest"]


def screened(
    vectors: Vectors,
    models: Mapping[str, NormalityModel],
    recordings: Sequence[str],
    *,
    neighbours: float = NEIGHBOURS,
    left_aside: float = LEFT_ASIDE,
    fusion: Fusion | None = None,
) -> pd.DataFrame:
    """Rank the recordings of one machine, the strangest first.

    Each is left out of the models that judge it, with all its clips; sessions are not left out as a whole. The models
    are fitted without the strangest recordings, which the earlier fit has found, so that these do not pull them
    towards themselves; nearest neighbours are a quarter of all clips. The score of a recording is the upper quartile
    of the fused scores of its clips, as a detector's is, in usual deviations from the median: see `deviations`.

    Args:
        vectors: scorer: (n, p), one row per clip.
        models: scorer: its unfitted normality model.
        recordings: n names: the recording of each clip.
        neighbours: fraction of the clips; 0: as many as the model has.
        left_aside: fraction of the recordings; 0: the models are fitted to all.
        fusion: another one than that of a detector.

    Returns:
        One row per recording: recording, its name; rank, from 1; score; stands_out; times_usual: its distance by the
        scorer that finds it strangest, in medians of that of all recordings; found_by: this scorer; strangest: the
        row of the vectors that is its strangest clip.

    Raises:
        AsdError: fewer than `FEWEST` recordings, or vectors that are all the same.

    >>> from asdcore.normality.neighbours import StandardisedNeighbours
    >>> sounds = np.random.default_rng(0).normal(size=(20, 4))
    >>> sounds[7] += 60
    >>> table = screened({"change": sounds}, {"change": StandardisedNeighbours()}, [f"{n}.wav" for n in range(20)])
    >>> table["recording"][0], bool(table["stands_out"][0]), int(table["stands_out"].sum())
    ('7.wav', True, 1)
    """
    names, of = np.unique(np.asarray(recordings, dtype=str), return_inverse=True)
    if len(names) < FEWEST:
        raise AsdError(
            f"{len(names)} recording{'s' * (len(names) != 1)}: too few to compare with each other; {FEWEST} are needed"
        )
    aside = round(left_aside * len(names))
    kept = np.ones(len(names), dtype=bool)
    for _ in range(ROUNDS + 1 if aside else 1):
        fitted = kept
        distances = _distances(vectors, models, of, fitted[of], neighbours)
        fused = clone(fusion or Fusion()).fit(distances[fitted[of]], groups=of[fitted[of]])
        clips = fused.score(distances)
        scores = _of_recordings(clips, of)
        kept = np.zeros(len(names), dtype=bool)
        kept[np.argsort(scores, kind="stable")[: len(names) - aside]] = True
        if (kept == fitted).all():
            break
    score = deviations(scores)
    found_by = np.column_stack([_of_recordings(column, of) for column in fused.standardised(distances).T]).argmax(
        axis=1
    )
    of_scorers = np.column_stack([_of_recordings(column, of) for column in distances.T])
    times = (of_scorers / np.maximum(np.median(of_scorers, axis=0), np.finfo(float).tiny))[
        np.arange(len(names)), found_by
    ]
    table = pd.DataFrame(
        {
            "recording": names,
            "score": score,
            "stands_out": score > STANDS_OUT,
            "times_usual": times,
            "found_by": np.array(list(vectors), dtype=object)[found_by],
            "strangest": [np.flatnonzero(of == index)[clips[of == index].argmax()] for index in range(len(names))],
        }
    )
    table = table.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1))[SCREENED]


def deviations(scores: Floats) -> Floats:
    """(n,) scores in usual deviations from their median; usual: 1.48 times the median absolute one.

    Neither is moved by a minority of faults, as mean and standard deviation are.

    >>> deviations(np.array([1.0, 2.0, 3.0, 4.0, 50.0])).round(1).tolist()
    [-1.3, -0.7, 0.0, 0.7, 31.7]
    """
    away = scores - np.median(scores)
    # Where most are alike, the mean absolute deviation says what is usual.
    usual = 1.4826 * float(np.median(np.abs(away))) or 1.2533 * float(np.abs(away).mean())
    standardised: Floats = away / max(usual, np.finfo(float).tiny)
    return standardised


def first_to_hear(machine: str, table: pd.DataFrame) -> str:
    """What to say of the table that `screened` has made of a machine.

    >>> first_to_hear("fan3", pd.DataFrame({"stands_out": [True, True, False, False]}))
    'fan3: listen to these 2 of 4 first; nothing says that they are faults'
    """
    n, several = len(table), int(table["stands_out"].sum())
    if not several:
        return f"{machine}: no recording stands out among {n}"
    these, they = ("one", "it is a fault") if several == 1 else (f"these {several}", "they are faults")
    return f"{machine}: listen to {these} of {n} first; nothing says that {they}"


def _distances(
    vectors: Vectors,
    models: Mapping[str, NormalityModel],
    of: NDArray[np.intp],
    fitted: NDArray[np.bool_],
    neighbours: float,
) -> Floats:
    """(n, k): of each clip from the models of the ``fitted`` ones, (n,), without those of its own recording."""
    columns = []
    for scorer, X in vectors.items():
        model = clone(models[scorer])
        if neighbours and "neighbours" in model.get_params():
            model.set_params(neighbours=max(1, int(neighbours * fitted.sum())))
        model.fit(X[fitted], groups=of[fitted])
        distances = np.empty(len(X))
        distances[fitted] = model.left_out_
        distances[~fitted] = model.distance(X[~fitted])
        columns.append(distances)
    return np.column_stack(columns)


def _of_recordings(clips: Floats, of: NDArray[np.intp]) -> Floats:
    """The upper quartile over the clips of each recording."""
    return np.array([upper_quartile(clips[of == index]) for index in range(int(of.max()) + 1)])
