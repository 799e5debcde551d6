"""Scores of recordings that a detector has heard, by the detector and by each of its scorers alone."""

from collections.abc import Sequence

import pandas as pd

from asdcore.detector import Detector
from asdcore.evaluation.systems import DETECTOR, detector_system
from asdcore.heard import Heard
from asdcore.normality.machine import upper_quartile


def scores_of_heard(detector: Detector, heard: Sequence[Heard], described: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What a machine's metrics are computed from, without stores of features.

    Args:
        detector: that has heard them.
        heard: recordings that could be scored.
        described: one row for each of them, such as machine, section, domain, label.

    Returns:
        system: the described rows with score; of the detector with verdict, p_value and triggered_by, too. The
        detector first, and, if it has several scorers, each of them alone, by the names that a retraining gives them.
    """
    verdicts = {name: [one.verdict[name] for one in heard] for name in ("score", "verdict", "p_value", "triggered_by")}
    scorers = detector_system(detector.settings.normality).scorers
    alone = {}
    for scorer, system in scorers if len(scorers) > 1 else ():
        models = [detector.machines[one.machine].models[scorer] for one in heard]
        scores = [
            upper_quartile(model.distance((one.vectors or {})[scorer]))
            for model, one in zip(models, heard, strict=True)
        ]
        alone[system.name] = described.assign(score=scores)
    return {DETECTOR: described.assign(**verdicts), **alone}
