"""From an audio file to a healthy waveform: decode, choose the channel, resample, check.

Every defect is a `BadRecording` whose text is the reason that the table of recordings keeps.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asdcore.settings import RecordingSettings

FULL_SCALE = 1.0 - 1.0 / 32_768  # the largest 16-bit sample
LARGEST = 2.0**31  # 32-bit integers written as floats; from far beyond it, no spectrum can be computed in float32
UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's word for a header that does not say


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
    rms = float(np.sqrt(np.mean(np.square(waveform.samples, dtype=np.float64))))
    clipped = float(np.mean(np.abs(waveform.samples) >= FULL_SCALE))
    return Measured(20 * math.log10(max(rms, 1e-10)), clipped, waveform.seconds, waveform.sample_rate)


def decode(content: bytes, settings: RecordingSettings) -> Waveform:
    """The waveform of an audio file's content (wav or flac, any rate, any channel count).

    Raises:
        BadRecording: unreadable, empty, cut off, too short, not finite, constant, silent or clipped.
    """
    if not content:
        raise BadRecording("empty: the file has 0 bytes")
    _check_promise(content)
    try:
        with soundfile.SoundFile(_Bytes(content)) as file:
            rate, channels, frames = file.samplerate, file.channels, file.frames
            if frames == UNKNOWN_LENGTH:
                raise BadRecording("unreadable: the header does not say how long it is; write the file again")
            # Before memory is taken for it: a header may promise anything.
            _check_length(frames / rate, settings)
            samples = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise BadRecording(f"unreadable: {error.error_string.rstrip('.')}") from error
    except MemoryError as error:
        raise BadRecording(f"too long: {frames} samples of {channels} channels do not fit in memory") from error
    if len(samples) == 0:
        raise BadRecording("empty: the file has a header and no samples")
    if len(samples) < frames:
        raise BadRecording(f"cut off: the header promises {frames} samples, {len(samples)} could be decoded")
    waveform, chosen = choose_channel(samples, settings.channel)
    check_health(waveform, rate, settings)
    treatment = [chosen] if chosen else []
    if rate != settings.sample_rate:
        waveform = soxr.resample(waveform, rate, settings.sample_rate).astype(np.float32)
        treatment.append(f"resampled from {rate} to {settings.sample_rate} Hz")
    return Waveform(waveform, rate, channels, frames / rate, "; ".join(treatment))


def prepare(samples: NDArray[np.floating], sample_rate: int, settings: RecordingSettings) -> NDArray[np.float32]:
    """As `decode`, for samples in memory: (n_samples,) or (n_samples, n_channels), full scale at 1."""
    samples = np.asarray(samples)
    if not np.issubdtype(samples.dtype, np.floating):
        raise BadRecording(f"not a waveform: {samples.dtype} samples; give floating point ones, full scale at 1")
    waveform, _ = choose_channel(np.atleast_2d(np.asarray(samples, np.float32).T).T, settings.channel)
    check_health(waveform, sample_rate, settings)
    if sample_rate != settings.sample_rate:
        waveform = soxr.resample(waveform, sample_rate, settings.sample_rate).astype(np.float32)
    return waveform


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
    seconds = len(waveform) / sample_rate
    if seconds < settings.minimum_seconds:
        raise BadRecording(f"too short: {seconds:.3f} s, the minimum is {settings.minimum_seconds:g} s")
    _check_length(seconds, settings)
    bad = int(np.count_nonzero(~np.isfinite(waveform)))
    if bad:
        raise BadRecording(f"not finite: {bad} of {len(waveform)} samples are NaN or infinite")
    low, high = float(waveform.min()), float(waveform.max())
    if low == high:
        raise BadRecording("silent: every sample is 0" if low == 0 else f"constant: every sample is {low:g}")
    if max(high, -low) > LARGEST:
        raise BadRecording(f"not a waveform: a sample of {max(high, -low):g}, where full scale is 1")
    rms = float(np.std(waveform, dtype=np.float64))
    dbfs = 20 * math.log10(rms) if rms > 0 else -math.inf
    if dbfs < settings.silence_dbfs:
        raise BadRecording(f"silent: {dbfs:.0f} dB of full scale RMS, the minimum is {settings.silence_dbfs:g}")
    # Clipping piles samples up at the two extremes; a float recording may well go beyond 1 without it.
    at_extreme = 0
    if high >= FULL_SCALE:
        at_extreme += int(np.count_nonzero(waveform == high))
    if low <= -FULL_SCALE:
        at_extreme += int(np.count_nonzero(waveform == low))
    share = at_extreme / len(waveform)
    if share > settings.maximum_clipped_fraction:
        raise BadRecording(
            f"clipped: {share:.1%} of the samples at full scale, the maximum is {settings.maximum_clipped_fraction:.1%}"
        )


class _Bytes(io.BytesIO):
    """A broken file has libsndfile seek to before its start; it is to see that fail, not a trace on the terminal."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _check_length(seconds: float, settings: RecordingSettings) -> None:
    if seconds > settings.maximum_seconds:
        raise BadRecording(
            f"too long: {seconds:.0f} s, the maximum is {settings.maximum_seconds:g} s; cut it into pieces"
        )


def _check_promise(content: bytes) -> None:
    """Raise `BadRecording` if the ``data`` chunk of a RIFF file states another size than the file holds.

    libsndfile takes what there is without a word, so that half a recording would pass for a whole one. Recorders that
    write to a pipe state the largest number: they make no promise.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return
    position = 12
    while position + 8 <= len(content):
        name, size = content[position : position + 4], int.from_bytes(content[position + 4 : position + 8], "little")
        start, end = position + 8, position + 8 + size + size % 2
        if name == b"data" and size < 0x7FFFF000:
            # Some recorders fill up the last block of the disk with zeros.
            present, after = len(content) - start, content[end:].rstrip(b"\0")[:4]
            if present < size:
                raise BadRecording(f"cut off: the header promises {size} bytes of sound, the file holds {present}")
            if len(after) == 4 and not all(32 <= byte < 127 for byte in after):
                raise BadRecording(f"header lies: it promises {size} bytes of sound, the file holds {present}")
            return
        position = end
