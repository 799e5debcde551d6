"""Whatever a folder of recordings looks like: an ingest loses no file, invents no label and changes nothing."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from hypothesis import event, example, given, note
from hypothesis import strategies as st

from asdcore.errors import AsdError
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.found import NOT_TOLD
from asdcore.recordings.names import label_in_name, parse_place
from asdcore.recordings.sessions import time_stamp
from asdcore.settings import RecordingSettings
from asdcore.storage.home import Home
from tasks.recordings import Ingest, ingest_recordings
from tests.fuzz.odd_files import (
    IN_MEMORY,
    NAMES,
    STEMS,
    TREES,
    Entry,
    contents,
    plant,
    recordings,
    tables,
    wav,
)

DCASE = "section_00_source_train_normal_0000_vel_620_ac_0.08.wav"
SAYS_NORMAL = re.compile(
    r"norm|train|\bi\W*o\b|ok|gut|good|healthy|pass|intact|undamaged|fault|defect|defaut|défaut|正常|정상",
    re.IGNORECASE,
)
SAYS_ANOMALY = re.compile(
    r"anomal|abnormal|fault|defe[ck]|broken|leak|ng|n\W*i\W*o|def|異常|d.?faut|bad|fail|ok\b", re.IGNORECASE
)
"""Wider than what asd reads as a label: what says nothing by these says nothing at all."""


@contextmanager
def plants() -> Iterator[tuple[Path, Home]]:
    """A folder that is to be made, and an empty home beside it."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder).resolve() / "plant", Home.at(Path(folder).resolve() / "home")


def ingest(place: Path, home: Home, unlabelled: str = "unknown") -> Ingest | None:
    """What an ingest did; None if it refused everything with a reason."""
    try:
        return ingest_recordings(place, home, RecordingSettings(), unlabelled=unlabelled)
    except AsdError as error:
        note(f"refused: {error}")
        event("refused as a whole")
        return None


def printable(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def refuse_lost(files: list[Path], done: Ingest, catalog: Catalog) -> None:
    """Every file is in the table, by its content, or in quarantine or reported as left out, by its path."""
    told = {*done["quarantined"], *done["forgotten"], *done.get("left_out", {})}
    told |= {printable(Path(path).resolve()) for path in told}
    told |= {path.removesuffix(NOT_TOLD) for path in told}
    usable = set(catalog.recordings["recording"])
    lost = [
        path
        for path in files
        if hashlib.sha256(path.read_bytes()).hexdigest() not in usable and printable(path.resolve()) not in told
    ]
    assert not lost
    stored = {*catalog.recordings["path"], *catalog.quarantined["path"]}
    assert not set(catalog.recordings["path"]) & set(catalog.quarantined["path"])
    assert {*done["quarantined"]} <= stored


def refuse_invented_labels(table: pd.DataFrame, above: Path) -> None:
    """What neither a folder nor a name says is not in the table. Ingested with ``unlabelled="unknown"``."""
    for row in table.to_dict("records"):
        said = str(Path(row["path"]).relative_to(printable(above)))
        assert row["label"] != "normal" or SAYS_NORMAL.search(said), row
        assert row["label"] != "anomaly" or SAYS_ANOMALY.search(said), row
        assert (row["split"], row["label"]) != ("train", "anomaly"), row


def words_of(catalog: Catalog) -> list[list[dict[str, object]]]:
    tables = (catalog.recordings, catalog.quarantined)
    return [table.astype(object).where(table.notna(), None).to_dict("records") for table in tables]


@given(TREES)
@example([Entry(("pump",), "L\udcfcfter.wav", 0, None)])
@example([Entry(("L\udcfcfter",), "a.wav", 0, None), Entry(("pump",), "a.wav", 1, None)])
@example([Entry(("Lüfter",), "a.wav", 0, None), Entry(("Lüfter",), "b.wav", 1, None)])
@example([Entry(("pump", "normal"), "a.wav", 0, None), Entry(("pump", "abnormal"), "a.wav", 1, None)])
@example([Entry(("pump",), "a.wav", 0, None), Entry(("fan",), "a.wav", 0, None), Entry(("fan",), "b.wav", 1, None)])
@example([Entry(("pump",), "a.wav", 0, None), Entry(("pump",), "loop", 0, 0), Entry(("pump",), "b.wav", 0, -1)])
@example([Entry(("pump",), DCASE, -1, None), Entry(("fan", "\udc80"), DCASE, 0, 2)])
@example([Entry(("pump",), "._a.wav", 0, None)])
@example([Entry(("pump", "train"), "section_00_source_train_normal_0000_vel_620_ac_0.08.wav", 0, None)])
@example(
    [
        Entry(("normal",), DCASE, 0, None),
        Entry(("default",), DCASE, 1, None),
        Entry(("default",), "pump.wav", 0, None),
    ]
)
@example(
    [Entry(("normal",), DCASE, 0, None), Entry(("default",), DCASE, 1, None), Entry(("default",), "a.wav", 2, None)]
)
def test_an_ingest_loses_no_file_invents_no_label_and_changes_nothing(tree: list[Entry]) -> None:
    with plants() as (place, home):
        plant(place, tree)
        before = contents(place)
        done = ingest(place, home)
        if done is not None:
            catalog = Catalog(home.recordings)
            refuse_lost(recordings(place), done, catalog)
            refuse_invented_labels(catalog.recordings, place.parent)
            again = ingest(place, home)
            assert again is not None
            assert again["added"] == 0
            assert again["quarantined"] == done["quarantined"]
            assert words_of(Catalog(home.recordings)) == words_of(catalog)
        assert contents(place) == before


MANIFESTS = tables(
    ["path", "machine", "split", "label", "domain", "section", "session", "speed"],
    {
        "path": ["a.wav", "b.wav", "sub/c.wav", "sub/../a.wav", "../outside.wav", "/etc/passwd", "no.wav", "sub", "."],
        "machine": ["pump", "fan", "Lüfter"],
        "split": ["train", "test", ""],
        "label": ["normal", "anomaly", "unknown", ""],
        "domain": ["source", "target", ""],
        "section": ["00", "01", ""],
        "session": ["monday", "2026-05-01", ""],
        "speed": ["3", ""],
    },
)


@given(MANIFESTS)
@example(b"path,machine\na\0.wav,pump\n")
@example(b"path,machine\n" + b"x" * 5000 + b".wav,pump\n")
@example(b"path,machine\n/etc/passwd,pump\na.wav,pump\n")
@example(b"path,machine,path\na.wav,pump,b.wav\n")
@example(b"path,machine,\na.wav,pump,1\n")
@example(b"path,machine\nloop/a.wav,pump\n")
@example(b'path,machine,label,split\na.wav,"pump\n",anomaly,test\n')
@example(b"path,machine,split\na.wav,pump,train\na.wav,pump,test\n")
@example(b"path,machine,split,label\na.wav,pump,train,normal\na.wav,pump,train,anomaly\n")
def test_a_manifest_is_read_or_refused_with_a_reason(manifest: bytes) -> None:
    with plants() as (place, home):
        (place / "sub").mkdir(parents=True)
        (place.parent / "outside.wav").write_bytes(wav(4))
        for seed, name in enumerate(("a.wav", "b.wav", "sub/c.wav")):
            (place / name).write_bytes(wav(seed))
        (place / "loop").symlink_to("loop")
        (place / "manifest.csv").write_bytes(manifest)
        before = contents(place)
        done = ingest(place, home)
        if done is not None:
            catalog = Catalog(home.recordings)
            listed = [path for path in recordings(place) if f"{path.relative_to(place)}".encode() in manifest]
            if manifest.isascii() and b"\0" not in manifest and b"/" not in manifest.replace(b"sub/c.wav", b""):
                refuse_lost(listed, done, catalog)
            for label, word in (("anomaly", b"anomaly"), ("normal", b"normal")):
                said = word in manifest.replace(b"\0", b"")
                assert said or not (catalog.recordings["label"] == label).any()
            assert (again := ingest(place, home)) is not None and again["added"] == 0
            assert words_of(Catalog(home.recordings)) == words_of(catalog)
        assert contents(place) == before


ATTRIBUTES = tables(
    ["file_name", "d1p", "d1v", "d2p", "d2v"],
    {
        "file_name": ["pump/train/section_00_source_train_normal_0000", "section_00_source_train_normal_0000.wav", ""],
        "d1p": ["vel", "noAttribute"],
        "d1v": ["620", ""],
        "d2p": ["anomaly", ""],
        "d2v": ["label", ""],
    },
)


@given(ATTRIBUTES)
@example("file_name,d1p,d1v\npump/train/section_00".encode("utf-16"))
@example(b"\xff\xfe\0")
@example(b"file_name\n" + b"x" * 200_000)
def test_a_table_of_attributes_stops_nothing(table: bytes) -> None:
    with plants() as (place, home):
        (place / "pump" / "train").mkdir(parents=True)
        (place / "fan").mkdir()
        (place / "pump" / "train" / "section_00_source_train_normal_0000_vel_1.wav").write_bytes(wav(0))
        (place / "fan" / "a.wav").write_bytes(wav(1))
        (place / "pump" / "attributes_00.csv").write_bytes(table)
        before = contents(place)
        done = ingest(place, home)
        if done is not None:
            catalog = Catalog(home.recordings)
            refuse_lost(recordings(place), done, catalog)
            assert set(catalog.recordings["label"]) <= {"normal", "unknown"}
        assert contents(place) == before


@given(st.lists(NAMES, max_size=4), STEMS)
def test_every_path_says_something_and_none_is_an_error(folders: list[str], stem: str) -> None:
    path = Path("/", *folders, f"{stem}.wav")
    found = parse_place(path)
    assert found.label in ("normal", "anomaly", "unknown") and found.split in ("train", "test")
    assert label_in_name(path) in ("", "normal", "anomaly")
    time_stamp(path.stem)
