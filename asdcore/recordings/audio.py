"""From an audio file to a healthy waveform: decode, choose the channel, resample, check.

Every defect is a `BadRecording` whose text is the reason that the table of recordings keeps.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asdcore.errors import BadRecording as BadRecording
from asdcore.progress import progress
from asdcore.recordings import containers
from asdcore.recordings.clips import Clip
from asdcore.recordings.containers import Completed, Content, CutOff, Header, Readable
from asdcore.recordings.formats import codec_of
from asdcore.recordings.health import FULL_SCALE, NONE, Flaws, Health, without_sound
from asdcore.recordings.paths import on_disk
from asdcore.settings import RecordingSettings
from asdcore.storage.files import digest_of_file

UNKNOWN_LENGTH = 2**62  # libsndfile's word for a header that does not say is 2**63 - 1
LONG = 60
"""clips from which on reading one recording is long work, and shows its progress"""
PIECE_SECONDS, PIECE_SAMPLES = 60, 2**24
"""What `examine` holds in memory at a time: of one channel, and of all together, whatever rate a header states."""
LONGEST_HOURS = 24
"""A longer recording is refused."""
LARGE = 2**30
"""Of files of at least this many bytes, the header is checked before the digest is computed."""
RATES = (100, 20_000_000)
"""Hz: plausible sample rates."""


@dataclass(frozen=True)
class Waveform:
    """Samples as the features take them, and what was done to get them."""

    samples: NDArray[np.float32]
    """(n_samples,) float32, full scale at 1, at `RecordingSettings.sample_rate`."""
    sample_rate: int
    """Hz, of the file."""
    channels: int
    seconds: float
    treatment: str
    """What was done, for example ``channel 1 of 8; resampled from 44100 to 16000 Hz``, and what is wrong with it, see
    `asdcore.recordings.health.remarks`; empty if nothing."""
    flaws: Flaws = NONE


@dataclass(frozen=True)
class Measured:
    """What is kept of a waveform, to see how the microphone is."""

    level_dbfs: float
    """RMS, dB of full scale"""
    clipped: float
    """share of samples at full scale"""
    seconds: float
    sample_rate: int
    """Hz, of the file"""
    flaws: Flaws = NONE
    treatment: str = ""
    """see `Waveform`"""


def measure(waveform: Waveform) -> Measured:
    """Level, clipping, length and rate of a decoded recording."""
    exact = waveform.samples.astype(np.float64)
    rms = math.sqrt(exact @ exact / len(exact))
    clipped = np.count_nonzero(np.abs(waveform.samples) >= FULL_SCALE) / len(exact)
    level = 20 * math.log10(max(rms, 1e-10))
    return Measured(level, clipped, waveform.seconds, waveform.sample_rate, waveform.flaws, waveform.treatment)


class AudioFile:
    """An open audio file with a header that was checked; its samples are read in spans. Made by `open_audio`.

    Args:
        file: opened by libsndfile, at its start.
        header: what is wrong with its header.
        again: opens it again, for codecs without seeking.
    """

    def __init__(self, file: soundfile.SoundFile, header: Header, again: Callable[[], soundfile.SoundFile]) -> None:
        self.sample_rate = int(file.samplerate)
        """Hz"""
        self.channels = int(file.channels)
        self.frames = int(file.frames)
        """Samples of each channel."""
        self.codec = codec_of(file.subtype)
        """see `asdcore.recordings.formats`; empty if it is not lossy"""
        self.remarks = [*header.remarks, *([f"lossy: {self.codec}"] if self.codec else [])]
        """what is wrong with it as a file, ``kind: detail`` each"""
        self._file, self._header, self._again = file, header, again
        self._position = 0

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.frames / self.sample_rate

    def treatment(self, settings: RecordingSettings, flaws: Flaws) -> str:
        """What is done to get its waveform and what is wrong with it, as `Waveform` says it."""
        return _treatment(self.channels, self.sample_rate, settings, [*self.remarks, *flaws.remarks()])

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """(stop - start, channels), full scale at 1.

        Raises:
            BadRecording: cut off or damaged there.
        """
        # In pieces: a header may promise more than there is memory.
        piece = self.piece
        parts = [self._read(begin, min(begin + piece, stop)) for begin in range(start, stop, piece)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @property
    def piece(self) -> int:
        """Samples of each channel that are in memory at a time, where a recording is read in pieces."""
        return max(min(PIECE_SECONDS * self.sample_rate, PIECE_SAMPLES // self.channels), 1)

    def _read(self, start: int, stop: int) -> NDArray[np.float32]:
        with _decoding():
            self._go_to(start)
            samples = self._decoded(stop - start)
        if len(samples) < stop - start:
            decoded = start + len(samples)
            raise BadRecording(f"cut off: the header promises {self.frames} samples, {decoded} could be decoded")
        return samples

    def _decoded(self, count: int) -> NDArray[np.float32]:
        """The next samples."""
        samples: NDArray[np.float32]
        if self._header.as_integers:
            integers = self._file.read(count, dtype="int32", always_2d=True)
            samples = (integers / 2.0**31).astype(np.float32)
        else:
            samples = self._file.read(count, dtype="float32", always_2d=True)
        self._position += len(samples)
        return samples

    def _go_to(self, start: int) -> None:
        if self._position == start:
            return
        if self._file.seekable():
            self._position = int(self._file.seek(start))
            return
        if self._position > start:
            self._file, self._position = self._again(), 0
        while self._position < start and len(self._decoded(min(start - self._position, self.piece))):
            pass


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn any exception of a decoder into the reason why this recording cannot be used."""
    try:
        yield
    except BadRecording:
        raise
    except soundfile.LibsndfileError as error:
        raise BadRecording(f"unreadable: {error.error_string.rstrip('.')}") from error
    except Exception as error:
        raise BadRecording(f"unreadable: {type(error).__name__}: {error}") from error


@contextmanager
def open_audio(source: Path | bytes, cut_off: CutOff = "quarantine") -> Iterator[AudioFile]:
    """Open an audio file or its content: what libsndfile decodes, any length up to a day, rate and channel count.

    Args:
        source: the file.
        cut_off: ``use``: of a recording that is cut off, what there is; see `RecordingSettings`.

    Raises:
        BadRecording: unreadable, empty or too long, or the header contradicts the size of the file.
        OSError: the file cannot be opened.
    """
    with _opened(source) as content:
        if not content.read(1):
            raise BadRecording("empty: the file has 0 bytes")
        with _decoding():
            header = containers.checked(content, cut_off)

        def opened() -> soundfile.SoundFile:
            content.seek(0)
            if header.patches or header.prefix:
                return soundfile.SoundFile(Completed(content, header))
            # A descriptor is read by libsndfile itself; only content in memory goes through Python.
            return soundfile.SoundFile(content if isinstance(content, Content) else content.fileno(), closefd=False)

        with _decoding():
            file = opened()
        with file:
            if file.frames == 0:
                raise BadRecording("empty: the file has a header and no samples")
            if not RATES[0] <= file.samplerate <= RATES[1]:
                raise BadRecording(f"unreadable: the header states a sample rate of {file.samplerate} Hz")
            if file.frames >= UNKNOWN_LENGTH:
                raise BadRecording("unreadable: the header does not say how long it is; write the file again")
            hours = file.frames / file.samplerate / 3600
            if hours > LONGEST_HOURS:
                raise BadRecording(f"too long: {hours:.0f} h; cut it into files of at most {LONGEST_HOURS} h")
            yield AudioFile(file, header, opened)


def combined(parts: Sequence[Measured], file: AudioFile, settings: RecordingSettings) -> Measured:
    """What is kept of a recording, from its clips, which are equally long."""
    power = float(np.mean([10 ** (part.level_dbfs / 10) for part in parts]))
    clipped = float(np.mean([part.clipped for part in parts]))
    flaws = parts[0].flaws
    for part in parts[1:]:
        flaws += part.flaws
    treatment = file.treatment(settings, flaws)
    return Measured(10 * math.log10(power), clipped, file.seconds, file.sample_rate, flaws, treatment)


def digest_of_audio(path: Path, settings: RecordingSettings) -> str:
    """SHA-256 of the content of a file.

    Raises:
        BadRecording: a large file that `open_audio` refuses: its digest would take minutes.
        OSError: the file cannot be read.
    """
    file = on_disk(path)
    if file.stat().st_size >= LARGE:
        with open_audio(file, settings.cut_off):
            pass
    return digest_of_file(file)


@contextmanager
def _opened(source: Path | bytes) -> Iterator[Readable]:
    if isinstance(source, bytes):
        yield Content(source)
        return
    with on_disk(source).open("rb", buffering=0) as file:  # libsndfile begins where the descriptor is
        yield file


def decode(source: Path | bytes, settings: RecordingSettings, clip: Clip | None = None) -> Waveform:
    """The waveform of an audio file or its content, or of one clip of it.

    Args:
        source: what `open_audio` takes.
        settings: see `RecordingSettings`.
        clip: None: all of it, in memory.

    Raises:
        BadRecording: unreadable, empty, cut off, too short, not finite, constant, silent or clipped.
        OSError: the file cannot be opened.
    """
    with open_audio(source, settings.cut_off) as file:
        start, stop = clip.span(file.frames) if clip else (0, file.frames)
        waveform = waveform_of(file.read(start, stop), file.sample_rate, settings)
        return replace(waveform, treatment=file.treatment(settings, waveform.flaws))


def usable_clips(
    read: Callable[[int, int], NDArray[np.float32]],
    frames: int,
    sample_rate: int,
    count: int,
    settings: RecordingSettings,
    digest: str = "",
) -> Iterator[tuple[Clip, Waveform]]:
    """The clips of a recording that can be used, one in memory at a time.

    Args:
        read: see `AudioFile.read`.
        frames: of the recording.
        sample_rate: Hz.
        count: clips that it is cut into.
        settings: of what is usable.
        digest: SHA-256 of the recording, which names its clips.

    Raises:
        BadRecording: none can be used, or the file is cut off.
    """
    first: BadRecording | None = None
    usable = 0
    for number in progress(range(1, count + 1), "clips") if count > LONG else range(1, count + 1):
        clip = Clip(digest, number, count)
        samples = read(*clip.span(frames))
        try:
            waveform = waveform_of(samples, sample_rate, settings)
        except BadRecording as bad:
            first = first or bad
            continue
        usable += 1
        yield clip, waveform
    if first and not usable:
        raise first if count == 1 else BadRecording(f"no usable clip among {count}; the first one: {first}")


def waveform_of(samples: NDArray[np.float32], sample_rate: int, settings: RecordingSettings) -> Waveform:
    """The checked waveform of (n_samples, n_channels) at ``sample_rate`` Hz.

    Raises:
        BadRecording: see `Health.check`; or the channel does not exist.
    """
    channels = samples.shape[1]
    waveform = choose_channel(samples, settings.channel)
    health = Health(sample_rate)
    health.add(samples, waveform)
    health.check(settings)
    seconds = len(samples) / sample_rate
    flaws = health.flaws()
    if flaws.offset:
        waveform = waveform - np.float32(flaws.offset)
    if sample_rate != settings.sample_rate:
        waveform = soxr.resample(waveform, sample_rate, settings.sample_rate).astype(np.float32)
    treatment = _treatment(channels, sample_rate, settings, flaws.remarks())
    return Waveform(waveform, sample_rate, channels, seconds, treatment, flaws)


@dataclass(frozen=True)
class Examined:
    """What the table of recordings keeps of a healthy audio file."""

    seconds: float
    sample_rate: int
    """Hz, of the file"""
    channels: int
    treatment: str
    """see `Waveform`"""
    codec: str
    """see `asdcore.recordings.formats`; empty if it is not lossy"""
    sound: str
    """digest of the decoded samples: the same for all files with the same sound, whatever else they contain"""


def examine(source: Path | bytes, settings: RecordingSettings) -> Examined:
    """Read an audio file of any length in pieces, and check it as a whole.

    Raises:
        BadRecording: as `decode`.
        OSError: the file cannot be opened.
    """
    with open_audio(source, settings.cut_off) as file:
        health = Health(file.sample_rate)
        sound = hashlib.blake2b(f"{file.sample_rate} {file.channels}".encode(), digest_size=16)
        for start in range(0, file.frames, file.piece):
            samples = file.read(start, min(start + file.piece, file.frames))
            sound.update(np.ascontiguousarray(samples).data)
            health.add(samples, choose_channel(samples, settings.channel))
        health.check(settings)
        treatment = file.treatment(settings, health.flaws())
        return Examined(file.seconds, file.sample_rate, file.channels, treatment, file.codec, sound.hexdigest())


def _treatment(channels: int, sample_rate: int, settings: RecordingSettings, remarks: Sequence[str]) -> str:
    parts = []
    if settings.channel == "mean" and channels > 1:
        parts.append(f"mean of {channels} channels")
    elif channels > 1:
        parts.append(f"channel {1 if settings.channel == 'first' else int(settings.channel) + 1} of {channels}")
    if sample_rate != settings.sample_rate:
        parts.append(f"resampled from {sample_rate} to {settings.sample_rate} Hz")
    return "; ".join([*parts, *remarks])


def prepare(samples: NDArray[np.floating]) -> NDArray[np.float32]:
    """(n_samples, n_channels), as `AudioFile.read` gives it, of samples in memory: one or two dimensions.

    Raises:
        BadRecording: integers, whose full scale is unknown.
    """
    samples = np.asarray(samples)
    if not np.issubdtype(samples.dtype, np.floating):
        raise BadRecording(f"not a waveform: {samples.dtype} samples; give floating point ones, full scale at 1")
    return np.atleast_2d(np.asarray(samples, np.float32).T).T


def choose_channel(samples: NDArray[np.float32], channel: str | int) -> NDArray[np.float32]:
    """(n_samples,): one channel of (n_samples, n_channels), or the mean of those that have sound.

    Raises:
        BadRecording: there is no such channel.
    """
    channels = samples.shape[1]
    if channels == 1 and channel in ("first", "mean", 0):
        return np.ascontiguousarray(samples[:, 0])
    if channel == "mean":
        still = without_sound(samples)
        heard = samples if not still.any() or still.all() else samples[:, ~still]
        mean: NDArray[np.float32] = heard.mean(axis=1, dtype=np.float32)
        return mean
    index = 0 if channel == "first" else int(channel)
    if not 0 <= index < channels:
        raise BadRecording(f"unreadable: channel={index} is set (counted from 0), the file has {channels}")
    return np.ascontiguousarray(samples[:, index])
