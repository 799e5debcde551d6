"""From an audio file to a healthy waveform: decode, choose the channel, resample, check.

Every defect is a `BadRecording` whose text is the reason that the table of recordings keeps.
"""

import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asdcore.progress import progress
from asdcore.recordings.clips import Clip
from asdcore.recordings.paths import on_disk
from asdcore.settings import RecordingSettings

FULL_SCALE = 1.0 - 1.0 / 32_768  # the largest 16-bit sample
LARGEST = 2.0**31  # 32-bit integers written as floats; from far beyond it, no spectrum can be computed in float32
UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's word for a header that does not say
LONG = 60
"""clips from which on reading one recording is long work, and shows its progress"""
PIECE_SECONDS = 60
"""What `examine` holds in memory at a time."""


class BadRecording(Exception):
    """A recording that must not be used; the text says why and what was measured."""


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
    """What was done, for example ``channel 1 of 8; resampled from 44100 to 16000 Hz``; empty if nothing."""


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


def measure(waveform: Waveform) -> Measured:
    """Level, clipping, length and rate of a decoded recording."""
    exact = waveform.samples.astype(np.float64)
    rms = math.sqrt(exact @ exact / len(exact))
    clipped = np.count_nonzero(np.abs(waveform.samples) >= FULL_SCALE) / len(exact)
    return Measured(20 * math.log10(max(rms, 1e-10)), clipped, waveform.seconds, waveform.sample_rate)


def combined(parts: Sequence[Measured], seconds: float) -> Measured:
    """What is kept of a recording of ``seconds``, from its clips, which are equally long."""
    power = float(np.mean([10 ** (part.level_dbfs / 10) for part in parts]))
    clipped = float(np.mean([part.clipped for part in parts]))
    return Measured(10 * math.log10(power), clipped, seconds, parts[0].sample_rate)


@dataclass(frozen=True)
class AudioFile:
    """An open audio file with a header that was checked; its samples are read in spans. Made by `open_audio`."""

    file: soundfile.SoundFile

    @property
    def sample_rate(self) -> int:
        """Hz"""
        return int(self.file.samplerate)

    @property
    def frames(self) -> int:
        """Samples of each channel."""
        return int(self.file.frames)

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.frames / self.sample_rate

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """(stop - start, channels), full scale at 1.

        Raises:
            BadRecording: cut off or damaged there.
        """
        # In pieces: a header may promise more than there is memory.
        piece = PIECE_SECONDS * self.sample_rate
        parts = [self._read(begin, min(begin + piece, stop)) for begin in range(start, stop, piece)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read(self, start: int, stop: int) -> NDArray[np.float32]:
        try:
            if self.file.tell() != start:
                self.file.seek(start)
            samples: NDArray[np.float32] = self.file.read(stop - start, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise BadRecording(f"unreadable: {error.error_string.rstrip('.')}") from error
        if len(samples) < stop - start:
            decoded = start + len(samples)
            raise BadRecording(f"cut off: the header promises {self.frames} samples, {decoded} could be decoded")
        return samples


@contextmanager
def open_audio(source: Path | bytes) -> Iterator[AudioFile]:
    """Open an audio file or its content (wav or flac, any length, rate and channel count).

    Raises:
        BadRecording: unreadable or empty, or the header contradicts the size of the file.
        OSError: the file cannot be opened.
    """
    with _opened(source) as content:
        if not content.read(1):
            raise BadRecording("empty: the file has 0 bytes")
        content.seek(0)
        _check_promise(content)
        content.seek(0)
        # A descriptor is read by libsndfile itself; only content in memory goes through Python.
        inner = content if isinstance(content, _Bytes) else content.fileno()
        try:
            with soundfile.SoundFile(inner, closefd=False) as file:
                if file.frames == UNKNOWN_LENGTH:
                    raise BadRecording("unreadable: the header does not say how long it is; write the file again")
                if file.frames == 0:
                    raise BadRecording("empty: the file has a header and no samples")
                yield AudioFile(file)
        except soundfile.LibsndfileError as error:
            raise BadRecording(f"unreadable: {error.error_string.rstrip('.')}") from error


@contextmanager
def _opened(source: Path | bytes) -> Iterator["io.RawIOBase | _Bytes"]:
    if isinstance(source, bytes):
        yield _Bytes(source)
        return
    with on_disk(source).open("rb", buffering=0) as file:  # libsndfile begins where the descriptor is
        yield file


def decode(source: Path | bytes, settings: RecordingSettings, clip: Clip | None = None) -> Waveform:
    """The waveform of an audio file or its content, or of one clip of it.

    Args:
        source: wav or flac, any rate and channel count.
        settings: see `RecordingSettings`.
        clip: None: all of it, in memory.

    Raises:
        BadRecording: unreadable, empty, cut off, too short, not finite, constant, silent or clipped.
        OSError: the file cannot be opened.
    """
    with open_audio(source) as file:
        start, stop = clip.span(file.frames) if clip else (0, file.frames)
        return waveform_of(file.read(start, stop), file.sample_rate, settings)


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
        BadRecording: see `check_health`; or a channel that there is not.
    """
    channels = samples.shape[1]
    waveform, chosen = choose_channel(samples, settings.channel)
    check_health(waveform, sample_rate, settings)
    seconds = len(samples) / sample_rate
    if sample_rate != settings.sample_rate:
        waveform = soxr.resample(waveform, sample_rate, settings.sample_rate).astype(np.float32)
    return Waveform(waveform, sample_rate, channels, seconds, _treatment(chosen, sample_rate, settings))


@dataclass(frozen=True)
class Examined:
    """What the table of recordings keeps of a healthy audio file."""

    seconds: float
    sample_rate: int
    """Hz, of the file"""
    channels: int
    treatment: str
    """see `Waveform`"""


def examine(source: Path | bytes, settings: RecordingSettings) -> Examined:
    """Read an audio file of any length in pieces, and check it as a whole.

    Raises:
        BadRecording: as `decode`.
        OSError: the file cannot be opened.
    """
    with open_audio(source) as file:
        health, chosen = _Health(file.sample_rate), ""
        step = PIECE_SECONDS * file.sample_rate
        for start in range(0, file.frames, step):
            waveform, chosen = choose_channel(file.read(start, min(start + step, file.frames)), settings.channel)
            health.add(waveform)
        health.check(settings)
        treatment = _treatment(chosen, file.sample_rate, settings)
        return Examined(file.seconds, file.sample_rate, file.file.channels, treatment)


def _treatment(chosen: str, sample_rate: int, settings: RecordingSettings) -> str:
    resampled = f"resampled from {sample_rate} to {settings.sample_rate} Hz"
    return "; ".join(filter(None, [chosen, resampled if sample_rate != settings.sample_rate else ""]))


def prepare(samples: NDArray[np.floating]) -> NDArray[np.float32]:
    """(n_samples, n_channels), as `AudioFile.read` gives it, of samples in memory: one or two dimensions.

    Raises:
        BadRecording: integers, whose full scale is unknown.
    """
    samples = np.asarray(samples)
    if not np.issubdtype(samples.dtype, np.floating):
        raise BadRecording(f"not a waveform: {samples.dtype} samples; give floating point ones, full scale at 1")
    return np.atleast_2d(np.asarray(samples, np.float32).T).T


def choose_channel(samples: NDArray[np.float32], channel: str | int) -> tuple[NDArray[np.float32], str]:
    """One channel of (n_samples, n_channels), and the words for what was done; none for a mono recording."""
    channels = samples.shape[1]
    if channels == 1 and channel in ("first", "mean", 0):
        return np.ascontiguousarray(samples[:, 0]), ""
    if channel == "mean":
        return samples.mean(axis=1, dtype=np.float32), f"mean of {channels} channels"
    index = 0 if channel == "first" else int(channel)
    if not 0 <= index < channels:
        raise BadRecording(f"unreadable: channel={index} is set (counted from 0), the file has {channels}")
    return np.ascontiguousarray(samples[:, index]), f"channel {index + 1} of {channels}"


def check_health(waveform: NDArray[np.float32], sample_rate: int, settings: RecordingSettings) -> None:
    """Raise `BadRecording` if (n_samples,) at ``sample_rate`` Hz is no honest recording of a machine."""
    health = _Health(sample_rate)
    health.add(waveform)
    health.check(settings)


class _Health:
    """What `check_health` judges by, gathered piece by piece."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.n = self.bad = self.n_high = self.n_low = 0
        self.high, self.low = -math.inf, math.inf
        # Moments about the first sample: an offset of a microphone must not drown the sound.
        self.origin = self.sum = self.sum_of_squares = 0.0

    def add(self, waveform: NDArray[np.float32]) -> None:
        if not len(waveform):
            return
        bad = int(np.count_nonzero(~np.isfinite(waveform)))
        if not self.n:
            self.origin = float(waveform[0]) if np.isfinite(waveform[0]) else 0.0
        self.n += len(waveform)
        self.bad += bad
        if bad:
            return
        high, low = float(waveform.max()), float(waveform.min())
        # Clipping piles samples up at the two extremes; a float recording may well go beyond 1 without it.
        self.n_high = self.n_high * (high <= self.high) + int(np.count_nonzero(waveform == high)) * (high >= self.high)
        self.n_low = self.n_low * (low >= self.low) + int(np.count_nonzero(waveform == low)) * (low <= self.low)
        self.high, self.low = max(high, self.high), min(low, self.low)
        deviation = waveform.astype(np.float64) - self.origin
        self.sum += float(deviation.sum())
        self.sum_of_squares += float(deviation @ deviation)

    def check(self, settings: RecordingSettings) -> None:
        seconds = self.n / self.sample_rate
        if seconds < settings.minimum_seconds:
            raise BadRecording(f"too short: {seconds:.3f} s, the minimum is {settings.minimum_seconds:g} s")
        if self.bad:
            raise BadRecording(f"not finite: {self.bad} of {self.n} samples are NaN or infinite")
        if self.low == self.high:
            what = "silent: every sample is 0" if self.low == 0 else f"constant: every sample is {self.low:g}"
            raise BadRecording(what)
        if max(self.high, -self.low) > LARGEST:
            largest = max(self.high, -self.low)
            raise BadRecording(f"not a waveform: a sample of {largest:g}, where full scale is 1")
        mean = self.sum / self.n
        power = self.sum_of_squares / self.n - mean * mean
        dbfs = 10 * math.log10(power) if power > 0 else -math.inf
        if dbfs < settings.silence_dbfs:
            raise BadRecording(f"silent: {dbfs:.0f} dB of full scale RMS, the minimum is {settings.silence_dbfs:g}")
        at_extreme = self.n_high * (self.high >= FULL_SCALE) + self.n_low * (self.low <= -FULL_SCALE)
        clipped, most = at_extreme / self.n, settings.maximum_clipped_fraction
        if clipped > most:
            raise BadRecording(f"clipped: {clipped:.1%} of the samples at full scale, the maximum is {most:.1%}")


class _Bytes(io.BytesIO):
    """A broken file has libsndfile seek to before its start; it is to see that fail, not a trace on the terminal."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _check_promise(content: "io.RawIOBase | _Bytes") -> None:
    """Raise `BadRecording` if the ``data`` chunk of a RIFF file states another size than the file holds.

    libsndfile takes what there is without a word, so that half a recording would pass for a whole one. Recorders that
    write to a pipe state the largest number: they make no promise.
    """
    start = content.read(12)
    if start[:4] != b"RIFF" or start[8:12] != b"WAVE":
        return
    position, length = 12, content.seek(0, os.SEEK_END)
    while position + 8 <= length:
        content.seek(position)
        header = content.read(8)
        name, size = header[:4], int.from_bytes(header[4:], "little")
        start_of_chunk, end = position + 8, position + 8 + size + size % 2
        if name == b"data" and size < 0x7FFFF000:
            present = length - start_of_chunk
            if present < size:
                raise BadRecording(f"cut off: the header promises {size} bytes of sound, the file holds {present}")
            after = _after_padding(content, end)
            if len(after) == 4 and not all(32 <= byte < 127 for byte in after):
                raise BadRecording(f"header lies: it promises {size} bytes of sound, the file holds {present}")
            return
        position = end


def _after_padding(content: "io.RawIOBase | _Bytes", position: int) -> bytes:
    """Four bytes from ``position`` on, fewer if only zeros follow: recorders fill the disk's last block with them."""
    content.seek(position)
    after = content.read(4)
    if after.endswith(b"\0"):
        while piece := content.read(1 << 20):
            if piece.strip(b"\0"):
                return after
    return after.rstrip(b"\0")
