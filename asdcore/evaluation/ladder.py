"""A ladder of faults: how well detectors tell simulated faults from normal, from barely audible to obvious."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from asdcore.datasets.faults import known_faults
from asdcore.datasets.machines import BUILT_IN_FAULTS, DOMAINS, SAMPLE_RATE
from asdcore.datasets.simulate import waveform
from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.progress import progress
from asdcore.storage.files import digest_of

NORMAL = "normal"


def fault_ladder(
    detectors: Mapping[str, Detector],
    machine: str,
    faults: Sequence[str] = BUILT_IN_FAULTS,
    strengths: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
    *,
    recordings: int = 20,
    seconds: float = 4.0,
    seed: int = 0,
) -> pd.DataFrame:
    """The AUC of each detector for each fault and strength: recordings with the fault against the same without it.

    At strength 0 it is therefore 0.5, and what differs from rung to rung is the fault alone. All detectors hear the
    same recordings. Half of them are of each domain.

    Args:
        detectors: name: detector that was fitted to ``machine``.
        machine: a simulated one, see `asdcore.datasets.machines`.
        faults: names of `asdcore.registry.FAULTS`.
        strengths: of the faults; 0 is none.
        recordings: of each fault and strength, and without a fault.
        seconds: length of a recording; best that of the training recordings.
        seed: the same seed gives the same recordings.

    Returns:
        One row per fault, strength and detector: ``fault, strength, system, auc``; ``auc`` is 0 to 1, 0.5 is chance.

    Raises:
        AsdError: an unknown machine or fault, no recordings, a detector that does not know the machine, or a recording
            that it cannot score, such as one that a strong fault makes too loud.
    """
    if recordings < 1:
        raise AsdError(f"recordings={recordings}: at least 1 is needed")
    for detector in detectors.values():
        detector.enrolled(machine)

    def sounds(fault: str, strength: float) -> list[NDArray[np.float32]]:
        label = NORMAL if fault == NORMAL else "anomaly"
        return [
            waveform(
                machine,
                domain=DOMAINS[index % len(DOMAINS)],
                label=label,
                fault=None if fault == NORMAL else fault,
                strength=strength,
                seconds=seconds,
                rng=np.random.default_rng(int(digest_of("ladder", str(seed), machine, str(index)), 16)),
            )
            for index in range(recordings)
        ]

    def scores(fault: str, strength: float) -> dict[str, list[float]]:
        samples = sounds(fault, strength)
        try:
            return {
                name: [float(detector.score_waveform(one, SAMPLE_RATE, machine)["score"]) for one in samples]
                for name, detector in detectors.items()
            }
        except AsdError as error:
            raise AsdError(f"fault {fault!r} at strength {strength:g}: {error}") from error

    normal = scores(NORMAL, 0.0)
    rungs = [(fault, float(strength)) for fault in known_faults(faults) for strength in strengths]
    rows = []
    for fault, strength in progress(rungs, "ladder of faults"):
        for name, faulty in scores(fault, strength).items():
            truth = [0] * recordings + [1] * recordings
            auc = float(roc_auc_score(truth, [*normal[name], *faulty]))
            rows.append({"fault": fault, "strength": strength, "system": name, "auc": auc})
    return pd.DataFrame(rows, columns=["fault", "strength", "system", "auc"])
