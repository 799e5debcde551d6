"""Whatever a person has written into a file of labels, settings or channels: it is read, or there is a reason."""

import tempfile
from functools import cache
from pathlib import Path

import pandas as pd
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from asdcore.errors import AsdError
from asdcore.notification.configuration import subscriptions
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.labels import label_recordings, labels_of
from asdcore.recordings.names import find_recordings
from asdcore.setting_rows import setting_rows
from asdcore.settings import RecordingSettings, Settings
from asdcore.settings_file import read_settings
from tests.fuzz.odd_files import IN_MEMORY, tables, wav


@cache
def _plant() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    kept = tempfile.TemporaryDirectory(dir=IN_MEMORY)
    place = Path(kept.name).resolve() / "plant"
    (place / "pump").mkdir(parents=True)
    for seed in range(3):
        (place / "pump" / f"{seed}.wav").write_bytes(wav(seed))
    Catalog(place.parent / "table").ingest(find_recordings(place), RecordingSettings())
    return kept, place


LABELS = tables(
    ["recording", "label", "why"],
    {
        "recording": ["pump/0.wav", "pump/1.wav", "pump", "no.wav", "../table", "/etc/passwd", ""],
        "label": ["normal", "anomaly", "unknown", ""],
        "why": ["heard it", ""],
    },
)


@given(LABELS)
@example("recording,label\npump/0.wav,gut\n".encode("utf-16"))
@example(b"recording,label\npump/0\0.wav,normal\n")
@example(b"recording,label\n" + b"x" * 5000 + b",normal\n")
@example(b"recording,label\n" + b"x" * 200_000 + b",normal\n")
@example("recording,label\nL\xfcfter.wav,normal\n".encode("latin-1"))
@example(b"recording,label\npump/0.wav\n")
def test_a_file_of_labels_is_read_or_refused_with_a_reason(table: bytes) -> None:
    _, place = _plant()
    file = place / "labels.csv"
    file.write_bytes(table)
    catalog = Catalog(place.parent / "table")
    before = catalog.recordings.copy()
    try:
        labels = labels_of(catalog, [str(file)], None)
        assert set(labels) <= set(before["recording"])
        assert set(labels.values()) <= {"normal", "anomaly", "unknown"}
        for label in set(labels.values()):
            assert label.encode() in table.replace(b"\0", b"")
    except AsdError as error:
        assert str(error)
    finally:
        file.unlink()
    pd.testing.assert_frame_equal(Catalog(place.parent / "table").recordings, before)


@given(st.lists(st.one_of(st.text(max_size=300), st.sampled_from(["\0", "x" * 5000, "~nobody/x", ".", "", "/"]))))
@example(["a\0b"])
@example(["~\x00"])
@example(["~nobody-of-this-name/x.wav"])
@example(["x" * 300])
@example(["\udcff.wav"])
def test_whatever_is_typed_names_recordings_or_is_refused_with_a_reason(what: list[str]) -> None:
    _, place = _plant()
    try:
        label_recordings(Catalog(place.parent / "table"), what, None, "somebody", RecordingSettings())
    except AsdError as error:
        assert str(error)


_SETTINGS = [row.name for row in setting_rows(Settings())]
_VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10), st.dates(), st.binary(max_size=5)
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_MAPPINGS = st.dictionaries(st.one_of(st.sampled_from(_SETTINGS), st.text(max_size=20)), _VALUES, max_size=4)
_TEXTS = st.one_of(
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
    st.binary(max_size=100),
    _MAPPINGS.map(lambda values: yaml.safe_dump(values).encode()),
)


@given(_TEXTS)
@example(b"a: 2001-99-99\n")
@example(b"[" * 5000)
@example(b"? [a]\n: 1\n")
@example(b"training.epochs: 99999999999999999999999999999\n")
@example(b"training.epochs: 1e400\n")
@example(b"training: {epochs: .nan}\n")
@example(b"recordings: !!python/object/apply:os.system [id]\n")
@example(b"a: &a [*a]\n")
@example(b"training.epochs: &a [*a]\n")
@example(b"training: &a {training: *a}\n")
@example(b"1: 2\n")
def test_a_file_of_settings_is_read_or_refused_with_a_reason(text: bytes) -> None:
    assert isinstance(_read(text, read_settings), Settings | str)


@given(
    st.one_of(
        _TEXTS,
        st.dictionaries(
            st.one_of(st.just("line"), st.text(max_size=5)),
            st.one_of(
                _VALUES,
                st.fixed_dictionaries(
                    {"type": st.sampled_from(["webhook", "mail", "mqtt", "pigeon"])},
                    optional={
                        "url": st.sampled_from(
                            ["https://x/", "http://[", "https://[::1]:99999/", "ftp://x", "https://%"]
                        ),
                        "host": st.text(max_size=5),
                        "port": st.one_of(st.integers(), st.text(max_size=3)),
                        "topic": st.text(max_size=5),
                        "to": _VALUES,
                        "sender": st.text(max_size=5),
                        "quiet_hours": _VALUES,
                        "kinds": _VALUES,
                        "key": _VALUES,
                        "ca": _VALUES,
                        "headers": _VALUES,
                    },
                ),
            ),
            max_size=2,
        ).map(lambda values: yaml.safe_dump(values).encode()),
    )
)
@example(b"[" * 5000)
@example(b"line: {type: webhook, url: 'http://['}\n")
@example(b"line: {type: webhook, url: 'https://[::1]:99999/'}\n")
@example(b"a: 2001-99-99\n")
@example(b"line: &a {type: *a}\n")
def test_a_file_of_channels_is_read_or_refused_with_a_reason(text: bytes) -> None:
    _read(text, subscriptions)


def _read(text: bytes, reader: object) -> object:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        file = Path(folder) / "file.yaml"
        file.write_bytes(text)
        try:
            return reader(file)  # type: ignore[operator]
        except AsdError as error:
            assert str(error)
            assert len(str(error)) < 5000
            return str(error)
        finally:
            assert file.read_bytes() == text
