"""Sessions: what was recorded in one go (a day, a microphone put up again, one long file).

Recordings of one session resemble each other more than those of the next, so they are never on both sides of anything
that is left out, held out or compared. Where a session comes from, first that holds: the column ``session`` of a
manifest; folders below the machine's, or a day above it (`asdcore.recordings.folders`); time stamps in file names,
where a new session begins after a gap (`sessions_by_time`). Otherwise it is unknown: an empty text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from asdcore.recordings.clips import recording_of

_STAMP = re.compile(
    r"(?<!\d)((?:19|20)\d{2})[-_.]?(\d{2})[-_.]?(\d{2})[T _-]?"
    r"([01]\d|2[0-3])[-_.:hH]?([0-5]\d)(?:[-_.:mM]?([0-5]\d))?(?!\d)"
)
_UNIX_SECONDS = re.compile(r"(?<!\d)(1[3-9]\d{8})(?!\d)")

PERMUTATIONS = 999
_APART = 0.5
"""Fraction of the median distance of all pairs beyond which two neighbours are taken to be of two sessions."""


def time_stamp(name: str) -> datetime | None:
    """The time that a file name says: a date with hours and minutes, or seconds since 1970 (UTC).

    >>> time_stamp("pump_2026-05-01T10-30-00.wav"), time_stamp("20260501_103000"), time_stamp("0815")
    (datetime.datetime(2026, 5, 1, 10, 30), datetime.datetime(2026, 5, 1, 10, 30), None)
    """
    if match := _STAMP.search(name):
        numbers = [int(part) for part in match.groups(default="0")]
        try:
            return datetime(*numbers)  # type: ignore[arg-type]
        except ValueError:
            return None
    if match := _UNIX_SECONDS.search(name):
        return datetime.fromtimestamp(int(match[1]), UTC).replace(tzinfo=None)
    return None


def sessions_by_time(
    times: Mapping[str, datetime], gap: timedelta, known: Mapping[datetime, str] | None = None
) -> dict[str, str]:
    """Sessions of one machine's recordings: a new one begins after a gap, and is named after its first time.

    Args:
        times: recording (any name): when it was made.
        gap: longer pauses end a session.
        known: times of recordings whose sessions are known: who is near to one of them is of its session.

    >>> at = {"a": datetime(2026, 5, 1, 10, 0), "b": datetime(2026, 5, 1, 10, 40), "c": datetime(2026, 5, 2, 9, 0)}
    >>> sessions_by_time(at, timedelta(hours=1))
    {'a': '2026-05-01T10:00', 'b': '2026-05-01T10:00', 'c': '2026-05-02T09:00'}
    """
    entries: list[tuple[datetime, str, str]] = [(time, name, "") for name, time in times.items()]
    entries += [(time, "", session) for time, session in (known or {}).items()]
    entries.sort()
    runs: list[list[tuple[datetime, str, str]]] = []
    for entry in entries:
        if runs and entry[0] - runs[-1][-1][0] <= gap:
            runs[-1].append(entry)
        else:
            runs.append([entry])
    sessions: dict[str, str] = {}
    for run in runs:
        session = next((name for _, _, name in run if name), run[0][0].isoformat(timespec="minutes"))
        for _, recording, known_session in run:
            session = known_session or session
            if recording:
                sessions[recording] = session
    return sessions


def groups_of(recordings: pd.DataFrame) -> NDArray[np.str_]:
    """(n,): what is left out together: the session of each clip of a machine; where unknown, the clips of a recording.

    Args:
        recordings: one row per recording or clip of one machine: ``recording, session``.
    """
    known = recordings["session"].fillna("") != ""
    alone = "recording " + recordings["recording"].map(recording_of)
    groups = ("session " + recordings["session"].fillna("")).where(known, alone)
    return groups.to_numpy(dtype=str)


@dataclass(frozen=True)
class Dependence:
    """Whether neighbours in an order are nearer to each other than others; see `dependence`."""

    p_value: float
    """of a permutation test: how often a random order has neighbours as near"""
    sessions: int
    """that the recordings seem to be cuts of; their number where no dependence was found"""


def dependence(vectors: NDArray[np.floating], *, level: float = 0.01, seed: int = 0) -> Dependence:
    """Find sessions that nobody has named, from the data: cuts of one long recording follow each other by name.

    Args:
        vectors: (n, p), one row per recording, in the order of their names or times.
        level: p-value below which neighbours count as dependent.
        seed: of the permutations.

    Returns:
        n sessions where fewer than four recordings, or nothing but chance, was found.
    """
    n = len(vectors)
    if n < 4:
        return Dependence(1.0, n)
    distances = squareform(pdist(np.asarray(vectors, dtype=np.float64)))
    rng = np.random.default_rng(seed)
    following = distances[np.arange(n - 1), np.arange(1, n)]
    as_near = 1
    for _ in range(PERMUTATIONS):
        order = rng.permutation(n)
        as_near += distances[order[:-1], order[1:]].mean() <= following.mean()
    p_value = float(as_near / (PERMUTATIONS + 1))
    if p_value > level:
        return Dependence(p_value, n)
    middle = float(np.median(distances[np.triu_indices(n, 1)]))
    return Dependence(p_value, 1 + int((following > _APART * middle).sum()))


def cuts_sentences(spectra: NDArray[np.floating], groups: Sequence[str] | None) -> list[str]:
    """What to say, if anything, of recordings that seem to be cuts of fewer.

    Args:
        spectra: (n, p), the mean spectra of a machine's recordings, in the order of their names.
        groups: n names of what is left out together, see `groups_of`; None: each recording by itself.
    """
    n = len(spectra)
    if groups is not None and len(set(groups)) < n:
        return []
    found = dependence(spectra)
    if found.sessions >= n:
        return []
    sentence = (
        f"Each of the {n} recordings counts as a session of its own, but those that follow each other by name are "
        f"nearer than others (p = {found.p_value:.2g}): they seem to be cuts of {found.sessions}. Then the false-alarm "
        "rate holds for more of the same session only. Name their sessions: folders below the machine's, or the column "
        "session of a manifest."
    )
    return [sentence]
