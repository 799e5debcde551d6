"""Which recordings of a folder sound wrong? No label, no detector: each is judged by the others of its machine."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asdcore.encoder.base import load_base
from asdcore.encoder.embedding import embeddings
from asdcore.encoder.network import TrainedEncoder, choose_device
from asdcore.errors import AsdError
from asdcore.features.spectrogram import as_stored, spectrogram
from asdcore.normality.machine import Vectors
from asdcore.normality.scorers import Embedding, Scorer, build_scorers, features_of
from asdcore.normality.screening import SCREENED, first_to_hear, screened
from asdcore.progress import progress
from asdcore.recordings.audio import BadRecording, digest_of_audio, open_audio, usable_clips
from asdcore.recordings.clips import SHORTEST, Clip, clip_count
from asdcore.recordings.fetch import fetched
from asdcore.recordings.found import Found
from asdcore.recordings.health import NONE, Flaws
from asdcore.recordings.label_words import answers_of
from asdcore.recordings.names import find_recordings
from asdcore.settings import Settings
from asdcore.threads import one_blas_thread

_RANKED = [name for name in SCREENED if name not in ("recording", "strangest")]
COLUMNS = ["machine", *_RANKED, "path", "clips", "strangest_at", "treatment", "reason"]


@dataclass(frozen=True)
class Opened:
    """A recording that can be opened."""

    found: Found
    digest: str
    seconds: float
    codec: str
    """see `asdcore.recordings.formats`"""
    band: int
    """Hz: its sample rate, or that to which all are resampled if it is lower"""
    treatment: str
    """of the file, see `asdcore.recordings.audio.Waveform`"""

    @property
    def path(self) -> Path:
        return self.found.path


@dataclass
class Listened:
    """What was heard of one machine: its clips, those of a recording one after the other."""

    recordings: list[Opened] = field(default_factory=list)
    """those that were ranked"""
    paths: list[str] = field(default_factory=list)
    """of the recording of each clip"""
    clips: list[Clip] = field(default_factory=list)
    features: list[dict[str, Any]] = field(default_factory=list)
    """of each clip: scorer: (p,)"""
    treatments: dict[str, str] = field(default_factory=dict)
    """path: what was done to get the waveform, and what is wrong with it"""

    def vectors(self) -> Vectors:
        """scorer: (n, p), one row per clip."""
        scorers = self.features[0] if self.features else ()
        return {scorer: np.stack([row[scorer] for row in self.features]) for scorer in scorers}


@dataclass(frozen=True)
class Screening:
    """A screened folder."""

    table: pd.DataFrame
    """as `screen` gives it"""
    machines: Mapping[str, Listened]
    """of the ranked machines"""
    settings: Settings
    encoder: TrainedEncoder


def screen(place: str | Path, machine: str | None = None, settings: Settings = Settings()) -> pd.DataFrame:
    """Rank the recordings of each machine of a folder, the strangest first. See `asdcore.normality.screening`.

    No label is used, whatever names and manifest say, and no encoder is trained: embeddings are those of the base
    encoder. The files are only read.

    Args:
        place: a folder or manifest CSV, as `asd ingest` takes them.
        machine: whose recordings they are where no folder says it.
        settings: of recordings, mel and normality; others do not matter.

    Returns:
        One row per file: machine; rank, score, stands_out, times_usual and found_by as `screened` gives them; path;
        clips: how many it was cut into; strangest_at: where the strangest of them starts, seconds; treatment: see
        `asdcore.recordings.audio.Waveform`; reason: why it could not be ranked, with nothing else in its row, otherwise
        empty.

    Raises:
        AsdError: no such folder, no audio file there that can be read, or a wrong manifest.

    >>> screen("recordings")                                       # doctest: +SKIP
    """
    return listen_and_screen(place, machine, settings).table


def listen_and_screen(place: str | Path, machine: str | None = None, settings: Settings = Settings()) -> Screening:
    """As `screen`, with everything that was heard on the way."""
    found = find_recordings(fetched(Path(place)), machine, answers_of(settings.recordings.labels))
    opened, reasons = _opened(found, settings)
    scorers = list(build_scorers(settings.normality).values())
    encoder = load_base()
    tables, machines = [], {}
    for name in sorted({one.found.machine for one in opened}):
        own = [one for one in opened if one.found.machine == name]
        table, heard = _screened(name, own, scorers, encoder, settings, reasons)
        tables.append(table)
        if len(table):
            machines[name] = heard
    refused = pd.DataFrame([{"machine": of, "path": str(path), "reason": why} for (of, path), why in reasons.items()])
    table = pd.concat([*tables, refused], ignore_index=True).reindex(columns=COLUMNS)
    for text in ("reason", "found_by", "treatment"):
        table[text] = table[text].astype(object).fillna("")
    table = table.astype({"rank": "Int64", "clips": "Int64", "stands_out": "boolean", "strangest_at": float})
    return Screening(table, machines, settings, encoder)


def sentences(table: pd.DataFrame) -> list[str]:
    """What to say of each machine of the table that `screen` has made."""
    ranked = table[table["reason"] == ""]
    return [first_to_hear(str(machine), own) for machine, own in ranked.groupby("machine")]


def _opened(found: Sequence[Found], settings: Settings) -> tuple[list[Opened], dict[tuple[str, Path], str]]:
    """The files of different content that can be opened, and why the others are not ranked."""
    opened: list[Opened] = []
    reasons: dict[tuple[str, Path], str] = {}
    first: dict[tuple[str, str], Path] = {}
    for one in progress(found, "opening"):
        try:
            if not one.machine:
                raise BadRecording(one.problem)
            digest = digest_of_audio(one.path, settings.recordings)
            with open_audio(one.path, settings.recordings.cut_off) as audio:
                band = min(audio.sample_rate, settings.recordings.sample_rate)
                treatment = audio.treatment(settings.recordings, NONE)
                new = Opened(one, digest, audio.seconds, audio.codec, band, treatment)
            # Twice the same sound would vouch for itself.
            if (known := first.get((one.machine, digest))) is not None:
                raise BadRecording(f"the same content as {known}" if known != one.path else "listed twice")
            first[one.machine, digest] = one.path
            opened.append(new)
        except BadRecording as bad:
            reasons[one.machine, one.path] = str(bad)
        except OSError as error:
            reasons[one.machine, one.path] = f"unreadable: {error.strerror}"
    return _comparable(opened, reasons), reasons


def _comparable(opened: Sequence[Opened], reasons: dict[tuple[str, Path], str]) -> list[Opened]:
    """Keep those with the codec and band of most recordings of their machine; add why not the others to the reasons."""
    usual = {
        machine: Counter((one.codec, one.band) for one in opened if one.found.machine == machine).most_common(1)[0][0]
        for machine in {one.found.machine for one in opened}
    }
    comparable = []
    for one in opened:
        codec, band = usual[one.found.machine]
        if one.codec != codec:
            kind = f"lossy: {one.codec}" if one.codec else "lossless"
            why = f"{kind}, where most recordings are {f'lossy: {codec}' if codec else 'lossless'}"
        elif one.band != band:
            why = f"another band: {one.band} Hz, where most recordings have {band} Hz"
        else:
            comparable.append(one)
            continue
        reasons[one.found.machine, one.path] = why
    return comparable


def _screened(
    machine: str,
    opened: Sequence[Opened],
    scorers: Sequence[Scorer],
    encoder: TrainedEncoder,
    settings: Settings,
    reasons: dict[tuple[str, Path], str],
) -> tuple[pd.DataFrame, Listened]:
    """The rows of one machine, and what was heard; what cannot be used is added to the reasons."""
    seconds = settings.recordings.clip_seconds
    if sum(clip_count(one.seconds, seconds) for one in opened) < settings.recordings.minimum_training_recordings:
        seconds = min(seconds, SHORTEST)
    heard, first = Listened(), dict[bytes, Path]()
    for one in progress(opened, machine):
        try:
            with one_blas_thread():
                made = list(_clips(one, seconds, scorers, encoder, settings))
            sound = b"".join(values.tobytes() for _, features, _ in made for values in features.values())
            if first.setdefault(sound, one.path) != one.path:
                raise BadRecording(f"the same sound as {first[sound]}")
        except (BadRecording, OSError) as error:
            reasons[machine, one.path] = str(error)
            continue
        heard.recordings.append(one)
        heard.paths += [str(one.path)] * len(made)
        heard.clips += [clip for clip, _, _ in made]
        heard.features += [features for _, features, _ in made]
        flaws = sum((flaws for _, _, flaws in made[1:]), made[0][2])
        heard.treatments[str(one.path)] = "; ".join(filter(None, [one.treatment, *flaws.remarks()]))
    try:
        table = screened(heard.vectors(), {scorer.name: scorer.model() for scorer in scorers}, heard.paths)
    except AsdError as error:
        reasons.update({(machine, Path(path)): str(error) for path in dict.fromkeys(heard.paths)})
        return pd.DataFrame(columns=COLUMNS), heard
    clips = pd.Series(heard.paths).value_counts()
    lengths = {str(one.path): one.seconds for one in heard.recordings}
    strangest = [heard.clips[row] for row in table["strangest"]]
    starts = [clip.start(lengths[path]) for path, clip in zip(table["recording"], strangest, strict=True)]
    table = table.rename(columns={"recording": "path"})
    table["treatment"] = table["path"].map(heard.treatments)
    return table.assign(machine=machine, clips=table["path"].map(clips), strangest_at=starts, reason=""), heard


def _clips(
    one: Opened, seconds: float, scorers: Sequence[Scorer], encoder: TrainedEncoder, settings: Settings
) -> Iterator[tuple[Clip, dict[str, Any], Flaws]]:
    """Each clip that can be used, its features, and what is wrong with it.

    Raises:
        BadRecording: none can, or the file is cut off.
    """
    with open_audio(one.path, settings.recordings.cut_off) as audio:
        count = clip_count(one.seconds, seconds)
        usable = usable_clips(audio.read, audio.frames, audio.sample_rate, count, settings.recordings, one.digest)
        for clip, waveform in usable:
            values = as_stored(spectrogram(waveform.samples, settings.recordings.sample_rate, settings.mel))
            ((h, z),) = embeddings(encoder, [values], choose_device("cpu"))
            yield clip, features_of(scorers, values, Embedding(h, z)), waveform.flaws
