"""Which files below a folder are recordings, and which are left out."""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from asdcore.recordings.paths import printable, surely

AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".flac", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64"}
    | {".ogg", ".oga", ".opus", ".mp3"}
)
"""of files that libsndfile decodes"""
OTHER_AUDIO = frozenset(
    {".m4a", ".m4b", ".aac", ".mp4", ".wma", ".amr", ".3gp", ".mka", ".webm", ".mp2", ".ac3", ".ape", ".wv", ".tta"}
    | {".mov", ".mkv", ".avi", ".mpg", ".mts", ".dsf", ".voc"}
)
"""of audio files, and videos, that it does not decode"""
OF_SAFARI = ".download"
"""end of the name of a folder that holds a file which is still being downloaded"""
OF_SYSTEMS = frozenset(
    {"System Volume Information", "RECYCLER", "lost+found", "LOST.DIR"}
    | {"#snapshot", "~snapshot", "@Recycle", "@Recently-Snapshot"}
)
"""folders of file systems and network storage: deleted files, and copies of all files as they were earlier"""
SUPPLEMENTAL = "supplemental"
"""Folder of the challenge from 2025 on: the machine alone, or the noise of its hall alone."""
_FOLDER = "the folder "
NO_RECORDING = "no wav, flac or other audio file that can be read, in this folder or below it"


class Listing(NamedTuple):
    """The audio files below a folder."""

    files: list[Path]
    """sorted"""
    left_out: dict[Path, str]
    """audio files that are no recordings of a machine, or that cannot be decoded, and folders that cannot be listed:
    why
    """


def audio_files(root: Path) -> Listing:
    """The audio files of a folder and of those below it, and what was left out.

    Links to folders are followed, each folder once; hidden files and folders are skipped, as are those that
    macOS, Windows and network storage keep for themselves.
    """
    files: list[Path] = []
    left_out: dict[Path, str] = {}

    def not_listed(error: OSError) -> None:
        folder = Path(error.filename)
        left_out[folder] = f"{_FOLDER}{printable(folder)} cannot be listed ({error.strerror}): check its permissions"

    for folder, names in _folders(root, not_listed):
        alone = folder != root and SUPPLEMENTAL in folder.relative_to(root).parts
        for path in (folder / file for file in names if not is_hidden(file)):
            suffix = path.suffix.lower()
            if suffix not in AUDIO_SUFFIXES | OTHER_AUDIO or not _may_be_read(path):
                continue
            if alone:
                left_out[path] = "supplemental recordings of the challenge, of the machine or the noise alone"
            elif suffix in OTHER_AUDIO:
                left_out[path] = f"{suffix} cannot be read: convert it to wav or flac (`ffmpeg -i in{suffix} out.flac`)"
            else:
                files.append(path)
    return Listing(sorted(files), left_out)


def _folders(root: Path, not_listed: Callable[[OSError], None]) -> Iterator[tuple[Path, list[str]]]:
    """Each folder at or below ``root`` and the names of its files: first all that are really there, then behind links.

    So recordings keep the name of the folder that they are really in.
    """
    visited: set[Path] = set()
    starts = [root]
    for start in starts:
        for name, below, names in os.walk(start, onerror=not_listed):
            folder = Path(name)
            if folder.resolve() in visited:
                below.clear()
                continue
            visited.add(folder.resolve())
            below[:] = sorted(one for one in below if not is_hidden(one))
            starts += [folder / one for one in below if surely(folder / one, Path.is_symlink)]
            yield folder, names


def _may_be_read(path: Path) -> bool:
    """Whether it is a file, or cannot be read for a reason that is to be told, such as a dangling link.

    Reading a named pipe or a device may never end.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return path.is_symlink()
    except OSError:
        return True


def summed_up(left_out: Mapping[str, str]) -> list[str]:
    """One line for each reason.

    >>> summed_up({"a.wma": ".wma cannot be read", "b.wma": ".wma cannot be read"})
    ['2 files: .wma cannot be read']
    """
    counts = Counter(left_out.values())
    return [
        reason if reason.startswith(_FOLDER) else f"{n} file{'s' if n > 1 else ''}: {reason}"
        for reason, n in sorted(counts.items())
    ]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or is one that a system or browser keeps for itself.

    >>> [is_hidden(name) for name in (".a.wav", "#recycle", "a.wav.download", "a.wav")]
    [True, True, True, False]
    """
    kept = name.startswith((".", "$RECYCLE.BIN", "@eaDir", "#recycle")) or name in OF_SYSTEMS
    return kept or name.endswith(OF_SAFARI)
