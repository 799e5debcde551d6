"""Which files below a folder are recordings, and which are left out."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

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
OF_WINDOWS = ("System Volume Information",)
SUPPLEMENTAL = "supplemental"
"""Folder of the challenge from 2025 on: the machine alone, or the noise of its hall alone."""
NO_RECORDING = "no wav, flac or other audio file that can be read, in this folder or below it"


class Listing(NamedTuple):
    """The audio files below a folder."""

    files: list[Path]
    """sorted"""
    left_out: dict[Path, str]
    """audio files that are no recordings of a machine, or that cannot be decoded: why"""


def audio_files(root: Path) -> Listing:
    """The audio files of a folder and of those below it, and what was left out.

    Links to folders are followed, each folder once; hidden files and folders are skipped, as are those that
    macOS, Windows and network storage keep for themselves.
    """
    files: list[Path] = []
    left_out: dict[Path, str] = {}
    for folder, names in _folders(root):
        alone = folder != root and SUPPLEMENTAL in folder.relative_to(root).parts
        for path in (folder / file for file in names if not is_hidden(file)):
            # A dangling link is kept: it is quarantined as unreadable.
            suffix = path.suffix.lower()
            if suffix not in AUDIO_SUFFIXES | OTHER_AUDIO or not (path.is_file() or path.is_symlink()):
                continue
            if alone:
                left_out[path] = "supplemental recordings of the challenge, of the machine or the noise alone"
            elif suffix in OTHER_AUDIO:
                left_out[path] = f"{suffix} cannot be read: convert it to wav or flac (`ffmpeg -i in{suffix} out.flac`)"
            else:
                files.append(path)
    return Listing(sorted(files), left_out)


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder at or below ``root`` and the names of its files: first all that are really there, then behind links.

    So recordings keep the name of the folder that they are really in.
    """
    visited: set[Path] = set()
    starts = [root]
    for start in starts:
        for name, below, names in os.walk(start):
            folder = Path(name)
            if folder.resolve() in visited:
                below.clear()
                continue
            visited.add(folder.resolve())
            below[:] = sorted(one for one in below if not is_hidden(one))
            starts += [folder / one for one in below if (folder / one).is_symlink()]
            yield folder, names


def summed_up(left_out: Mapping[str, str]) -> list[str]:
    """One line for each reason.

    >>> summed_up({"a.wma": ".wma cannot be read", "b.wma": ".wma cannot be read"})
    ['2 files: .wma cannot be read']
    """
    counts = Counter(left_out.values())
    return [f"{n} file{'s' if n > 1 else ''}: {reason}" for reason, n in sorted(counts.items())]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or is one that a system or browser keeps for itself.

    >>> [is_hidden(name) for name in (".a.wav", "#recycle", "a.wav.download", "a.wav")]
    [True, True, True, False]
    """
    kept = name.startswith((".", "$RECYCLE.BIN", "@eaDir", "#recycle")) or name in OF_WINDOWS
    return kept or name.endswith(OF_SAFARI)
