r"""Paths of recordings, whose names may have any bytes, as text that tables, JSON and pages can hold.

A path on disk is bytes. Where they are not UTF-8 (``L\xfcfter.wav`` on a Latin-1 disk), Python's text for them cannot
be written to a UTF-8 file. So the `printable` path of a recording is used everywhere, and `on_disk` to open it.
"""

import os
import re
import stat
import unicodedata
from collections.abc import Callable
from pathlib import Path

from asdcore.errors import AsdError

NOT_UTF8 = "its name is not UTF-8, and another file has the name that it would be written as: rename one of the two"
"""why a recording must not be used: its path could not be told from that of the other one"""
_ESCAPE = re.compile(rb"\\x([89a-f][0-9a-f])")


def nfc(name: str) -> str:
    """A name as it is compared and stored: ``ü`` is one character, though some disks and programs write it as two.

    >>> nfc("Lu\u0308fter") == "L\u00fcfter"
    True
    """
    return unicodedata.normalize("NFC", name)


def printable(path: Path) -> Path:
    r"""The path as it is printed and stored: bytes that are not UTF-8 as ``\xNN``.

    >>> str(printable(Path(os.fsdecode(b"pump/valve\xff.wav"))))
    'pump/valve\\xff.wav'
    """
    return path if _is_plain(path) else Path(os.fsencode(path).decode("utf-8", "backslashreplace"))


def on_disk(path: Path) -> Path:
    r"""The file that a `printable` path means, to open it. A path that is not printable means itself.

    A name that really has a backslash takes precedence over one that is only written with it.

    >>> os.fsencode(on_disk(Path("pump/valve\\xff.wav")))
    b'pump/valve\xff.wav'
    """
    if _is_plain(path):
        return path
    try:
        written = str(path).encode("utf-8")
    except UnicodeEncodeError:
        return path
    # Where Python's own text for names is not UTF-8, a path that was stored is not the text that opens it.
    literal = Path(os.fsdecode(written))
    if not _ESCAPE.search(written) or os.path.lexists(literal):
        return literal
    return Path(os.fsdecode(_ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), written)))


def _is_plain(path: Path) -> bool:
    """Whether it is its own printable path, without asking the disk; nearly all are, and there may be a million."""
    name = str(path)
    return name.isascii() and "\\" not in name


def absolute(path: Path) -> Path:
    """The absolute printable path; links are not resolved."""
    return printable(Path(os.path.normpath(path.absolute())))


def is_a_folder(place: Path) -> bool:
    """Whether a given place is a folder, or else a file.

    Raises:
        AsdError: there is no such place, or it cannot be reached.
    """
    try:
        return stat.S_ISDIR(place.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise AsdError(f"{printable(place)}: no such file or folder") from None
    except OSError as error:
        raise AsdError(f"{printable(place)}: cannot be reached ({error.strerror})") from error


def surely(path: Path, kind: Callable[[Path], bool]) -> bool:
    """Whether there is such a file or folder, ``Path.is_file`` for example; not if that cannot be known, or if the text
    cannot be a path, for example because it is too long.
    """
    try:
        return kind(path)
    except (OSError, RuntimeError, ValueError):
        return False


def can_be_told(path: Path) -> bool:
    """Whether its printable path means this very file."""
    return os.fsencode(on_disk(printable(path))) == os.fsencode(path)
