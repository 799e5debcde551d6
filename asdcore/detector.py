"""The detector: everything between a recording and its anomaly score, in one object and one folder."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from asdcore import __version__
from asdcore.arrays import stacked, with_prefix
from asdcore.encoder.embedding import embedding
from asdcore.encoder.frozen import OF_NO_FILE, AnyEncoder, Sound, load_encoder
from asdcore.encoder.network import choose_device
from asdcore.enrolled import enrolled_as, machine_said
from asdcore.errors import AsdError, OutdatedDetectorError
from asdcore.explanation.explanation import Explanation, Triggers, explain
from asdcore.features.spectrogram import Spectrogram, as_stored, spectrogram
from asdcore.heard import Heard, score_table
from asdcore.normality.machine import JOINED_BY, VERDICT, Judged, MachineModel, Vectors
from asdcore.normality.scorers import Embedding, build_scorers, features_of
from asdcore.normality.threshold import Threshold
from asdcore.progress import progress
from asdcore.recordings.audio import (
    BadRecording,
    Measured,
    Waveform,
    combined,
    decode,
    digest_of_audio,
    measure,
    open_audio,
    prepare,
    usable_clips,
)
from asdcore.recordings.clips import Clip, clip_count
from asdcore.recordings.label_words import answers_of
from asdcore.recordings.paths import NOT_UTF8, can_be_told, on_disk, printable
from asdcore.settings import Settings
from asdcore.storage.files import atomic_folder, digest_of_file

FORMAT = 6
_DESCRIPTION, _ENCODER, _NORMALITY = "detector.json", "encoder.safetensors", "normality.npz"


@dataclass
class Detector:
    """Settings, encoder and the model of each enrolled machine.

    A score needs the recording and this object: no statistics of other recordings that are scored with it.

    >>> detector = Detector.load("detector")                       # doctest: +SKIP
    >>> detector.score(["gearbox/test/monday.wav"])                # doctest: +SKIP
    """

    settings: Settings
    encoder: AnyEncoder
    machines: Mapping[str, MachineModel]
    """name: what is normal for it, by the scorers that ``settings.normality`` names"""
    about: dict[str, Any] = field(default_factory=dict)
    """what it was made from: digests, counts, metrics; plain JSON"""
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    """machine: its own threshold; the others are judged at the rate of ``settings.normality``"""
    device: torch.device = field(default_factory=lambda: choose_device("cpu"))

    @classmethod
    def fit(
        cls, recordings: str | Path | pd.DataFrame, settings: Settings = Settings(), workdir: str | Path | None = None
    ) -> "Detector":
        """A detector of these recordings, everything included: see `asdcore.fitting.fit_detector`.

        >>> Detector.fit("simulated", Settings.preset("demo"))         # doctest: +SKIP
        """
        from asdcore.fitting import fit_detector  # It needs this module.

        return fit_detector(recordings, settings, workdir)

    def score(self, paths: Iterable[str | Path], machine: str | None = None) -> pd.DataFrame:
        """Score audio files: one row each, in their order.

        Args:
            paths: audio files that libsndfile reads, of any length, rate and channel count.
            machine: the machine that all of them are of; None takes it from each file's folder, as `asd ingest` does,
                or the only machine there is.

        Returns:
            One row per file: path; recording, the SHA-256 of its content; machine; the columns of
            `MachineModel.verdict`, of which decision is Int64; in_training: whether the detector was fitted on it, and
            the verdict is that of a model without it; clips: how many it was cut into; strangest_at: where the
            strangest of them starts, seconds; treatment: see `Waveform`; and reason: why a recording could not be
            scored, with nothing in the columns of the verdict; otherwise empty.

        Raises:
            AsdError: a machine that is not enrolled.
        """
        return score_table(self.listen(paths, machine))

    def listen(self, paths: Iterable[str | Path], machine: str | Sequence[str] | None = None) -> Iterator[Heard]:
        """As `score`, one recording after the other, with everything computed on the way; or a machine for each."""
        files = [Path(path) for path in paths]
        given = [machine] * len(files) if machine is None or isinstance(machine, str) else machine
        machines = [self._machine_of(file, of) for file, of in zip(files, given, strict=True)]
        for file, of in zip(progress(files, "scoring"), machines, strict=True):
            digest, named, file = "", on_disk(file), printable(file)
            try:
                if not can_be_told(named):
                    raise BadRecording(NOT_UTF8)
                digest = digest_of_audio(named, self.settings.recordings)
                yield self._heard(file, digest, of)
            except OSError as error:
                yield Heard(file, of, f"unreadable: {error.strerror}", recording=digest)
            except BadRecording as bad:
                yield Heard(file, of, str(bad), recording=digest)

    def _heard(self, file: Path, digest: str, machine: str) -> Heard:
        clips: list[Clip] = []
        measured: list[Measured] = []
        vectors: list[Vectors] = []
        with open_audio(file, self.settings.recordings.cut_off) as audio:
            self.machines[machine].check_format(audio.codec, audio.sample_rate, self.settings.recordings.sample_rate)
            for clip, waveform in self._usable_clips(audio.read, audio.frames, audio.sample_rate, digest, machine):
                clips.append(clip)
                measured.append(measure(waveform))
                vectors.append(self._vectors(waveform.samples, clip, file))
            whole = combined(measured, audio, self.settings.recordings)
        joined = stacked(vectors)
        judged = self._judged(joined, machine, [clip.name for clip in clips])
        return Heard(file, machine, "", whole, joined, judged.verdict, digest, clips, judged.clips, judged.strangest)

    def listen_at(self, path: Path, machine: str, seconds: float) -> Heard:
        """As `listen`, but only to the clip at so many seconds: quick, however long the recording is.

        Raises:
            AsdError: a machine that is not enrolled, or a recording that cannot be scored.
        """
        clip_seconds = self.machines[self.enrolled(machine)].clip_seconds
        try:
            with open_audio(path, self.settings.recordings.cut_off) as audio:
                count = clip_count(audio.seconds, clip_seconds)
                before = int(seconds * count / audio.seconds + 1e-6)  # The start of a clip is not exact.
            clip = Clip(digest_of_file(on_disk(path)), min(max(before, 0), count - 1) + 1, count)
            vectors = self._vectors(decode(path, self.settings.recordings, clip).samples, clip, path)
        except (OSError, BadRecording) as error:
            raise AsdError(f"{path} cannot be scored: {error}") from error
        judged = self._judged(vectors, machine, [clip.name])
        return Heard(path, machine, "", None, vectors, judged.verdict, clip.recording, [clip], judged.clips)

    def _usable_clips(
        self, read: Callable[[int, int], NDArray[np.float32]], frames: int, sample_rate: int, digest: str, machine: str
    ) -> Iterator[tuple[Clip, Waveform]]:
        count = clip_count(frames / sample_rate, self.machines[machine].clip_seconds)
        return usable_clips(read, frames, sample_rate, count, self.settings.recordings, digest)

    def score_waveform(
        self, samples: NDArray[np.floating], sample_rate: int, machine: str | None = None
    ) -> dict[str, Any]:
        """The verdict on (n_samples,) or (n_samples, n_channels), full scale at 1, at ``sample_rate`` Hz.

        Returns:
            machine, and the columns of `MachineModel.verdict` with their values.

        Raises:
            AsdError: a machine that is not enrolled, or a waveform that no recording would be taken with.
        """
        known = self.enrolled(machine)
        try:
            prepared = prepare(samples)
            self.machines[known].check_format("", sample_rate, self.settings.recordings.sample_rate)
            clips = self._usable_clips(lambda *span: prepared[slice(*span)], len(prepared), sample_rate, "", known)
            vectors = [self._vectors(waveform.samples) for _, waveform in clips]
        except BadRecording as bad:
            raise AsdError(f"this waveform cannot be scored: {bad}") from bad
        verdict = self._judged(stacked(vectors), known).verdict
        return {"machine": known} | {name: verdict[name] for name in VERDICT}

    def explain(
        self, path: str | Path, machine: str | None = None, clip: Clip | None = None, triggered_by: str | None = None
    ) -> Explanation:
        """Where a recording differs from what is usual for its machine: frequencies, times, sentences.

        Args:
            path: wav or flac file.
            machine: as in `score`.
            clip: the part of it to explain; None: the strangest clip.
            triggered_by: as `score` says it; what these scorers find comes first. None: what triggers on the clip, or
                on the recording if ``clip`` is None, too.

        Raises:
            AsdError: a machine that is not enrolled or has no profile, a recording that cannot be scored, or a scorer
                that this detector does not have.
        """
        known = self._machine_of(Path(path), machine)
        try:
            if clip is None:
                heard = self._heard(Path(path), digest_of_file(on_disk(Path(path))), known)
                clip = heard.clips[heard.strangest]
                triggered_by = heard.verdict["triggered_by"] if triggered_by is None else triggered_by
            waveform = decode(Path(path), self.settings.recordings, clip).samples
        except (OSError, BadRecording) as error:
            raise AsdError(f"{path} cannot be explained: {error}") from error
        if triggered_by is None:
            judged = self._judged(self._vectors(waveform, clip, Path(path)), known, [clip.name])
            triggered_by = judged.verdict["triggered_by"]
        return self.explain_clip(waveform, known, triggered_by)

    def explain_clip(self, samples: NDArray[np.float32], machine: str, triggered_by: str) -> Explanation:
        """As `explain`, of a clip that was decoded: (n_samples,) at the sample rate of the settings.

        Raises:
            AsdError: the machine has no profile, or a scorer that this detector does not have.
        """
        profile = self.machines[machine].profile
        if profile is None:
            raise AsdError(f"machine {machine!r} has no profile to explain recordings with; retrain or enroll it again")
        return explain(self._spectrogram(samples), profile, self._triggers(triggered_by))

    def _triggers(self, triggered_by: str) -> Triggers:
        scorers = build_scorers(self.settings.normality)
        names = [name for name in triggered_by.split(JOINED_BY) if name]
        if unknown := [name for name in names if name not in scorers]:
            raise AsdError(
                f"triggered_by={triggered_by!r}: no scorer {', '.join(unknown)}; this detector has {', '.join(scorers)}"
            )
        return {name: scorers[name].traits for name in names}

    def with_machine(self, name: str, machine: MachineModel, about: Mapping[str, Any]) -> "Detector":
        """This detector with one more machine, or another model of a known one; all else is the same.

        ``about``: what the machine was made from; its reliability report goes to those of the others.
        """
        of_machine = dict(about)
        reliability = {**self.about.get("reliability", {}), name: of_machine.pop("reliability", None)}
        enrolled = {**self.about.get("enrolled", {}), name: of_machine}
        about = {**self.about, "reliability": reliability, "enrolled": enrolled}
        return replace(self, machines={**self.machines, name: machine}, about=about)

    def without_machine(self, name: str) -> "Detector":
        """This detector without a machine; all else is the same.

        Raises:
            AsdError: it is not enrolled, or the only one.
        """
        known = self.enrolled(name)
        rest = {other: model for other, model in self.machines.items() if other != known}
        thresholds = {other: threshold for other, threshold in self.thresholds.items() if other != known}
        if not rest:
            raise AsdError(f"{known} is the only machine of this detector: enroll another one first")
        kept = {
            part: {other: about for other, about in self.about.get(part, {}).items() if other != known}
            for part in ("reliability", "enrolled")
        }
        return replace(self, machines=rest, thresholds=thresholds, about={**self.about, **kept})

    def with_name(self, machine: str, name: str) -> "Detector":
        """This detector with another name of a machine, which files in folders of the old name are of; else the same.

        Raises:
            AsdError: it is not enrolled, or the name is another machine's.
        """
        if name in self.machines:
            raise AsdError(f"this detector knows a machine {name} already: two machines cannot become one")
        names = {self.enrolled(machine): name}
        about = dict(self.about)
        for part in ("reliability", "enrolled"):
            if part in about:
                about[part] = {names.get(other, other): facts for other, facts in about[part].items()}
        before = {old: names.get(new, new) for old, new in about.get("renamed", {}).items()}
        return replace(
            self,
            machines={names.get(other, other): model for other, model in self.machines.items()},
            thresholds={names.get(other, other): threshold for other, threshold in self.thresholds.items()},
            about=about | {"renamed": before | names},
        )

    def with_threshold(self, machine: str, threshold: Threshold) -> "Detector":
        """This detector with another threshold of a machine; all else is the same.

        Raises:
            AsdError: it is not enrolled.
        """
        return replace(self, thresholds={**self.thresholds, self.enrolled(machine): threshold})

    def threshold_of(self, machine: str) -> Threshold:
        """The threshold of a machine: its own, or the rate of the settings and an alarm for each recording."""
        return self.thresholds.get(machine, Threshold(self.settings.normality.false_alarm_rate))

    def learned_from_simulated(self, machine: str) -> bool:
        """Whether an enrolled machine was fitted on simulated recordings."""
        return bool(self.about.get("enrolled", {}).get(machine, self.about).get("simulated"))

    def enrolled(self, machine: str | None) -> str:
        """``machine`` if it is enrolled; the only one there is for None.

        Raises:
            AsdError: it is not enrolled, or must be named; lists the enrolled ones.
        """
        if machine is None and len(self.machines) == 1:
            return next(iter(self.machines))
        if machine is None or (known := enrolled_as(machine, self.machines)) is None:
            what = "name the machine" if machine is None else f"machine {machine!r} is not enrolled"
            raise AsdError(f"{what}; this detector knows {', '.join(sorted(self.machines))}")
        return known

    def _machine_of(self, file: Path, machine: str | None) -> str:
        if machine is not None:
            return self.enrolled(machine)
        said = self.machine_said(file)
        if said not in self.machines:
            raise AsdError(
                f"{printable(file)}: its folder says machine {said!r}, which is not enrolled; "
                f"name one of {', '.join(sorted(self.machines))}"
            )
        return said

    def machine_said(self, file: Path) -> str:
        """The machine that the folders of a file name, enrolled or not; or the only enrolled one."""
        answers = answers_of(self.settings.recordings.labels)
        return machine_said(file, self.machines, self.about.get("renamed", {}), answers)

    def _vectors(self, waveform: NDArray[np.float32], clip: Clip = OF_NO_FILE, path: Path | None = None) -> Vectors:
        """(1, p) for each scorer."""
        values = self._spectrogram(waveform)
        scorers = list(build_scorers(self.settings.normality).values())
        embedded = None
        if any(scorer.needs_encoder for scorer in scorers):
            sound = Sound(waveform, self.settings.recordings.sample_rate, clip, path)
            embedded = Embedding(*embedding(self.encoder, lambda: sound, values, self.device))
        return {name: vector[None] for name, vector in features_of(scorers, values, embedded).items()}

    def _judged(self, vectors: Vectors, machine: str, clips: Sequence[str] | None = None) -> Judged:
        return self.machines[machine].judge(vectors, self.threshold_of(machine).false_alarm_rate, clips)

    def _spectrogram(self, waveform: NDArray[np.float32]) -> Spectrogram:
        return as_stored(spectrogram(waveform, self.settings.recordings.sample_rate, self.settings.mel))

    def save(self, folder: str | Path) -> None:
        """Write detector.json, encoder.safetensors and normality.npz: the folder appears whole or not at all."""
        with atomic_folder(Path(folder)) as temporary:
            self.encoder.save(temporary / _ENCODER)
            arrays = {
                f"{index}.{name}": values
                for index, machine in enumerate(sorted(self.machines))
                for name, values in self.machines[machine].to_arrays().items()
            }
            np.savez(temporary / _NORMALITY, allow_pickle=False, **arrays)
            description = {
                "format": FORMAT,
                "asd": __version__,
                "machines": sorted(self.machines),
                "settings": self.settings.model_dump(mode="json"),
                "about": self.about,
                "thresholds": {machine: asdict(threshold) for machine, threshold in self.thresholds.items()},
                "sha256": {name: digest_of_file(temporary / name) for name in (_ENCODER, _NORMALITY)},
            }
            (temporary / _DESCRIPTION).write_text(json.dumps(description, indent=2))

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> "Detector":
        """Read what `save` wrote. Nothing in it is executed: no pickle.

        Raises:
            AsdError: no detector there, of another format, with a part of a package that is not installed, or a file
                whose digest is not the one that was saved.
        """
        folder = Path(folder)
        try:
            description = json.loads((folder / _DESCRIPTION).read_text())
            if description["format"] > FORMAT:
                raise AsdError(
                    f"{folder}: made by asd {description['asd']}, a newer version than this {__version__}: upgrade"
                )
            if description["format"] < FORMAT:
                raise OutdatedDetectorError(
                    f"{folder}: made by asd {description['asd']}, which this {__version__} cannot read: `asd retrain` "
                    "fits it again; recordings, labels and scores are kept"
                )
            settings = Settings.model_validate(description["settings"])
            names, about, digests = (description[name] for name in ("machines", "about", "sha256"))
            thresholds = {machine: Threshold(**values) for machine, values in description["thresholds"].items()}
            for name in (_ENCODER, _NORMALITY):
                if not (folder / name).is_file() or digest_of_file(folder / name) != digests[name]:
                    raise AsdError(f"{folder / name}: missing or damaged; register or retrain this detector again")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AsdError(f"{folder / _DESCRIPTION}: no description of a detector ({error!r})") from error
        with np.load(folder / _NORMALITY, allow_pickle=False) as arrays:
            machines = {
                machine: MachineModel.from_arrays(with_prefix(arrays, f"{index}."))
                for index, machine in enumerate(names)
            }
        encoder = load_encoder(folder / _ENCODER)
        return cls(settings, encoder, machines, about, thresholds, choose_device(device))
