"""Audio files as plants have them, made from a sound: half ones, headers that lie, rare codecs, flaws.

``ODD`` has the content of each by name: ``taken`` ones can be used, what is said of them begins with the words given
(nothing for no words); of the others, the reason begins so.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16_000
SECONDS = 2.0
NO_LENGTH = "no length: "
WRONG_LENGTH = "wrong length: "
CUT_OFF, LIES, UNREADABLE = "cut off: ", "header lies: ", "unreadable: "
LIST = b"LIST\x1a\x00\x00\x00INFOISFT\x0e\x00\x00\x00Lavf58.29.100\x00"


@dataclass(frozen=True)
class Odd:
    """A file that somebody has."""

    name: str
    """with the suffix that it comes with"""
    content: bytes
    taken: bool
    words: str
    """how what is said of it begins: the first remark, or the reason why it cannot be used"""


@cache
def sound(seed: int = 0, seconds: float = SECONDS, rate: int = RATE) -> NDArray[np.float32]:
    """(n_samples,) of a machine: two tones in noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tones = np.sin(2 * np.pi * 230 * time) + np.sin(2 * np.pi * 1370 * time)
    return (0.1 * tones + 0.05 * rng.standard_normal(len(time))).astype(np.float32)


def encoded(format: str, subtype: str, samples: NDArray[Any] | None = None, rate: int = RATE, **more: Any) -> bytes:
    """The content of a file, as libsndfile writes it."""
    file = io.BytesIO()
    soundfile.write(file, sound() if samples is None else samples, rate, format=format, subtype=subtype, **more)
    return file.getvalue()


def with_size(content: bytes, size: int) -> bytes:
    """A WAV file whose header states so many bytes of sound."""
    at = content.index(b"data") + 4
    return content[:at] + size.to_bytes(4, "little") + content[at + 4 :]


def with_samples(content: bytes, samples: int) -> bytes:
    """A FLAC file whose header states so many samples."""
    info = int.from_bytes(content[18:26], "big") >> 36 << 36 | samples
    return content[:18] + info.to_bytes(8, "big") + content[26:]


def flac_of_bits(bits: int, samples: NDArray[np.float32] | None = None) -> bytes:
    """A FLAC file of any number of bits a sample, without compression; libsndfile writes three of them only."""
    wave = sound() if samples is None else samples
    integers = np.round(wave.astype(np.float64) * (2 ** (bits - 1) - 1)).astype(np.int64)
    block, code = 4096, {8: 1, 12: 2, 16: 4, 20: 5, 24: 6, 32: 7}.get(bits, 0)
    info = (RATE << 44 | (bits - 1) << 36 | len(integers)).to_bytes(8, "big")
    content = b"fLaC\x80\x00\x00\x22" + block.to_bytes(2, "big") * 2 + bytes(6) + info + bytes(16)
    for number, start in enumerate(range(0, len(integers), block)):
        part = integers[start : start + block]
        header = b"\xff\xf8\x70" + bytes([code << 1, number]) + (len(part) - 1).to_bytes(2, "big")
        places = np.arange(bits - 1, -1, -1)
        packed = np.packbits(((part[:, None] >> places) & 1).astype(np.uint8).ravel()).tobytes()
        frame = header + _checksum(header, 0x07, 8) + b"\x02" + packed
        content += frame + _checksum(frame, 0x8005, 16)
    return content


def _checksum(content: bytes, polynomial: int, bits: int) -> bytes:
    value = 0
    for byte in content:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ polynomial if value >> (bits - 1) else value << 1) & ((1 << bits) - 1)
    return value.to_bytes(bits // 8, "big")


def _rare_codecs() -> Iterator[Odd]:
    for format, subtype, codec in (
        ("WAV", "GSM610", "GSM 6.10"),
        ("W64", "GSM610", "GSM 6.10"),
        ("AIFF", "GSM610", "GSM 6.10"),
        ("WAV", "G721_32", "G721 32"),
        ("AU", "G721_32", "G721 32"),
        ("AU", "G723_24", "G723 24"),
        ("WAV", "NMS_ADPCM_16", "NMS ADPCM 16"),
        ("WAV", "NMS_ADPCM_32", "NMS ADPCM 32"),
    ):
        yield Odd(f"{format} {subtype}.wav", encoded(format, subtype), True, f"lossy: {codec}")
    yield Odd("AIFF DWVW_16.aiff", encoded("AIFF", "DWVW_16"), False, UNREADABLE)


def _lossy() -> Iterator[Odd]:
    for format, subtype, suffix, codec in (
        ("MP3", "MPEG_LAYER_III", "mp3", "MP3"),
        ("MP3", "MPEG_LAYER_III", "wav", "MP3"),
        ("OGG", "VORBIS", "ogg", "Vorbis"),
        ("WAV", "MS_ADPCM", "wav", "MS ADPCM"),
        ("WAV", "IMA_ADPCM", "wav", "IMA ADPCM"),
        ("AIFF", "IMA_ADPCM", "aifc", "IMA ADPCM"),
        ("WAV", "PCM_U8", "wav", "8 bit"),
    ):
        yield Odd(f"{format} {subtype}.{suffix}", encoded(format, subtype), True, f"lossy: {codec}")
    opus = encoded("OGG", "OPUS", sound(rate=48_000), 48_000)
    yield Odd("OGG OPUS.opus", opus, True, "lossy: Opus")
    for subtype in ("ULAW", "ALAW"):
        yield Odd(f"{subtype}.wav", encoded("WAV", subtype), True, "")


def _halves() -> Iterator[Odd]:
    for name, format, subtype, endian in (
        ("RIFF.wav", "WAV", "PCM_16", None),
        ("RIFX.wav", "WAV", "PCM_16", "BIG"),
        ("RF64.wav", "RF64", "PCM_16", None),
        ("W64.wav", "W64", "PCM_16", None),
        ("AIFF.aiff", "AIFF", "PCM_16", None),
        ("AIFF.wav", "AIFF", "PCM_16", None),
        ("AIFC.aifc", "AIFF", "FLOAT", None),
        ("AU.au", "AU", "PCM_16", None),
        ("AU little-endian.wav", "AU", "PCM_16", "LITTLE"),
        ("CAF.caf", "CAF", "PCM_16", None),
        ("FLAC.flac", "FLAC", "PCM_16", None),
        ("GSM.wav", "WAV", "GSM610", None),
    ):
        content = encoded(format, subtype, endian=endian)
        yield Odd(f"half {name}", content[: len(content) // 2], False, CUT_OFF)


def _lying_flac() -> Iterator[Odd]:
    content, n = encoded("FLAC", "PCM_16"), len(sound())
    yield Odd("FLAC, fewer samples.flac", with_samples(content, n // 2), False, LIES)
    yield Odd("FLAC, more samples.flac", with_samples(content, n + 1000), False, CUT_OFF)
    yield Odd("FLAC, most samples.flac", with_samples(content, 2**36 - 1), False, CUT_OFF)


def _no_length() -> Iterator[Odd]:
    wav, size = encoded("WAV", "PCM_16"), 2 * len(sound())
    for number in (0, 0x7FFF0000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        yield Odd(f"WAV, size {number:#x}.wav", with_size(wav, number), True, NO_LENGTH)
    for more in (36, 44):
        yield Odd(f"WAV, size {more} too large.wav", with_size(wav, size + more), True, WRONG_LENGTH)
    yield Odd("FLAC, no length.flac", with_samples(encoded("FLAC", "PCM_16"), 0), True, NO_LENGTH)
    au = encoded("AU", "PCM_16")
    for number in (0, 0xFFFFFFFF):
        yield Odd(f"AU, size {number:#x}.au", au[:8] + number.to_bytes(4, "big") + au[12:], True, NO_LENGTH)
    caf = encoded("CAF", "PCM_16")
    at = caf.index(b"data") + 4
    yield Odd("CAF, no length.caf", caf[:at] + b"\xff" * 8 + caf[at + 8 :], True, NO_LENGTH)
    aiff = encoded("AIFF", "PCM_16")
    at = aiff.index(b"SSND") + 4
    yield Odd("AIFF, size 0.aiff", aiff[:at] + bytes(4) + aiff[at + 4 :], True, NO_LENGTH)


def _wrong_size() -> Iterator[Odd]:
    wav, size = encoded("WAV", "PCM_16"), 2 * len(sound())
    for more in (2, 8, 1000):
        yield Odd(f"WAV, size {more} too large.wav", with_size(wav, size + more), False, CUT_OFF)
    yield Odd("WAV, half the size.wav", with_size(wav, size // 2), False, LIES)


def _tails() -> Iterator[Odd]:
    wav, rng = encoded("WAV", "PCM_16"), np.random.default_rng(0)
    odd = encoded("WAV", "PCM_24", sound()[:-1])
    assert odd[-1:] == b"\0"
    yield Odd("WAV, LIST at its end.wav", wav + LIST, True, "")
    yield Odd("WAV, no pad byte.wav", odd[:-1], True, "")
    yield Odd("WAV, no pad byte before LIST.wav", odd[:-1] + LIST, True, "no padding: ")
    yield Odd("WAV, pad byte before LIST.wav", odd + LIST, True, "")
    yield Odd("WAV, zeros at its end.wav", wav + bytes(5000), True, "")
    yield Odd("WAV, garbage at its end.wav", wav + rng.bytes(37), True, "left over: 37 bytes")
    yield Odd("WAV, a full block at its end.wav", wav + b"\xff" * 512, True, "left over: 512 bytes")
    yield Odd("WAV, ID3 tag at its end.wav", wav + b"TAG" + bytes(125), True, "left over: 128 bytes")
    yield Odd("WAV, ID3 tag with picture at its end.wav", wav + b"ID3\x03" + rng.bytes(9000), True, "left over: ")
    yield Odd("WAV, ID3 tag before it.wav", b"ID3\x03\x00\x00\x00\x00\x00\x0a" + bytes(10) + wav, True, "")


def _depths() -> Iterator[Odd]:
    for bits in (12, 16, 20, 24, 32):
        yield Odd(f"FLAC of {bits} bits.flac", flac_of_bits(bits), True, "")
    yield Odd("FLAC of 12 bits, no length.flac", with_samples(flac_of_bits(12), 0), True, NO_LENGTH)
    yield Odd("FLAC of 15 bits.flac", flac_of_bits(15), False, "unreadable: a FLAC file of 15 bits")


def _flaws() -> Iterator[Odd]:
    silent = np.zeros_like(sound())
    dropped = sound().copy()
    dropped[5000:8200] = 0
    yield Odd("dropout.wav", encoded("WAV", "PCM_16", dropped), True, "dropouts: 1 run of zeros, 0.2 s together")
    yield Odd("offset.wav", encoded("WAV", "PCM_16", sound() + 0.1), True, "offset: 0.1 of full scale, removed")
    second = encoded("WAV", "PCM_16", np.stack([sound(), silent], axis=1))
    yield Odd("second channel dead.wav", second, True, "dead channel: no sound in channel 2")
    first = encoded("WAV", "PCM_16", np.stack([silent, sound()], axis=1))
    yield Odd("first channel dead.wav", first, False, "silent: every sample is 0 in its channel; channel 2 has sound")


GROUPS: dict[str, Callable[[], Iterator[Odd]]] = {
    "rare codecs": _rare_codecs,
    "lossy": _lossy,
    "halves": _halves,
    "lying flac": _lying_flac,
    "no length": _no_length,
    "wrong size": _wrong_size,
    "tails": _tails,
    "depths": _depths,
    "flaws": _flaws,
}
"""What they have in common: makes them."""


@cache
def odd(group: str) -> tuple[Odd, ...]:
    """The files of a group."""
    return tuple(GROUPS[group]())


def every_odd_file() -> Iterator[Odd]:
    """All of them, as a corpus for instance."""
    for group in GROUPS:
        yield from odd(group)
