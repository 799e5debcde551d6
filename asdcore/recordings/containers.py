"""What the header of an audio file promises, against what the file holds.

libsndfile silently decodes what is there, so that half a recording would pass for a complete one, and refuses some
headers of complete recordings. The sizes in a header are therefore read here first: WAV (RIFF, RIFX, RF64, BW64),
W64, AIFF and AIFC, AU and CAF; `asdcore.recordings.flac` does so for FLAC. Other formats are left to the decoder.
"""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from asdcore.errors import BadRecording
from asdcore.recordings import flac

CutOff = Literal["quarantine", "use"]
NO_PROMISE = 0x7FFF0000
"""A 32-bit size from here on says nothing: recorders that write to a pipe or are killed leave such numbers."""
NO_LONG_PROMISE = 2**62
"""The same for 64 bits."""
OF_WHOLE_FILE = (36, 44)
"""By how many bytes a data size is too large if a recorder has stored the size of the file as such."""
LEFT_OVER = 4096
"""Bytes after the sound: fewer than a disk block are not sound that the header has missed."""
_EMPTY_TAG = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
"""By which libsndfile knows MPEG audio; of a file without one, it looks at the name."""
NO_LENGTH = "no length: the header does not state it, so the recording is read to the end of the file"
TAGS = (b"ID3", b"TAG", b"APETAGEX")


class Content(io.BytesIO):
    """The content of a file in memory, for a decoder.

    With a broken file libsndfile may seek to before its start; that must fail, without a traceback on the terminal.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


Readable = io.RawIOBase | Content


@dataclass(frozen=True)
class Header:
    """What a header needs to be decoded in full."""

    patches: tuple[tuple[int, bytes], ...] = ()
    """(position, bytes): what the decoder is to read there instead"""
    remarks: tuple[str, ...] = ()
    """what was wrong with it, ``kind: detail`` each"""
    as_integers: bool = False
    """whether it must be decoded as 32-bit integers"""
    prefix: bytes = b""
    """what the decoder is to read before the file"""


class Completed:
    """An audio file with its header corrected; libsndfile reads it through Python."""

    def __init__(self, content: Readable, header: Header) -> None:
        self._content, self._before = content, len(header.prefix)
        patches = [(self._before + position, patch) for position, patch in header.patches]
        self._patches = [(0, header.prefix), *patches]
        self._length = self._before + content.seek(0, os.SEEK_END)
        self._position = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file; a position before the start is not taken."""
        position = offset + (0, self._position, self._length)[whence]
        self._position = position if position >= 0 else self._position
        return self._position

    def tell(self) -> int:
        """As of any file."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """As of any file, with the prefix and the patches."""
        start = self._position
        rest = max(self._length - start, 0)
        size = rest if size < 0 else min(size, rest)
        in_prefix = min(max(self._before - start, 0), size)
        self._content.seek(max(start - self._before, 0))
        read = bytearray(in_prefix) + (self._content.read(size - in_prefix) or b"")
        for position, patch in self._patches:
            first, last = max(position, start), min(position + len(patch), start + len(read))
            if first < last:
                read[first - start : last - start] = patch[first - position : last - position]
        self._position += len(read)
        return bytes(read)


@dataclass(frozen=True)
class _Sound:
    """The part of a file that is sound, as the header says it."""

    start: int
    """position of the first byte of sound"""
    stated: int | None
    """bytes; None: the header makes no promise"""
    patch: Callable[[int], tuple[int, bytes]]
    """bytes of sound: what the header would have to say, and where"""
    alignment: int = 2
    """Chunks begin at a multiple of so many bytes."""


def checked(content: Readable, cut_off: CutOff = "quarantine") -> Header:
    """Read a header, and compare it with the size of the file.

    Args:
        content: an open file; left at its start.
        cut_off: ``use``: a header that promises more or less than is there is corrected instead of refused.

    Raises:
        BadRecording: cut off, or the header promises less than the file holds.
    """
    length = content.seek(0, os.SEEK_END)
    start = _after_tag(content)
    content.seek(start)
    head = content.read(16) or b""
    if not head.strip(b"\0"):
        raise BadRecording("unreadable: it begins with zeros, as after a power failure or a copy that was not finished")
    try:
        if not start and head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0 and head[1] & 6:
            return Header(prefix=_EMPTY_TAG)
        if head[:4] == b"fLaC":
            held = flac.examined(content, start)
            return _of_flac(held, cut_off) if held else Header()
        sound = _sound_of(content, head, start, length)
        return _compared(content, sound, length, cut_off) if sound else Header()
    finally:
        content.seek(0)


def _after_tag(content: Readable) -> int:
    """Where the file begins: after an ID3 tag, if one stands before it."""
    content.seek(0)
    head = content.read(10) or b""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _sound_of(content: Readable, head: bytes, start: int, length: int) -> _Sound | None:
    """None: an unknown format, or no sound in it."""
    kind, form = head[:4], head[8:12]
    if kind in (b"RIFF", b"RIFX", b"RF64", b"BW64") and form == b"WAVE":
        return _riff(content, start, length, "big" if kind == b"RIFX" else "little")
    if head == b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00":
        return _w64(content, start, length)
    if kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        return _aiff(content, start, length)
    if kind in (b".snd", b"dns."):
        order: Literal["big", "little"] = "big" if kind == b".snd" else "little"
        size = int.from_bytes(head[8:12], order)
        stated = None if size >= NO_PROMISE or not size else size
        return _Sound(start + int.from_bytes(head[4:8], order), stated, partial(_number, start + 8, 4, order, 0), 1)
    if kind == b"caff":
        return _caf(content, start, length)
    return None


def _number(position: int, width: int, order: Literal["big", "little"], more: int, size: int) -> tuple[int, bytes]:
    """``size`` and ``more`` bytes of the chunk, as a number in the header."""
    return position, min(size + more, 2 ** (8 * width) - 1).to_bytes(width, order)


def _chunks(
    content: Readable, position: int, length: int, order: Literal["big", "little"], name: int = 4, width: int = 4
) -> Iterator[tuple[bytes, int, int]]:
    """Name, position of the content and stated size of each chunk, as far as they can be followed."""
    while position + name + width <= length:
        content.seek(position)
        header = content.read(name + width) or b""
        size = int.from_bytes(header[name:], order)
        yield header[:name], position + name + width, size
        if name == 16:  # W64: with the header, and from 8 to 8 bytes
            position += max(size + -size % 8, name + width)
        else:
            position += name + width + size + (size % 2 if width == 4 else 0)


def _riff(content: Readable, start: int, length: int, order: Literal["big", "little"]) -> _Sound | None:
    long: tuple[int, int] | None = None
    for name, position, size in _chunks(content, start + 12, length, order):
        if name == b"ds64":
            content.seek(position + 8)
            long = position + 8, int.from_bytes(content.read(8) or b"", "little")
        if name == b"data" and size == 0xFFFFFFFF and long:
            stated = None if long[1] >= NO_LONG_PROMISE or not long[1] else long[1]
            return _Sound(position, stated, partial(_number, long[0], 8, "little", 0))
        if name == b"data":
            stated = None if size >= NO_PROMISE or not size else size
            return _Sound(position, stated, partial(_number, position - 4, 4, order, 0))
    return None


def _w64(content: Readable, start: int, length: int) -> _Sound | None:
    for name, position, size in _chunks(content, start + 40, length, "little", 16, 8):
        if name[:4] == b"data":
            stated = None if size >= NO_LONG_PROMISE or size <= 24 else size - 24
            return _Sound(position, stated, partial(_number, position - 8, 8, "little", 24), 8)
    return None


def _aiff(content: Readable, start: int, length: int) -> _Sound | None:
    for name, position, size in _chunks(content, start + 12, length, "big"):
        if name == b"SSND":
            stated = None if size >= NO_PROMISE or size <= 8 else size - 8
            return _Sound(position + 8, stated, partial(_number, position - 4, 4, "big", 8))
    return None


def _caf(content: Readable, start: int, length: int) -> _Sound | None:
    for name, position, size in _chunks(content, start + 8, length, "big", 4, 8):
        if name == b"data":
            stated = None if size >= NO_LONG_PROMISE or size <= 4 else size - 4
            return _Sound(position + 4, stated, partial(_number, position - 8, 8, "big", 4), 1)
    return None


def _compared(content: Readable, sound: _Sound, length: int, cut_off: CutOff) -> Header:
    present, stated = max(length - sound.start, 0), sound.stated
    if not present or (stated is None and _is_chunk(content, sound.start, length)):
        return Header()  # no sound at all, as the decoder will say
    to_the_end = (sound.patch(present),)
    if stated is None or cut_off == "use":
        _refuse_too_long(present, len(to_the_end[0][1]))
    if stated is None:
        return Header(to_the_end, (NO_LENGTH,))
    if stated > present:
        told = f"the header promises {stated} bytes of sound, the file holds {present}"
        if stated - present in OF_WHOLE_FILE or stated in (length, length - 8):
            return Header(to_the_end, (f"wrong length: {told}",))
        if cut_off == "use":
            return Header(to_the_end, (f"cut off: {told}",))
        raise BadRecording(f"cut off: {told}")
    tail = present - stated
    end, padding = sound.start + stated, -stated % sound.alignment
    if tail <= padding or _only_zeros(content, end) or _is_chunk(content, end + padding, length):
        return Header()
    if padding and _is_chunk(content, end, length):
        # The decoder looks for the next chunk one byte too late, which does no harm.
        return Header((), ("no padding: after an odd number of bytes of sound",))
    content.seek(end)
    if tail < LEFT_OVER or (content.read(8) or b"").startswith(TAGS):
        return Header((), (f"left over: {tail} bytes after the sound",))
    told = f"it promises {stated} bytes of sound, the file holds {present}"
    if cut_off == "use":
        return Header(to_the_end, (f"header lies: {told}",))
    raise BadRecording(f"header lies: {told}")


def _refuse_too_long(present: int, width: int) -> None:
    """``width``: bytes of the size in the header."""
    if present >= 2 ** (8 * width):
        how = "write it as RF64, W64 or FLAC, or cut it into several files"
        raise BadRecording(f"too long: {present} bytes of sound, more than its header can say; {how}")


def _of_flac(held: flac.Held, cut_off: CutOff) -> Header:
    if held.why:
        raise BadRecording(held.why)
    bits = (held.patch_bits(),) if held.as_integers else ()
    if held.samples is None or held.samples == held.stated:
        return Header(bits, (), held.as_integers)
    patches = (held.patch(held.samples),)
    if not held.stated:
        return Header(patches, (NO_LENGTH,), held.as_integers)
    told = f"promises {held.stated} samples, the file holds {held.samples}"
    reason = f"cut off: the header {told}" if held.samples < held.stated else f"header lies: it {told}"
    if cut_off == "use":
        return Header(patches, (reason,), held.as_integers)
    raise BadRecording(reason)


def _is_chunk(content: Readable, position: int, length: int) -> bool:
    """Whether a chunk begins here: a name of four letters and a size."""
    content.seek(position)
    header = content.read(8) or b""
    return length - position >= 8 and all(32 <= byte < 127 for byte in header[:4])


def _only_zeros(content: Readable, position: int) -> bool:
    """Whether nothing else follows: recorders fill the disk's last block with them."""
    content.seek(position)
    while piece := content.read(1 << 20):
        if piece.strip(b"\0"):
            return False
    return True
