"""How many samples a FLAC file holds, whatever its header says: the last frame has its position.

A frame begins with a sync code and its own number, and ends with a checksum (RFC 9639). libsndfile stops
silently where the header says that the recording ends, and refuses a header that does not say, as in streams and
segments.
"""

import os
from dataclasses import dataclass
from typing import Protocol

CODES = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}
"""Bits of a sample, by their code in the header of a frame."""
READABLE = (8, 16, 24)
"""Bits of a sample that libsndfile opens."""
UNKNOWN = 2**36


class Reader(Protocol):
    """What is needed of a file."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As of any file."""

    def read(self, size: int = -1, /) -> bytes | None:
        """As of any file."""


@dataclass(frozen=True)
class Held:
    """What a FLAC file says and holds."""

    info: int
    """the 8 bytes of the header about rate, channels, bits and samples, as a number"""
    position: int
    """where they are"""
    samples: int | None
    """that it holds, of each channel; None: not found out"""
    why: str = ""
    """why it cannot be read; empty: it may be"""

    @property
    def stated(self) -> int:
        """Samples that the header promises; 0: it does not say."""
        return self.info & (UNKNOWN - 1)

    @property
    def bits(self) -> int:
        """of a sample"""
        return ((self.info >> 36) & 31) + 1

    @property
    def as_integers(self) -> bool:
        """Whether libsndfile opens it only as if it had 24 bits.

        It then scales the floating-point samples of 32 bits wrongly, but integers of any number of bits rightly.
        """
        return self.bits not in READABLE

    def patch(self, samples: int) -> tuple[int, bytes]:
        """Position and bytes of a header with this length."""
        return self._patched(self.info >> 36 << 36 | samples)

    def patch_bits(self) -> tuple[int, bytes]:
        """Position and bytes of a header that libsndfile opens."""
        return self._patched(self.info)

    def _patched(self, info: int) -> tuple[int, bytes]:
        if self.as_integers:
            info = info & ~(31 << 36) | 23 << 36
        return self.position, info.to_bytes(8, "big")


@dataclass(frozen=True)
class _Frame:
    at: int
    """in the bytes that were searched"""
    first: int
    """sample"""
    count: int

    @property
    def end(self) -> int:
        return self.first + self.count


def examined(content: Reader, start: int) -> Held | None:
    """What a FLAC file holds; None if its first block is not the one that it must be.

    Args:
        content: the file.
        start: where ``fLaC`` is.
    """
    content.seek(start + 4)
    block = content.read(38) or b""
    if len(block) < 38 or block[0] & 0x7F or int.from_bytes(block[1:4], "big") < 34:
        return None
    largest = int.from_bytes(block[6:8], "big")
    held = Held(int.from_bytes(block[14:22], "big"), start + 18, None)
    channels = ((held.info >> 41) & 7) + 1
    if held.as_integers and held.bits not in CODES.values():
        # Its frames have no code for it, and refer to the header, which must not be touched then.
        why = f"unreadable: a FLAC file of {held.bits} bits; write it with {', '.join(map(str, CODES.values()))} bits"
        return Held(held.info, held.position, None, why)
    longest = largest * channels * held.bits // 8 + 1024
    length = content.seek(0, os.SEEK_END)
    content.seek(max(length - 2 * longest - 16_384, start + 42))
    tail = content.read() or b""
    frames = _frames(tail, largest, channels, held.bits)
    if frames and frames[-1].end == held.stated:
        return Held(held.info, held.position, held.stated)
    return Held(held.info, held.position, _complete(tail, frames))


def _complete(tail: bytes, frames: list[_Frame]) -> int | None:
    """The end of the last frame that is whole."""
    end = len(tail)
    for frame in reversed(frames):
        if _checksum(tail[frame.at : end], 0x8005, 16) == 0:
            return frame.end
        end = frame.at
    return None


def _frames(tail: bytes, largest: int, channels: int, bits: int) -> list[_Frame]:
    """The frames that begin in these bytes, in their order."""
    frames = []
    for sync in (b"\xff\xf8", b"\xff\xf9"):
        at = tail.find(sync)
        while at >= 0:
            frame = _frame(tail[at : at + 16], at, largest, channels, bits)
            if frame:
                frames.append(frame)
            at = tail.find(sync, at + 1)
    return sorted(frames, key=lambda frame: frame.at)


def _frame(header: bytes, at: int, largest: int, channels: int, bits: int) -> _Frame | None:
    """The frame with this header; None if it is none, or one of another recording."""
    if len(header) < 16:
        header = header.ljust(16, b"\0")
    size, rate, assigned, code = header[2] >> 4, header[2] & 15, header[3] >> 4, header[3] >> 1 & 7
    if not size or rate == 15 or header[3] & 1 or CODES.get(code, bits) != bits or code == 3:
        return None
    if assigned > 10 or (2 if assigned > 7 else assigned + 1) != channels:
        return None
    first, place = _coded_number(header)
    if first is None:
        return None
    if size in (6, 7):
        count = int.from_bytes(header[place : place + size - 5], "big") + 1
        place += size - 5
    else:
        count = 192 if size == 1 else 576 << size - 2 if size < 6 else 256 << size - 8
    place += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if place >= len(header) or _checksum(header[:place], 0x07, 8) != header[place]:
        return None
    # Frames of one size are counted, others say their first sample.
    return _Frame(at, first * largest if header[1] == 0xF8 else first, count)


def _coded_number(header: bytes) -> tuple[int | None, int]:
    """The number from byte 4 on, coded as UTF-8 would, and where it ends."""
    lead = header[4]
    more = 0
    while more < 7 and lead & 0x80 >> more:
        more += 1
    if more == 1 or more > 7 or lead == 0xFF:
        return None, 0
    if not more:
        return lead, 5
    number = lead & 0x7F >> more
    for byte in header[5 : 4 + more]:
        if byte & 0xC0 != 0x80:
            return None, 0
        number = number << 6 | byte & 0x3F
    return number, 4 + more


def _table(polynomial: int, bits: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value >> bits - 1 else value << 1) & (1 << bits) - 1
        table.append(value)
    return table


_TABLES = {(polynomial, bits): _table(polynomial, bits) for polynomial, bits in ((0x07, 8), (0x8005, 16))}


def _checksum(content: bytes, polynomial: int, bits: int) -> int:
    table, mask, value = _TABLES[polynomial, bits], (1 << bits) - 1, 0
    for byte in content:
        value = value << 8 & mask ^ table[value >> bits - 8 ^ byte]
    return value
