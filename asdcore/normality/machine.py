"""One machine: the normality models of its scorers, fused and calibrated, and their verdict."""

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from asdcore.arrays import Arrays, Floats, with_prefix
from asdcore.errors import AsdError, BadRecording
from asdcore.explanation.profile import Profile
from asdcore.normality.base import NormalityModel, model_from_arrays
from asdcore.normality.calibration import Calibration
from asdcore.normality.fusion import Fusion
from asdcore.recordings.formats import Formats

VERDICT = ["score", "p_value", "verdict", "decision", "triggered_by"]
"""columns of a verdict"""
NORMAL, SUSPECT, ANOMALOUS = "normal", "suspect", "anomalous"
JOINED_BY = "+"
"""between the scorers that triggered an alarm together"""
QUANTILE = 0.75
"""of the scores of a recording's clips that is the score of the recording; see `MachineModel.judge`"""
Vectors = Mapping[str, NDArray[np.floating]]
"""scorer: (n, p), one row per clip, see `asdcore.normality.scorers`"""


@dataclass(frozen=True)
class Judged:
    """A recording and its clips, judged."""

    verdict: Mapping[str, Any]
    """of the recording: the columns `VERDICT`, and ``in_training``: whether the machine was fitted on it"""
    clips: Mapping[str, NDArray[Any]]
    """the columns `VERDICT`, (m,) each: one value per clip"""

    @property
    def strangest(self) -> int:
        """The clip with the highest score, counted from 0."""
        return int(self.clips["score"].argmax())


class MachineModel:
    """What is normal for one machine: a fitted normality model for each scorer, fused and calibrated.

    The score is the distance of a single scorer, or the `Fusion` of several. One `Calibration` of the scores of the
    left-out training recordings gives the p-value, so that the false-alarm rate is kept whatever the scorers do.

    Args:
        models: scorer: its model, fitted on the same recordings in the same order, with left-out distances.
        profile: what its spectra usually look like, for explanations; no part of a verdict.
        groups: (n,) session of each training clip, as the models were fitted with; None: each by itself.
        clips: (n,) names of the training clips, see `asdcore.recordings.clips`; None: unknown.
        clip_seconds: a recording of at least twice this is cut into clips of about this length.
        formats: codecs and sample rates of the recordings that it was fitted on; None: unknown.

    Attributes:
        models: scorer: model.
        calibrations: scorer: calibration of its own distances; they tell which scorers trigger an alarm.
        fusion: None for a single scorer.
        calibration: of the scores.

    Raises:
        AsdError: no scorer, or one without left-out distances, or fitted on other recordings.

    >>> rng = np.random.default_rng(0)
    >>> from asdcore.normality.gaussian import MaximumLikelihood
    >>> vectors = {scorer: rng.normal(size=(200, 4)) for scorer in ("spectrum", "embedding")}
    >>> machine = MachineModel({scorer: MaximumLikelihood().fit(X) for scorer, X in vectors.items()})
    >>> strange = {"embedding": np.zeros((1, 4)), "spectrum": np.full((1, 4), 9.0)}
    >>> machine.verdict(strange, 0.01)[["decision", "triggered_by"]].values.tolist()
    [[1, 'spectrum']]
    """

    def __init__(
        self,
        models: Mapping[str, NormalityModel],
        profile: Profile | None = None,
        groups: ArrayLike | None = None,
        clips: Sequence[str] | None = None,
        clip_seconds: float = math.inf,
        formats: Formats | None = None,
    ) -> None:
        if not models:
            raise AsdError("a machine needs a scorer: its settings name none")
        self.profile = profile
        self.clips = list(clips or ())
        self.clip_seconds = clip_seconds
        self.formats = formats
        self.models: dict[str, NormalityModel] = dict(models)
        self.calibrations: dict[str, Calibration] = {}
        left_out: list[Floats] = []
        for scorer, model in self.models.items():
            if model.left_out_ is None:
                raise AsdError(f"the normality model of the {scorer} has no left-out distances to calibrate it with")
            self.calibrations[scorer] = Calibration().fit(model.left_out_, groups=groups)
            left_out.append(model.left_out_)
        counts = {scorer: model.report_.n for scorer, model in self.models.items()}
        if len(set(counts.values())) > 1:
            fitted = ", ".join(f"{scorer} on {n}" for scorer, n in counts.items())
            raise AsdError(f"the normality models were fitted on different recordings: {fitted}")
        distances = np.column_stack(left_out)
        self.fusion = Fusion().fit(distances, groups=groups) if len(self.models) > 1 else None
        self.calibration = Calibration().fit(self._scores(distances), groups=groups)
        self._left_out = distances
        self._row_of = {name: row for row, name in enumerate(self.clips)}

    @property
    def scorers(self) -> list[str]:
        """Their names, in the order of the models."""
        return list(self.models)

    def check_format(self, codec: str, sample_rate: int, resampled_to: int) -> None:
        """Raise `BadRecording` if a recording cannot be compared with the training ones, see `Formats.objection`."""
        if self.formats and (why := self.formats.objection(codec, sample_rate, resampled_to)):
            raise BadRecording(why)

    def of_any_format(self) -> "MachineModel":
        """This model, without `check_format`: for waveforms of which is known that they can be compared."""
        other = copy(self)
        other.formats = None
        return other

    def verdict(self, vectors: Vectors, false_alarm_rate: float) -> pd.DataFrame:
        """What to think of clips, each by itself.

        Args:
            vectors: scorer: (m, p), for each scorer.
            false_alarm_rate: fraction of normal recordings that may be called anomalous.

        Returns:
            m rows: score, higher is more anomalous: the distance of a single scorer, or the fused score of several;
            p_value: how often a normal recording of this machine, also of another session, has such a score or a higher
            one, see `Calibration`; verdict: ``anomalous`` where the p-value is at most ``false_alarm_rate``,
            ``suspect`` where it is not, because so low a rate is not supported by the recordings, but the score is
            higher than that of every normal recording, or than that of all but as many as the rate allows, else
            ``normal``; decision: 1 for anomalous, else 0; triggered_by: the scorers that call such a recording at least
            suspect by themselves, joined by ``+``, or else the one that finds it strangest; empty if normal.

        Raises:
            AsdError: no vectors for a scorer, or vectors that are not finite, or of another size than those of the fit.
        """
        distances = self._distances(vectors)
        return pd.DataFrame(self._verdict(self._scores(distances), distances, self.calibration, false_alarm_rate))

    def judge(self, vectors: Vectors, false_alarm_rate: float, clips: Sequence[str] | None = None) -> Judged:
        """What to think of one recording, from all its clips.

        Its score is the upper quartile of the scores of its clips, and the p-value that of a clip with this score.
        Measured on a real fan (75 recordings cut into 10 clips; docs/evidence/sessions.md), this keeps the rate of a
        single clip for any number of them, where "any clip is anomalous" alarms twice as often, and finds more than
        their mean does. A recording that the machine was fitted on is judged by what its clips are when they are left
        out, beside the other sessions.

        Args:
            vectors: scorer: (m, p), the clips of the recording.
            false_alarm_rate: as in `verdict`.
            clips: their names, to know those that were trained on; None: a recording that was not.

        Raises:
            AsdError: as `verdict`; no clip.
        """
        distances, calibration = self._distances(vectors), self.calibration
        if not len(distances):
            raise AsdError("a recording without a clip has no verdict")
        known = {index: self._row_of[name] for index, name in enumerate(clips or ()) if name in self._row_of}
        if known:
            distances[list(known)] = self._left_out[list(known.values())]
            others = self.calibration.groups_ != self.calibration.groups_[next(iter(known.values()))]
            if np.isfinite(self.calibration.distances_[others]).any():
                names = self.calibration.groups_[others]
                calibration = Calibration().fit(self.calibration.distances_[others], groups=names)
        scores = self._scores(distances)
        whole = of_clips = self._verdict(scores, distances, calibration, false_alarm_rate)
        if len(scores) > 1:
            quartiles = np.array([[upper_quartile(column) for column in distances.T]])
            whole = self._verdict(np.array([upper_quartile(scores)]), quartiles, calibration, false_alarm_rate)
        verdict = {name: column.tolist()[0] for name, column in whole.items()}
        return Judged(verdict | {"in_training": bool(known)}, of_clips)

    def most_similar(self, vectors: Vectors) -> list[str]:
        """The names of the training clips, the one that is most similar to a clip first.

        By the distances from each of them, fused as those from what is normal are; scorers whose models keep no
        training clips (covariances) do not count.

        Args:
            vectors: scorer: (1, p), of the clip.

        Returns:
            No name if no model keeps them.
        """
        away = {name: model.distances_to_training(vectors[name]) for name, model in self.models.items()}
        if not self.clips or all(distances is None for distances in away.values()):
            return []
        # A scorer that knows none is given what is usual for it.
        usual = np.exp(self.fusion.centre_) if self.fusion is not None else np.ones(len(away))
        columns = [
            np.full(len(self.clips), middle) if distances is None else distances[0]
            for middle, distances in zip(usual, away.values(), strict=True)
        ]
        order = np.argsort(self._scores(np.column_stack(columns)), kind="stable")
        return [self.clips[index] for index in order]

    def _distances(self, vectors: Vectors) -> Floats:
        """(m, k)"""
        missing = [scorer for scorer in self.models if scorer not in vectors]
        if missing:
            raise AsdError(f"no vectors for the scorers {', '.join(missing)}")
        return np.column_stack([model.distance(vectors[scorer]) for scorer, model in self.models.items()])

    def _verdict(
        self, score: Floats, distances: Floats, calibration: Calibration, false_alarm_rate: float
    ) -> dict[str, NDArray[Any]]:
        """The columns `VERDICT`, (m,) each."""
        p_value = calibration.p_value(score)
        anomalous = p_value <= false_alarm_rate
        strange = anomalous | calibration.suspect(score, false_alarm_rate)
        triggered_by = np.full(len(score), "", dtype=object)
        triggered_by[strange] = self._triggered_by(distances[strange], false_alarm_rate)
        columns = (
            score,
            p_value,
            np.select([anomalous, strange], [ANOMALOUS, SUSPECT], NORMAL).astype(object),
            anomalous.astype(np.int64),
            triggered_by,
        )
        return dict(zip(VERDICT, columns, strict=True))

    def _scores(self, distances: Floats) -> Floats:
        """(m, k) distances to (m,) scores."""
        return distances[:, 0] if self.fusion is None else self.fusion.score(distances)

    def _triggered_by(self, distances: Floats, rate: float) -> NDArray[np.object_]:
        """The names for each row, all of them strange."""
        names = np.array(self.scorers, dtype=object)
        if self.fusion is None or not len(distances):
            return np.full(len(distances), names[0], dtype=object)
        own = np.column_stack(
            [
                calibration.suspect(column, rate)
                for calibration, column in zip(self.calibrations.values(), distances.T, strict=True)
            ]
        )
        strangest = self.fusion.standardised(distances).argmax(axis=1)
        rows = [
            JOINED_BY.join(names[calls]) if calls.any() else names[most]
            for calls, most in zip(own, strangest, strict=True)
        ]
        return np.array(rows, dtype=object)

    def to_arrays(self) -> Arrays:
        """Everything fitted, as arrays without objects, for an npz file."""
        parts = {f"scorer.{scorer}": model.to_arrays() for scorer, model in self.models.items()}
        if self.profile is not None:
            parts["profile"] = self.profile.to_arrays()
        arrays = {f"{part}/{name}": values for part, arrays in parts.items() for name, values in arrays.items()}
        of_training = {"groups": self.calibration.groups_, "clips": np.array(self.clips, dtype=str)}
        if self.formats is not None:
            of_training |= self.formats.to_arrays()
        return {"scorers": np.array(self.scorers), "clip_seconds": np.array(self.clip_seconds), **of_training, **arrays}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "MachineModel":
        """The machine that `to_arrays` described.

        Raises:
            AsdError: arrays of something else, or of a normality model of a package that is not installed.
        """

        if "scorers" not in arrays:
            raise AsdError(f"arrays {', '.join(sorted(arrays)) or 'of nothing'}: no machine")
        profile = with_prefix(arrays, "profile/")
        models = {
            str(scorer): model_from_arrays(with_prefix(arrays, f"scorer.{scorer}/")) for scorer in arrays["scorers"]
        }
        return cls(
            models,
            Profile.from_arrays(profile) if profile else None,
            arrays["groups"],
            [str(name) for name in arrays["clips"]],
            float(arrays["clip_seconds"]),
            Formats.from_arrays(arrays),
        )

    @classmethod
    def read(cls, path: Path, profile: Path | None = None) -> "MachineModel":
        """The machine that an npz file holds, and the profile that another one does."""
        with np.load(path, allow_pickle=False) as arrays:
            machine = cls.from_arrays(dict(arrays))
        if profile is not None:
            with np.load(profile, allow_pickle=False) as arrays:
                machine.profile = Profile.from_arrays(dict(arrays))
        return machine


def upper_quartile(values: Floats) -> float:
    """What a recording gets from its clips: the `QUANTILE` of (m,) scores or distances."""
    # Between infinite distances there is nothing to interpolate.
    return float(np.quantile(values, QUANTILE, method="linear" if np.isfinite(values).all() else "higher"))
