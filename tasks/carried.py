"""Machines that a retraining carries over from the champion: `asd enroll` has added them from other recordings."""

from collections.abc import Collection

import pandas as pd

from asdcore.recordings.clips import clip_lengths, cut
from asdcore.recordings.training import hold_out, training_recordings
from asdcore.settings import Settings
from tasks.detector import readable_champion
from tasks.features import complete_features
from tasks.warn import warn

STAY_ENROLLED = "stay_enrolled"
"""In ``Detector.about``: the machines that were enrolled in the champion before it."""


def enrolled_machines() -> list[str]:
    """The machines of the champion that were enrolled in it, or in a champion that it came after."""
    champion = readable_champion()
    if champion is None:
        return []
    enrolled = {*champion.about.get("enrolled", ()), *champion.about.get(STAY_ENROLLED, ())}
    return sorted(enrolled & champion.machines.keys())


def carried_over(trained: Collection[str], recordings: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The clips, with features, of the enrolled machines that are not among the ``trained`` ones.

    The new encoder embeds them as it is, as `asd enroll` would. A machine whose normal recordings no longer suffice is
    left out with a warning: it must not keep the others from learning. ``recordings``: those that there are.
    """
    enrolled = [machine for machine in enrolled_machines() if machine not in trained]
    known = recordings[recordings["machine"].isin(enrolled)].reset_index(drop=True)
    clips = known
    if len(known):
        clips = cut(hold_out(known, settings.gate.held_out_fraction), clip_lengths(known, settings.recordings))
        clips = complete_features(clips, settings, variants=False)
    counts = training_recordings(clips).groupby("machine").size()
    enough = settings.recordings.minimum_training_recordings
    for machine in enrolled:
        n = int(counts.get(machine, 0))
        if n < enough:
            warn(
                f"{machine} was enrolled, but only {n} of its normal recordings can be read, and it needs {enough}: "
                f"the new detector does not know it. `asd enroll {machine} --recordings FOLDER` ingests them again; "
                f"`asd retire {machine}` removes the machine"
            )
        else:
            warn(f"{machine} was enrolled and stays: it is fitted again on {n} normal recordings")
    return clips[clips["machine"].map(counts).fillna(0) >= enough].reset_index(drop=True)
