"""The detector: everything between a recording and its anomaly score, in one object and one folder."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from asdcore import __version__
from asdcore.errors import AsdError
from asdcore.features.spectrogram import Spectrogram, as_stored, spectrogram
from asdcore.home import digest_of_file, whole_folder
from asdcore.normality.calibration import Calibration
from asdcore.normality.models import NormalityModel
from asdcore.progress import progress
from asdcore.recordings.audio import BadRecording, decode, prepare
from asdcore.recordings.names import parse_place
from asdcore.representation.encoder import TrainedEncoder, choose_device
from asdcore.settings import Settings

FORMAT = 1
_DESCRIPTION, _ENCODER, _NORMALITY = "detector.json", "encoder.safetensors", "normality.npz"


@dataclass
class Detector:
    """Settings, encoder and the normality model of each enrolled machine.

    A score needs the recording and this object: no statistics of other recordings that are scored with it.

    >>> detector = Detector.load("detector")                       # doctest: +SKIP
    >>> detector.score(["gearbox/test/monday.wav"])                # doctest: +SKIP
    """

    settings: Settings
    encoder: TrainedEncoder
    models: Mapping[str, NormalityModel]
    """machine: its normality model of h or z, as ``settings.normality.layer`` says"""
    about: dict[str, Any] = field(default_factory=dict)
    """what it was made from: digests, counts, figures; plain JSON"""
    device: torch.device = field(default_factory=lambda: choose_device("cpu"))
    _calibrations: dict[str, Calibration | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def machines(self) -> list[str]:
        return sorted(self.models)

    def score(self, paths: Iterable[str | Path], machine: str | None = None) -> pd.DataFrame:
        """Score audio files: one row each, in their order.

        Args:
            paths: wav or flac files of any length, rate and channel count.
            machine: the machine that all of them are of; None takes it from each file's folder, as `asd ingest` does,
                or the only machine there is.

        Returns:
            path, machine, score (the squared distance, higher is more anomalous), p_value (how often a normal recording
            of this machine is at least as far), decision (1: anomalous, the p-value is at most
            ``settings.normality.false_alarm_rate``; 0: normal) and reason: why a recording that could not be scored was
            not, with NaN for its figures; else empty.

        Raises:
            AsdError: a machine that is not enrolled.
        """
        files = [Path(path) for path in paths]
        machines = [self._machine_of(file, machine) for file in files]
        rows = []
        for file, of in zip(progress(files, "scoring"), machines, strict=True):
            score, reason = float("nan"), ""
            p_value, decision = float("nan"), None
            try:
                waveform = decode(file.read_bytes(), self.settings.recordings).samples
                score = self._distance(waveform, of)
                p_value, decision = self.judge(score, of)
            except OSError as error:
                reason = f"unreadable: {error.strerror}"
            except BadRecording as bad:
                reason = str(bad)
            rows.append((str(file), of, score, p_value, decision, reason))
        table = pd.DataFrame(rows, columns=["path", "machine", "score", "p_value", "decision", "reason"])
        return table.astype({"decision": "Int64"})

    def score_waveform(self, samples: NDArray[np.floating], sample_rate: int, machine: str | None = None) -> float:
        """The anomaly score of (n_samples,) or (n_samples, n_channels), full scale at 1, at ``sample_rate`` Hz.

        Raises:
            AsdError: a machine that is not enrolled, or a waveform that no recording would be taken with.
        """
        try:
            waveform = prepare(samples, sample_rate, self.settings.recordings)
        except BadRecording as bad:
            raise AsdError(f"this waveform can not be scored: {bad}") from bad
        return self._distance(waveform, self.enrolled(machine))

    def judge(self, score: float, machine: str) -> tuple[float, int | None]:
        """The p-value of a score of ``machine``, and the decision: 1 anomalous, 0 normal.

        NaN and None where the normality model has no leave-one-out distances to judge by (``elliptic`` without folds).
        """
        if machine not in self._calibrations:
            distances = getattr(self.models[machine], "leave_one_out_", None)
            self._calibrations[machine] = None if distances is None else Calibration().fit(distances)
        calibration = self._calibrations[machine]
        if calibration is None:
            return float("nan"), None
        p_value = float(calibration.p_value(score))
        return p_value, int(p_value <= self.settings.normality.false_alarm_rate)

    def embed(self, spectrograms: Iterable[Spectrogram]) -> Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """h and z of each (n_mels, n_frames) log-mel spectrogram, dB."""
        yield from embeddings(self.encoder, spectrograms, self.device)

    def enrolled(self, machine: str | None) -> str:
        """``machine`` if it is enrolled; the only one there is for None.

        Raises:
            AsdError: it is not enrolled, or must be named; lists the enrolled ones.
        """
        if machine is None and len(self.models) == 1:
            return self.machines[0]
        if machine is None or machine not in self.models:
            what = "name the machine" if machine is None else f"machine {machine!r} is not enrolled"
            raise AsdError(f"{what}; this detector knows {', '.join(self.machines)}")
        return machine

    def _machine_of(self, file: Path, machine: str | None) -> str:
        if machine is not None or len(self.models) == 1:
            return self.enrolled(machine)
        found = parse_place(file.resolve()).machine
        if found not in self.models:
            raise AsdError(
                f"{file}: its folder says machine {found!r}, which is not enrolled; "
                f"name one of {', '.join(self.machines)}"
            )
        return found

    def _distance(self, waveform: NDArray[np.float32], machine: str) -> float:
        values = as_stored(spectrogram(waveform, self.settings.recordings.sample_rate, self.settings.mel))
        h, z = next(iter(self.embed([values])))
        embedding = h if self.settings.normality.layer == "h" else z
        return float(self.models[machine].distance(embedding[None])[0])

    def save(self, folder: str | Path) -> None:
        """Write detector.json, encoder.safetensors and normality.npz: the folder appears whole or not at all."""
        with whole_folder(Path(folder)) as temporary:
            self.encoder.save(temporary / _ENCODER)
            arrays = {
                f"{index}.{name}": values
                for index, machine in enumerate(self.machines)
                for name, values in self.models[machine].to_arrays().items()
            }
            np.savez(temporary / _NORMALITY, allow_pickle=False, **arrays)
            description = {
                "format": FORMAT,
                "asd": __version__,
                "machines": self.machines,
                "settings": self.settings.model_dump(mode="json"),
                "about": self.about,
                "sha256": {name: digest_of_file(temporary / name) for name in (_ENCODER, _NORMALITY)},
            }
            (temporary / _DESCRIPTION).write_text(json.dumps(description, indent=2))

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> "Detector":
        """Read what `save` wrote. Nothing in it is executed: no pickle.

        Raises:
            AsdError: no detector there, of a newer format, or a file whose digest is not the one that was saved.
        """
        folder = Path(folder)
        try:
            description = json.loads((folder / _DESCRIPTION).read_text())
            if description["format"] > FORMAT:
                raise AsdError(f"{folder}: made by asd {description['asd']}, a newer version than this {__version__}")
            settings = Settings.model_validate(description["settings"])
            machines, about, digests = (description[name] for name in ("machines", "about", "sha256"))
            for name in (_ENCODER, _NORMALITY):
                if not (folder / name).is_file() or digest_of_file(folder / name) != digests[name]:
                    raise AsdError(f"{folder / name}: missing or damaged; register or retrain this detector again")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AsdError(f"{folder / _DESCRIPTION}: no description of a detector ({error!r})") from error
        with np.load(folder / _NORMALITY, allow_pickle=False) as arrays:
            models = {
                machine: NormalityModel.from_arrays(_with_prefix(arrays, f"{index}."))
                for index, machine in enumerate(machines)
            }
        return cls(settings, TrainedEncoder.load(folder / _ENCODER), models, about, choose_device(device))


def embeddings(
    encoder: TrainedEncoder, spectrograms: Iterable[Spectrogram], device: torch.device
) -> Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """h and z of each (n_mels, n_frames) log-mel spectrogram, dB, by the normalisation that the encoder has."""
    normalised = (torch.from_numpy(np.ascontiguousarray(encoder.normalisation(values))) for values in spectrograms)
    for h, z in encoder.embed(normalised, device):
        yield h.numpy(), z.numpy()


def _with_prefix(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
