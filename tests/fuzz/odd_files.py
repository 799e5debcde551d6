"""Names, texts, folder trees and audio files of every kind that Linux and libsndfile allow, drawn by hypothesis."""

import io
import os
import struct
import unicodedata
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from hypothesis import strategies as st

RATE = 8000
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""for temporary folders: what is written atomically is flushed to the disk, and a loaded disk takes its time"""

WORDS_OF_LABELS = (
    *("normal", "Normal", "abnormal", "anomaly", "OK", "NG", "n.i.O.", "iO", "gut", "defekt", "leak", "fault_2"),
    *("defect", "no fault", "default", "broken pump", "異常", "正常", "défaut", "sans défaut", "défaut"),
)
"""that say a label, or look as if they did"""
_ODD_NAMES = (
    *("Lüfter", unicodedata.normalize("NFD", "Lüfter"), "가", unicodedata.normalize("NFD", "가"), "ﬁ", "İ", "ß"),
    *("pump 7", "pump?x", "pump#1", "100%", "%20", "a\nb", "a\tb", "\x1b[31mred", "\x7f", "\u202eevil", "\u2028"),
    *("=1+1", "+1", "-rf", "@cmd", "<script>alert(1)</script>", '"', "'", "`id`", "$(id)", "a|b", "a\\b", "\\xff"),
    *("~", "..wav", "...", " ", " pump", "pump ", "CON", "nan", "None", "null", "x" * 200, "ü" * 120, "\ufeffpump"),
)
_PLACES = (
    *(
        "pump",
        "fan",
        "train",
        "test",
        "source_test",
        "target_test",
        "test_rename",
        "supplemental",
        "id_00",
        "section_00",
    ),
    *("2026-05-01", "2026-05-01 morning", "run_2", "Monday", "7", "4711", "2026", "05", ".hidden", "._a", ".Trashes"),
)
_FILES = (
    *("section_00_source_train_normal_0000_vel_620_ac_0.08", "section_00_target_test_anomaly_0001_noAttribute"),
    *("section_00_source_test_normal_0002", "section_00_0000", "normal_id_00_00000000", "anomaly_id_02_00000003"),
    *("id_01_00000000", "section_99_source_train_anomaly_0000", "section_0_source_test_anomaly_0_=1+1_x", "monday"),
    *("pump_2026-05-01T10-30-00", "20260501_103000", "2026-13-41_99-99", "1777777777", "a", ".hidden", "._a", "._"),
)


def _allowed(name: bytes) -> bool:
    return 0 < len(name) <= 240 and not set(b"/\0") & set(name) and name not in (b".", b"..")


_TEXTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30)
NAMES = st.one_of(
    st.sampled_from(_PLACES),
    st.sampled_from(_ODD_NAMES),
    st.sampled_from(WORDS_OF_LABELS),
    _TEXTS.filter(lambda text: _allowed(text.encode())),
    st.binary(min_size=1, max_size=20).filter(_allowed).map(os.fsdecode),
)
"""of files and folders: any that Linux allows, as Python has them"""
STEMS = st.one_of(st.sampled_from(_FILES), NAMES)
SUFFIXES = st.sampled_from([".wav"] * 6 + [".WAV", ".flac", ".flac", ".mp3", ".ogg", ".txt", "", ".wav.part", ".csv"])


def sound(seed: int, seconds: float = 0.6) -> np.ndarray:
    """(n,) noise that no other seed makes."""
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE)).astype(np.float32)


@cache
def wav(seed: int) -> bytes:
    """A healthy recording."""
    content = io.BytesIO()
    soundfile.write(content, sound(seed), RATE, format="WAV")
    return content.getvalue()


@cache
def _bad() -> tuple[bytes, ...]:
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(RATE, np.float32), RATE, format="WAV")
    return b"", b"RIFF", b"no sound", wav(0)[:2000], silence.getvalue(), b"\0" * 5000


class Entry(NamedTuple):
    """A file of a tree, or a link."""

    folders: tuple[str, ...]
    name: str
    content: int
    """the seed of a healthy recording, below 0 a bad file"""
    link_to: int | None
    """what it is a link to instead: one of the entries before it, or of their folders"""


ENTRIES = st.builds(
    Entry,
    st.lists(NAMES, max_size=4).map(tuple),
    st.builds(lambda stem, suffix: stem + suffix, STEMS, SUFFIXES),
    st.integers(-6, 8),
    st.one_of(st.none(), st.none(), st.none(), st.integers(-1, 8)),
)
TREES = st.lists(ENTRIES, min_size=1, max_size=7)


def plant(root: Path, tree: list[Entry]) -> None:
    """Make the tree below ``root``; what a disk refuses is left out."""
    root.mkdir()
    made: list[Path] = [root]
    for entry in tree:
        folder = root.joinpath(*entry.folders)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / entry.name
            if entry.link_to is None:
                with path.open("xb") as file:
                    file.write(wav(entry.content) if entry.content >= 0 else _bad()[entry.content])
            elif entry.link_to < 0:
                path.symlink_to("nowhere.wav")
            else:
                path.symlink_to(made[entry.link_to % len(made)])
            made += [path, folder]
        except OSError:
            continue


def contents(root: Path) -> dict[Path, tuple[bytes, int]]:
    """Every file below ``root``, hidden ones and links, too: its content or target, and when it was changed."""
    found = {}
    for name, folders, files in os.walk(root):
        for path in (Path(name) / one for one in (*folders, *files)):
            if path.is_symlink():
                found[path] = (os.fsencode(path.readlink()), path.lstat().st_mtime_ns)
            elif path.is_file():
                found[path] = (path.read_bytes(), path.stat().st_mtime_ns)
    return found


def recordings(root: Path) -> list[Path]:
    """Every real wav or flac file below ``root`` that is not hidden; found without any of asd's code."""
    found = []
    for name, folders, files in os.walk(root):
        folders[:] = [one for one in folders if not one.startswith(".")]
        paths = [Path(name) / one for one in files if not one.startswith(".")]
        # As Python's suffix: a name that is nothing but `.wav` is hidden, and one with a dot alone has none.
        found += [p for p in paths if p.suffix.lower() in (".wav", ".flac") and not p.is_symlink()]
    return found


@cache
def corpus() -> dict[str, bytes]:
    """A small recording in each format and subtype that libsndfile writes."""
    made = {}
    samples = np.stack([sound(1), sound(2)], axis=1)
    for container in soundfile.available_formats().keys() - {"SD2"}:  # It writes a second file, beside the first.
        for subtype in soundfile.available_subtypes(container):
            for channels in (1, 2):
                content = io.BytesIO()
                try:
                    soundfile.write(content, samples[:, :channels], RATE, format=container, subtype=subtype)
                except (soundfile.LibsndfileError, ValueError, TypeError):
                    continue  # Such as of two channels.
                made[f"{container} {subtype} {channels}"] = content.getvalue()
    return made


ODD_SIZES = (0, 1, 2, 3, 36, 44, 0x7FFF0000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, 8000, 2**24)
CHUNKS = (b"data", b"fmt ", b"LIST", b"JUNK", b"id3 ", b"ds64", b"fact", b"bext", b"\0\0\0\0", b"SSND", b"fLaC")


@st.composite
def audio_files(draw: st.DrawFn) -> bytes:
    """A file of the corpus, as a dying recorder, a full disk or a bad cable leaves it."""
    content = bytearray(corpus()[draw(st.sampled_from(sorted(corpus())))])
    for _ in range(draw(st.integers(0, 3))):
        where = draw(st.one_of(st.integers(0, min(len(content), 120)), st.integers(0, len(content))))
        kind = draw(st.sampled_from(["cut", "size", "bytes", "insert", "append", "zeros", "double", "chunk"]))
        if kind == "cut":
            del content[where:]
        elif kind == "size":
            order = draw(st.sampled_from(["<I", ">I", "<Q", "<H"]))
            size = draw(st.one_of(st.sampled_from(ODD_SIZES), st.integers(0, 2**32 - 1)))
            patch = struct.pack(order, size & 0xFFFF if order == "<H" else size)
            content[where : where + len(patch)] = patch
        elif kind == "bytes":
            patch = draw(st.binary(min_size=1, max_size=8))
            content[where : where + len(patch)] = patch
        elif kind == "insert":
            content[where:where] = draw(st.binary(min_size=1, max_size=9))
        elif kind == "append":
            content += draw(st.sampled_from([b"\0", b"TAG" + b" " * 125, b"garbage!" * 9]))
        elif kind == "zeros":
            content += bytes(draw(st.integers(1, 5000)))
        elif kind == "double":
            content += bytes(content)
        else:
            said = draw(st.sampled_from([4, 5, *ODD_SIZES]))
            content[where:where] = draw(st.sampled_from(CHUNKS)) + struct.pack("<I", said) + b"four"
    return bytes(content)


SEPARATORS = st.sampled_from([",", ",", ",", ";", "\t", "|", ", "])
LINE_ENDS = st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n", "\u2028"])
ENCODINGS = st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "cp1252"])


@st.composite
def tables(draw: st.DrawFn, columns: list[str], values: dict[str, list[str]], anything: bool = True) -> bytes:
    """A CSV file, well formed or not, whole or not: some of these columns, with these values or others."""
    if anything and draw(st.integers(0, 9)) == 0:
        return draw(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: _encoded(text, "utf-8"))))
    names = draw(st.lists(st.sampled_from(columns), min_size=1, max_size=len(columns), unique=True))
    if draw(st.integers(0, 4)):
        names = list(dict.fromkeys([*columns[:2], *names]))
    odd = st.one_of(st.text(max_size=12), st.sampled_from([*_ODD_NAMES, *WORDS_OF_LABELS, "\0", "x" * 5000]))
    rows = []
    for _ in range(draw(st.integers(0, 5))):
        row = []
        for name in names:
            usual = values.get(name)
            row.append(draw(st.sampled_from(usual) if usual and draw(st.integers(0, 7)) else odd))
        rows.append(row[: draw(st.sampled_from([len(row)] * 9 + [len(row) - 1]))])
    separator, end = draw(SEPARATORS), draw(LINE_ENDS)
    text = end.join(separator.join(row) for row in [names, *rows]) + draw(st.sampled_from([end, ""]))
    content = _encoded(text, draw(ENCODINGS))
    return content if draw(st.integers(0, 3)) else content[: draw(st.integers(0, len(content)))]


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "replace")
