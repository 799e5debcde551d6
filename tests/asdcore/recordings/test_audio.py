import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from asdcore.recordings.audio import BadRecording, Waveform, choose_channel, decode, prepare, waveform_of
from asdcore.recordings.containers import NO_LENGTH
from asdcore.recordings.health import remarks
from asdcore.settings import RecordingSettings

Sound = Callable[..., NDArray[np.float32]]

RATE = 16_000
SETTINGS = RecordingSettings()


def encode(samples: NDArray[Any], rate: int = RATE, format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def tone(hertz: float, rate: int = RATE, seconds: float = 1.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def frequency(waveform: NDArray[np.float32], rate: int = RATE) -> float:
    """Hz of the strongest line."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(spectrum.argmax() * rate / len(waveform))


def reason(content: bytes, settings: RecordingSettings = SETTINGS) -> str:
    with pytest.raises(BadRecording) as error:
        decode(content, settings)
    return str(error.value)


@pytest.mark.parametrize(
    ("format", "subtype", "step"),
    [
        ("WAV", "PCM_U8", 2**-7),
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "PCM_32", 2**-24),
        ("WAV", "FLOAT", 2**-24),
        ("WAV", "DOUBLE", 2**-24),
        ("WAVEX", "PCM_24", 2**-23),
        ("FLAC", "PCM_16", 2**-15),
        ("FLAC", "PCM_24", 2**-23),
    ],
)
def test_every_sample_format_gives_the_same_waveform(format: str, subtype: str, step: float, sound: Sound) -> None:
    samples = sound(0)
    got = decode(encode(samples, format=format, subtype=subtype), SETTINGS)
    assert got.samples.dtype == np.float32
    assert np.abs(got.samples - samples).max() <= step
    assert (got.sample_rate, got.channels, got.seconds) == (RATE, 1, 1.0)
    assert got.treatment == ("lossy: 8 bit" if subtype == "PCM_U8" else "")


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_a_tone_stays_at_its_frequency_and_level_whatever_the_rate(rate: int) -> None:
    got = decode(encode(tone(1_000, rate), rate, subtype="FLOAT"), SETTINGS)
    assert len(got.samples) == RATE
    assert frequency(got.samples) == pytest.approx(1_000, abs=1)
    assert np.abs(got.samples[2_000:-2_000]).max() == pytest.approx(0.5, abs=0.005)
    assert got.treatment == f"resampled from {rate} to 16000 Hz"
    assert (got.sample_rate, got.seconds) == (rate, 1.0)


def test_what_is_above_the_new_nyquist_does_not_fold_down() -> None:
    mixed = tone(1_000, 48_000) + tone(13_000, 48_000)
    got = decode(encode(mixed * 0.5, 48_000, subtype="FLOAT"), SETTINGS).samples
    assert np.abs(got[2_000:-2_000] - 0.5 * tone(1_000)[2_000:-2_000]).max() < 0.005


def test_channels_first_mean_and_index() -> None:
    frequencies = [200 * (channel + 1) for channel in range(8)]
    content = encode(np.stack([tone(hertz) / 8 for hertz in frequencies], axis=1))

    def taken(channel: Any) -> Waveform:
        return decode(content, RecordingSettings(channel=channel))

    assert (frequency(taken("first").samples), taken("first").treatment) == (200, "channel 1 of 8")
    assert (frequency(taken(3).samples), taken(3).treatment) == (800, "channel 4 of 8")
    mean = taken("mean")
    assert mean.treatment == "mean of 8 channels"
    assert np.abs(mean.samples - np.mean([tone(hertz) / 8 for hertz in frequencies], axis=0)).max() < 1e-4
    words = reason(content, RecordingSettings(channel=8))
    assert words == "unreadable: channel=8 is set (counted from 0), the file has 8"


def test_a_second_channel_of_a_mono_file_is_refused_and_the_first_is_not() -> None:
    assert "the file has 1" in reason(encode(tone(440)), RecordingSettings(channel=1))
    assert decode(encode(tone(440)), RecordingSettings(channel=0)).treatment == ""
    assert decode(encode(tone(440)), RecordingSettings(channel="mean")).treatment == ""


def test_a_broken_channel_that_is_not_used_does_no_harm() -> None:
    samples = np.stack([tone(440), np.full(RATE, np.nan, np.float32)], axis=1)
    assert frequency(decode(encode(samples, subtype="FLOAT"), SETTINGS).samples) == 440
    assert "not finite" in reason(encode(samples, subtype="FLOAT"), RecordingSettings(channel=1))


def noise_with(**changes: Any) -> bytes:
    """A float recording in which something is wrong."""
    samples = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    for where, value in changes.items():
        samples[: int(where.removeprefix("first_"))] = value
    return encode(samples, subtype="FLOAT")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty: the file has 0 bytes"),
        (b"This is no sound.\n" * 50, "unreadable"),
        (b"RIFF", "unreadable"),
        (encode(np.zeros(0, np.float32)), "empty: the file has a header and no samples"),
        (encode(tone(440, seconds=0.4)), "too short: 0.400 s, the minimum is 0.5 s"),
        (encode(np.zeros(RATE, np.float32)), "silent: every sample is 0"),
        (encode(np.full(RATE, 0.25, np.float32)), "constant: every sample is 0.25"),
        (encode(tone(440) * 1e-5, subtype="FLOAT"), "silent: -109 dB of full scale"),
        (encode(tone(440) * 1e-5 + 0.3, subtype="FLOAT"), "silent: -109 dB of full scale"),
        (noise_with(first_3=np.nan), "not finite: 3 of 16000 samples"),
        (noise_with(first_1=-np.inf), "not finite: 1 of 16000 samples"),
        (noise_with(first_1=1e20), "not a waveform: a sample of 1e+20"),
        (encode(np.clip(tone(440) * 20, -1, 1)), "clipped: "),
        (encode(np.clip(tone(440) * 20, -1, 1), subtype="PCM_U8"), "clipped: "),
        (encode(np.clip(tone(440, 48_000) * 20, -1, 1), 48_000, subtype="PCM_24"), "clipped: "),
    ],
)
def test_a_defect_is_named(content: bytes, words: str) -> None:
    assert words in reason(content)


def test_loud_healthy_recordings_are_no_defect() -> None:
    knocks = tone(440)
    knocks[::200] = 1  # half a percent of the samples at full scale
    assert len(decode(encode(knocks), SETTINGS).samples) == RATE
    beyond = tone(440) * 10  # a float file may go beyond full scale without clipping
    assert np.abs(decode(encode(beyond, subtype="FLOAT"), SETTINGS).samples).max() == pytest.approx(5, abs=0.01)


def lying(promised: int, content: bytes | None = None) -> bytes:
    """A 16-bit mono recording of one second whose header states ``promised`` bytes of sound."""
    content = content or encode(tone(440))
    at = content.index(b"data") + 4
    return content[:at] + promised.to_bytes(4, "little") + content[at + 4 :]


def test_a_header_that_promises_more_than_there_is() -> None:
    assert reason(lying(64_000)) == "cut off: the header promises 64000 bytes of sound, the file holds 32000"
    assert "cut off" in reason(encode(tone(440))[:20_000])


@pytest.mark.parametrize("promised", [1_000, 27_000])
def test_a_header_that_promises_less_than_there_is(promised: int) -> None:
    assert f"header lies: it promises {promised} bytes" in reason(lying(promised))


@pytest.mark.parametrize("promised", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_recorder_that_wrote_to_a_pipe_promises_nothing(promised: int) -> None:
    got = decode(lying(promised), SETTINGS)
    assert (got.seconds, remarks(got.treatment)) == (1.0, [NO_LENGTH])


@pytest.mark.parametrize("tail", [b"LIST\x04\x00\x00\x00INFO", b"id3 \x02\x00\x00\x00ab", b"\x00" * 480])
def test_a_trailing_chunk_or_padding_is_no_lie(tail: bytes) -> None:
    assert decode(encode(tone(440)) + tail, SETTINGS).seconds == 1.0


def test_a_truncated_flac_is_not_taken_for_a_whole_one(sound: Sound) -> None:
    content = encode(sound(0), format="FLAC")
    for share in (0.2, 0.5, 0.95):
        assert reason(content[: int(len(content) * share)])


def flac_with_length(samples: int, sound: Sound) -> bytes:
    """A flac of 16000 samples whose header states ``samples`` of them, a number of 36 bits."""
    content = bytearray(encode(sound(0), format="FLAC"))
    content[21] = content[21] & 0xF0 | samples >> 32
    content[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(content)


def test_a_flac_header_that_lies_about_its_length(sound: Sound) -> None:
    assert decode(flac_with_length(16_000, sound), SETTINGS).seconds == 1.0
    # 256 GiB of memory, if one believed it.
    assert reason(flac_with_length(2**36 - 1, sound)).startswith("cut off: ")
    assert reason(flac_with_length(17_000, sound)) == "cut off: the header promises 17000 samples, the file holds 16000"
    assert reason(flac_with_length(9_000, sound)) == "header lies: it promises 9000 samples, the file holds 16000"
    assert remarks(decode(flac_with_length(0, sound), SETTINGS).treatment) == [NO_LENGTH]


# What a callback of libsndfile raises cannot be caught, only seen.
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_no_content_whatever_raises_anything_but_a_reason(sound: Sound, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    samples = np.stack([sound(0), sound(1)], axis=1)
    originals = [
        encode(samples, format=format, subtype=subtype)
        for format, subtype in (
            ("WAV", "PCM_16"),
            ("WAV", "PCM_U8"),
            ("WAV", "FLOAT"),
            ("WAVEX", "PCM_24"),
            ("FLAC", "PCM_16"),
            ("RF64", "PCM_16"),
            ("AIFF", "PCM_16"),
            ("W64", "PCM_16"),
            ("CAF", "PCM_16"),
        )
    ]
    taken = refused = 0
    for case, original in zip(range(2_000), itertools.cycle(originals), strict=False):
        content = bytearray(original)
        if case % 11 == 0:
            content = bytearray(rng.bytes(rng.integers(1, 3_000)))
            content[:4] = [b"RIFF", b"fLaC", b"OggS", bytes(content[:4])][case // 11 % 4]
        elif case % 11 == 1:
            del content[rng.integers(0, len(content)) :]
        else:
            for position in rng.integers(0, 60, rng.integers(1, 5)):
                content[position] = rng.integers(0, 256)
        try:
            waveform = decode(bytes(content), SETTINGS).samples
        except BadRecording as bad:
            refused += 1
            assert str(bad)
        else:
            taken += 1
            assert waveform.dtype == np.float32
            assert waveform.ndim == 1
            assert np.isfinite(waveform).all()
    assert taken > 50
    assert refused > 200
    assert capfd.readouterr().err == ""


def test_samples_in_memory_become_what_their_file_becomes(sound: Sound) -> None:
    stereo = np.stack([sound(0, 1.0, 44_100), sound(1, 1.0, 44_100)], axis=1)
    for samples in (stereo, stereo[:, 0], stereo.astype(np.float64)):
        decoded = decode(encode(samples, 44_100, subtype="FLOAT"), SETTINGS).samples
        np.testing.assert_array_equal(waveform_of(prepare(samples), 44_100, SETTINGS).samples, decoded)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros(RATE), "silent"),
        (np.zeros(0), "too short"),
        (np.full(RATE, np.nan), "not finite"),
        (np.arange(RATE, dtype=np.int16), "int16 samples; give floating point"),
    ],
)
def test_samples_in_memory_are_checked_as_a_file_is(samples: NDArray[Any], words: str) -> None:
    with pytest.raises(BadRecording, match=words):
        waveform_of(prepare(samples), RATE, SETTINGS)


def test_choosing_a_channel_copies_nothing_into_the_original() -> None:
    samples = np.stack([tone(440), tone(880)], axis=1)
    before = samples.copy()
    chosen = choose_channel(samples, "first")
    chosen[:] = 0
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize(
    ("name", "treatment"),
    [
        ("mimii_8_channels.wav", "channel 1 of 8"),
        ("bldc_stereo.wav", "channel 1 of 2"),
        ("bldc_44100_hz_2_channels.wav", "channel 1 of 2; resampled from 44100 to 16000 Hz"),
    ],
)
def test_odd_files_of_a_plant_are_taken_and_their_treatment_is_told(
    sample_data: Path, name: str, treatment: str
) -> None:
    got = decode(sample_data / "odd-inputs" / name, SETTINGS)
    assert got.treatment == treatment
    assert len(got.samples) == pytest.approx(got.seconds * RATE, abs=1)


@pytest.mark.parametrize("content", [bytes(320_044), bytes(4096) + np.random.default_rng(0).bytes(4096)])
def test_a_file_of_zeros_is_said_to_be_one(content: bytes) -> None:
    with pytest.raises(BadRecording, match="begins with zeros, as after a power failure"):
        decode(content, RecordingSettings())
