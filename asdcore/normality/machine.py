"""One machine, two eyes: the normality models of its embeddings and of its spectra, and their verdict."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.normality.calibration import Calibration
from asdcore.normality.embeddings import Arrays
from asdcore.normality.fusion import fuse
from asdcore.normality.models import NormalityModel
from asdcore.normality.profile import Profile

Eye = Literal["embedding", "spectrum"]
Eyes = Literal["embedding", "spectrum", "both"]
EYES: tuple[Eye, ...] = ("embedding", "spectrum")
VERDICT = ["score", "p_value", "extrapolated", "decision", "seen_by"]
EMBEDDING_WEIGHT = 0.25
"""The spectrum counts three times as much: it found more of nearly every kind of fault, in machines that an encoder was
trained on and in others, and the embedding still adds what the spectrum is blind to (docs/representation.md)."""
Vectors = Mapping[Eye, NDArray[np.floating]]
"""eye: (n, p), one row a recording: h or z of the encoder; the spectrum statistic, dB"""


class MachineModel:
    """What is normal for one machine: a fitted normality model for each eye, calibrated.

    Args:
        models: of both eyes, fitted on the same recordings in the same order, with their leave-one-out distances.
        profile: what its spectra usually look like, for explanations; no part of a verdict.

    Raises:
        AsdError: an eye without a model, without leave-one-out distances, or fitted on other recordings than the other.

    >>> rng = np.random.default_rng(0)
    >>> vectors = {eye: rng.normal(size=(200, 4)) for eye in EYES}
    >>> machine = MachineModel({eye: NormalityModel("ml").fit(X) for eye, X in vectors.items()})
    >>> strange = {"embedding": np.zeros((1, 4)), "spectrum": np.full((1, 4), 9.0)}
    >>> machine.verdict(strange, "both", 0.01)[["decision", "seen_by"]].values.tolist()
    [[1, 'spectrum']]
    """

    def __init__(self, models: Mapping[Eye, NormalityModel], profile: Profile | None = None) -> None:
        self.profile = profile
        self.models: dict[Eye, NormalityModel] = {}
        self.calibrations: dict[Eye, Calibration] = {}
        for eye in EYES:
            if not hasattr(models.get(eye), "leave_one_out_"):
                raise AsdError(f"the normality model of the {eye} has no leave-one-out distances to calibrate it with")
            self.models[eye] = models[eye]
            self.calibrations[eye] = Calibration().fit(models[eye].leave_one_out_)
        n, others = (len(self.calibrations[eye].distances_) for eye in EYES)
        if n != others:
            raise AsdError(
                f"the normality model of the embedding was fitted on {n} recordings, that of the spectrum on {others}: "
                "they must be the same"
            )

    def verdict(self, vectors: Vectors, eyes: Eyes, false_alarm_rate: float) -> pd.DataFrame:
        """What to think of recordings.

        Args:
            vectors: eye: (m, p), for both eyes.
            eyes: which of them count.
            false_alarm_rate: share of normal recordings that may be called anomalous.

        Returns:
            m rows: score, higher is more anomalous: the squared distance of the one eye, or of both -log10 of the fused
            p-value; p_value: how often a normal recording of this machine looks as anomalous or more; extrapolated:
            whether the eye that finds it stranger knows no normal recording so far out; decision: 1, anomalous, where
            the p-value is at most ``false_alarm_rate``, else 0; seen_by: which eyes call an anomalous recording so on
            their own (embedding, spectrum or both), or the one that finds it stranger; empty for a normal one.

        Raises:
            AsdError: vectors that are not finite, or of another size than those of the fit.
        """
        distances = {eye: self.models[eye].distance(vectors[eye]) for eye in EYES}
        p = np.column_stack([self.calibrations[eye].p_value(distances[eye]) for eye in EYES])
        if eyes == "both":
            p_value = fuse(p, weight=EMBEDDING_WEIGHT)
            score = 0.0 - np.log10(p_value)
            beyond = np.column_stack([self.calibrations[eye].extrapolated(distances[eye]) for eye in EYES])
            extrapolated = beyond[np.arange(len(p)), p.argmin(axis=1)]
        else:
            p_value = p[:, EYES.index(eyes)]
            score, extrapolated = distances[eyes], self.calibrations[eyes].extrapolated(distances[eyes])
        anomalous = p_value <= false_alarm_rate
        stranger = np.where(p[:, 0] <= p[:, 1], *EYES)
        both = (p <= false_alarm_rate).all(axis=1)
        seen_by = np.where(both, "both", stranger) if eyes == "both" else np.full(len(p), eyes)
        columns = (score, p_value, extrapolated, anomalous.astype(np.int64), np.where(anomalous, seen_by, ""))
        return pd.DataFrame(dict(zip(VERDICT, columns, strict=True)))

    def to_arrays(self) -> Arrays:
        """Everything fitted, as arrays without objects, for an npz file."""
        parts = {str(eye): model.to_arrays() for eye, model in self.models.items()}
        if self.profile is not None:
            parts["profile"] = self.profile.to_arrays()
        return {f"{part}.{name}": values for part, arrays in parts.items() for name, values in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "MachineModel":
        """The machine that `to_arrays` described."""

        def of(part: str) -> dict[str, NDArray[Any]]:
            return {name.removeprefix(f"{part}."): arrays[name] for name in arrays if name.startswith(f"{part}.")}

        profile = of("profile")
        models = {eye: NormalityModel.from_arrays(of(eye)) for eye in EYES}
        return cls(models, Profile.from_arrays(profile) if profile else None)
