"""Which recordings train, which wait for a person, and which are held out for the gate."""

from collections.abc import Mapping

import pandas as pd

from asdcore.errors import AsdError
from asdcore.recordings.clips import SHORTEST
from asdcore.recordings.formats import of_one_codec
from asdcore.recordings.sessions import groups_of
from asdcore.storage.files import digest_of

HELD_OUT = "held_out"
"""The split of normal recordings that never train, given by `hold_out` and kept in no file."""
ENOUGH_TO_HOLD_OUT = 50
"""Normal training recordings of a machine; of fewer, all are needed to fit its model."""
ENOUGH_SESSIONS = 5
"""of these recordings; of fewer, each is needed, and all of them could be held out by chance"""


def require_training(clips: pd.DataFrame, minimum: int) -> None:
    """Raise AsdError if a machine has fewer than ``minimum`` normal training ``clips``, see `cut`."""
    if few := _few_training(clips, minimum):
        raise AsdError(_too_few(few, minimum))


def large_enough(clips: pd.DataFrame, minimum: int) -> tuple[pd.DataFrame, dict[str, str]]:
    """The clips of the machines with at least ``minimum`` normal training clips, and why the others are left out.

    Raises:
        AsdError: no machine has as many.
    """
    few = _few_training(clips, minimum)
    enough = clips[~clips["machine"].isin(list(few))].reset_index(drop=True)
    if enough.empty:
        raise AsdError(_too_few(few, minimum))
    return enough, {machine: _too_few({machine: n}, minimum) for machine, n in few.items()}


def _few_training(clips: pd.DataFrame, minimum: int) -> dict[str, int]:
    """The machines with fewer than ``minimum`` normal training clips, and how many each has."""
    machines = sorted(clips["machine"].unique())
    counts = training_recordings(clips).groupby("machine").size().reindex(machines, fill_value=0)
    return {str(machine): int(n) for machine, n in counts.items() if n < minimum}


def _too_few(few: Mapping[str, int], minimum: int) -> str:
    return (
        "too few normal training recordings: "
        + ", ".join(f"{machine} has {n}" for machine, n in few.items())
        + f"; a machine needs {minimum}, or longer ones that can be cut into as many clips of {SHORTEST:g} s. "
        "Record more and ingest them, or `asd forget` what is not a machine."
    )


def pending_review(recordings: pd.DataFrame) -> pd.DataFrame:
    """The training recordings that are not used before a person labels them, see `Catalog.label`."""
    return recordings[(recordings["split"] == "train") & (recordings["label"] == "unknown")].reset_index(drop=True)


def training_recordings(recordings: pd.DataFrame) -> pd.DataFrame:
    """The rows for training: normal, of the train split, and of the codec that most of the machine have."""
    rows = recordings[(recordings["split"] == "train") & (recordings["label"] == "normal")]
    return of_one_codec(rows).reset_index(drop=True)


def hold_out(recordings: pd.DataFrame, share: float) -> pd.DataFrame:
    """The table with about ``share`` of the normal training recordings of some machines put into the split held_out.

    These machines have no labelled anomalies to compare two detectors by, and `ENOUGH_TO_HOLD_OUT` recordings of
    `ENOUGH_SESSIONS` sessions or more. A session is held out as a whole, or none of it. Its own digest decides, that of
    the recording where the session is unknown, so that it is held out of every training for good.
    """
    rows = training_recordings(recordings)
    rows = rows.assign(group=groups_of(rows))
    counts = rows.groupby("machine").agg(n=("recording", "size"), sessions=("group", "nunique"))
    anomalies = recordings[(recordings["split"] == "test") & (recordings["label"] == "anomaly")]
    enough = (counts["n"] >= ENOUGH_TO_HOLD_OUT) & (counts["sessions"] >= ENOUGH_SESSIONS)
    judged = set(counts[enough].index) - set(anomalies["machine"])
    of_session = rows["machine"] + " " + rows["group"]
    digests = rows["recording"].where(rows["session"].fillna("") == "", of_session.map(digest_of))
    drawn = digests.map(lambda digest: int(digest[:8], 16) / 2**32 < share)
    chosen = set(rows.loc[drawn & rows["machine"].isin(judged), "recording"])
    split = recordings["split"].mask(recordings["recording"].isin(chosen), HELD_OUT)
    return recordings.assign(split=split)
