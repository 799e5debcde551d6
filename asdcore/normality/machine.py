"""One machine, two scorers: the normality models of its embeddings and of its spectra, and their verdict."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.explanation.profile import Profile
from asdcore.normality.calibration import Calibration
from asdcore.normality.embeddings import Arrays
from asdcore.normality.fusion import fuse
from asdcore.normality.models import NormalityModel

Scorer = Literal["embedding", "spectrum"]
Scorers = Literal["embedding", "spectrum", "both"]
SCORERS: tuple[Scorer, ...] = ("embedding", "spectrum")
VERDICT = ["score", "p_value", "extrapolated", "decision", "triggered_by"]
EMBEDDING_WEIGHT = 0.25
"""The spectrum counts three times as much: it found more of nearly every kind of fault, in machines that an encoder was
trained on and in others, and the embedding still adds what the spectrum is blind to
(docs/evidence/representation.md)."""
Vectors = Mapping[Scorer, NDArray[np.floating]]
"""scorer: (n, p), one row a recording: h or z of the encoder; the spectrum statistic, dB"""


class MachineModel:
    """What is normal for one machine: a fitted normality model for each scorer, calibrated.

    Args:
        models: of both scorers, fitted on the same recordings in the same order, with their leave-one-out distances.
        profile: what its spectra usually look like, for explanations; no part of a verdict.

    Raises:
        AsdError: a scorer without a model, without leave-one-out distances, or fitted on other recordings.

    >>> rng = np.random.default_rng(0)
    >>> vectors = {scorer: rng.normal(size=(200, 4)) for scorer in SCORERS}
    >>> machine = MachineModel({scorer: NormalityModel("ml").fit(X) for scorer, X in vectors.items()})
    >>> strange = {"embedding": np.zeros((1, 4)), "spectrum": np.full((1, 4), 9.0)}
    >>> machine.verdict(strange, "both", 0.01)[["decision", "triggered_by"]].values.tolist()
    [[1, 'spectrum']]
    """

    def __init__(self, models: Mapping[Scorer, NormalityModel], profile: Profile | None = None) -> None:
        self.profile = profile
        self.models: dict[Scorer, NormalityModel] = {}
        self.calibrations: dict[Scorer, Calibration] = {}
        for scorer in SCORERS:
            if not hasattr(models.get(scorer), "leave_one_out_"):
                raise AsdError(
                    f"the normality model of the {scorer} has no leave-one-out distances to calibrate it with"
                )
            self.models[scorer] = models[scorer]
            self.calibrations[scorer] = Calibration().fit(models[scorer].leave_one_out_)
        n, others = (len(self.calibrations[scorer].distances_) for scorer in SCORERS)
        if n != others:
            raise AsdError(
                f"the normality model of the embedding was fitted on {n} recordings, that of the spectrum on {others}: "
                "they must be the same"
            )

    def verdict(self, vectors: Vectors, scorers: Scorers, false_alarm_rate: float) -> pd.DataFrame:
        """What to think of recordings.

        Args:
            vectors: scorer: (m, p), for both scorers.
            scorers: which of them count.
            false_alarm_rate: share of normal recordings that may be called anomalous.

        Returns:
            m rows: score, higher is more anomalous: the squared distance of the one scorer, or of both -log10 of the
            fused p-value; p_value: how often a normal recording of this machine looks as anomalous or more;
            extrapolated: whether the scorer that finds it stranger knows no normal recording so far out; decision: 1,
            anomalous, where the p-value is at most ``false_alarm_rate``, else 0; triggered_by: which scorers call an
            anomalous recording so on their own (embedding, spectrum or both), or the one that finds it stranger; empty
            for a normal one.

        Raises:
            AsdError: vectors that are not finite, or of another size than those of the fit.
        """
        distances = {scorer: self.models[scorer].distance(vectors[scorer]) for scorer in SCORERS}
        p = np.column_stack([self.calibrations[scorer].p_value(distances[scorer]) for scorer in SCORERS])
        if scorers == "both":
            p_value = fuse(p, weight=EMBEDDING_WEIGHT)
            score = 0.0 - np.log10(p_value)
            beyond = np.column_stack([self.calibrations[scorer].extrapolated(distances[scorer]) for scorer in SCORERS])
            extrapolated = beyond[np.arange(len(p)), p.argmin(axis=1)]
        else:
            p_value = p[:, SCORERS.index(scorers)]
            score, extrapolated = distances[scorers], self.calibrations[scorers].extrapolated(distances[scorers])
        anomalous = p_value <= false_alarm_rate
        stranger = np.where(p[:, 0] <= p[:, 1], *SCORERS)
        both = (p <= false_alarm_rate).all(axis=1)
        triggered_by = np.where(both, "both", stranger) if scorers == "both" else np.full(len(p), scorers)
        columns = (score, p_value, extrapolated, anomalous.astype(np.int64), np.where(anomalous, triggered_by, ""))
        return pd.DataFrame(dict(zip(VERDICT, columns, strict=True)))

    def to_arrays(self) -> Arrays:
        """Everything fitted, as arrays without objects, for an npz file."""
        parts = {str(scorer): model.to_arrays() for scorer, model in self.models.items()}
        if self.profile is not None:
            parts["profile"] = self.profile.to_arrays()
        return {f"{part}.{name}": values for part, arrays in parts.items() for name, values in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "MachineModel":
        """The machine that `to_arrays` described."""

        def of(part: str) -> dict[str, NDArray[Any]]:
            return {name.removeprefix(f"{part}."): arrays[name] for name in arrays if name.startswith(f"{part}.")}

        profile = of("profile")
        models = {scorer: NormalityModel.from_arrays(of(scorer)) for scorer in SCORERS}
        return cls(models, Profile.from_arrays(profile) if profile else None)

    @classmethod
    def read(cls, path: Path, profile: Path | None = None) -> "MachineModel":
        """The machine that an npz file holds, and the profile that another one does."""
        with np.load(path, allow_pickle=False) as arrays:
            machine = cls.from_arrays(dict(arrays))
        if profile is not None:
            with np.load(profile, allow_pickle=False) as arrays:
                machine.profile = Profile.from_arrays(dict(arrays))
        return machine
