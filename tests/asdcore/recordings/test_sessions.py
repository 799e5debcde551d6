from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from asdcore.recordings.catalog import Catalog
from asdcore.recordings.names import find_recordings, parse_place
from asdcore.recordings.sessions import cuts_sentences, dependence, groups_of, sessions_by_time, time_stamp
from asdcore.settings import RecordingSettings


@pytest.mark.parametrize(
    ("path", "machine", "session"),
    [
        ("pump7/2026-05-01/a.wav", "pump7", "2026-05-01"),
        ("pump7/20260501/a.wav", "pump7", "20260501"),
        ("pump7/2026-05-01T10-30/a.wav", "pump7", "2026-05-01T10-30"),
        ("pump7/2026-05-01 morning/a.wav", "pump7", "2026-05-01 morning"),
        ("pump7/day1/a.wav", "pump7", "day1"),
        ("pump7/Session_02/a.wav", "pump7", "Session_02"),
        ("hall/pump7/2026-05-01/run 3/a.wav", "pump7", "2026-05-01/run 3"),
        ("pump7/a.wav", "pump7", ""),
        ("line2/a.wav", "line2", ""),
        ("dayshift/a.wav", "dayshift", ""),
        ("pump7/normal_2026/a.wav", "normal_2026", ""),
        ("plant/day1/a.wav", "plant", "day1"),
        ("fan/train/section_00_source_train_normal_0000_m-n_W.wav", "fan", ""),
    ],
)
def test_folders_below_a_machine_are_its_sessions(path: str, machine: str, session: str) -> None:
    found = parse_place(Path("/recordings") / path)
    assert (found.machine, found.session) == (machine, session)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20260501_103000", datetime(2026, 5, 1, 10, 30)),
        ("pump 2026-05-01 10.30.15", datetime(2026, 5, 1, 10, 30, 15)),
        ("rec_2026.05.01T1030", datetime(2026, 5, 1, 10, 30)),
        ("1777631400", datetime(2026, 5, 1, 10, 30)),
        ("2026-13-41_10-30-00", None),
        ("2026-05-01", None),
        ("section_00_source_train_normal_0000", None),
        ("normal_id_00_00000012", None),
    ],
)
def test_time_stamps_in_names(name: str, expected: datetime | None) -> None:
    assert time_stamp(name) == expected


def test_recordings_near_a_known_session_are_of_it() -> None:
    start = datetime(2026, 5, 1, 10)
    times = {
        "before": start - timedelta(minutes=30),
        "after": start + timedelta(minutes=50),
        "late": start + timedelta(days=1),
    }
    sessions = sessions_by_time(times, timedelta(hours=1), {start: "monday"})
    assert sessions == {"before": "monday", "after": "monday", "late": "2026-05-02T10:00"}


def write(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(16_000), 16_000)
    return path


def test_days_of_two_machines_stay_apart_and_are_their_sessions(tmp_path: Path) -> None:
    for index, place in enumerate(("pump7/2026-05-01", "pump7/2026-05-02", "fan3/2026-05-01")):
        write(tmp_path / place / "a.wav", index)
    catalog = Catalog(tmp_path / "table")
    catalog.ingest(find_recordings(tmp_path), RecordingSettings())
    rows = catalog.recordings[["machine", "session"]].sort_values(["machine", "session"]).to_numpy().tolist()
    assert rows == [["fan3", "2026-05-01"], ["pump7", "2026-05-01"], ["pump7", "2026-05-02"]]


def test_sessions_by_time_go_on_from_one_ingest_to_the_next(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "table")
    write(tmp_path / "pump" / "2026-05-01_10-00.wav", 0)
    catalog.ingest(find_recordings(tmp_path / "pump"), RecordingSettings())
    write(tmp_path / "pump" / "2026-05-01_10-45.wav", 1)
    write(tmp_path / "pump" / "2026-05-01_14-00.wav", 2)
    catalog.ingest(find_recordings(tmp_path / "pump"), RecordingSettings())
    sessions = catalog.recordings.sort_values("path")["session"].tolist()
    assert sessions == ["2026-05-01T10:00", "2026-05-01T10:00", "2026-05-01T14:00"]


def test_a_manifest_names_sessions_and_a_later_one_corrects_them(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0)
    manifest = tmp_path / "manifest.csv"
    catalog = Catalog(tmp_path / "table")
    for session in ("monday", "tuesday"):
        manifest.write_text(f"path,machine,session\na.wav,pump,{session}\n")
        catalog.ingest(find_recordings(manifest), RecordingSettings())
        assert catalog.recordings["session"].tolist() == [session]
    assert catalog.recordings["attributes"].tolist() == ["{}"]


@pytest.mark.parametrize(
    ("place", "session"),
    [
        ("pump7/train/2026-05-01", "2026-05-01"),
        ("pump7/2026-05-01/train", "2026-05-01"),
        ("pump7/2026-05-01/train/run_2", "2026-05-01/run_2"),
        ("pump7/train", ""),
    ],
)
def test_sessions_above_and_below_a_split_folder_are_of_its_machine(place: str, session: str) -> None:
    found = parse_place(Path("plant") / place / "section_00_source_train_normal_0001.wav")
    assert (found.machine, found.split, found.session, found.problem) == ("pump7", "train", session, "")
    assert parse_place(Path("plant") / place / "x.wav").machine == "pump7"


def test_cuts_are_named_in_a_sentence_unless_sessions_are_known() -> None:
    rng = np.random.default_rng(0)
    spectra = np.repeat(rng.normal(size=(3, 16)), 12, axis=0) + 0.1 * rng.normal(size=(36, 16))
    [sentence] = cuts_sentences(spectra, None)
    assert sentence.startswith("Each of the 36 recordings counts as a session") and "cuts of 3" in sentence
    assert cuts_sentences(spectra, [str(i) for i in range(36)]) == [sentence]
    assert cuts_sentences(spectra, [str(i // 12) for i in range(36)]) == []
    assert cuts_sentences(rng.permutation(spectra), None) == []


def test_a_recording_without_a_session_is_a_group_of_its_own() -> None:
    rows = pd.DataFrame({"recording": ["a", "b", "c", "d"], "session": ["x", "", "x", ""]})
    groups = groups_of(rows)
    assert groups[0] == groups[2] and len(set(groups)) == 3


def test_cuts_of_three_long_recordings_are_noticed_and_independent_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    sessions = rng.normal(size=(3, 16))
    cuts = np.repeat(sessions, 12, axis=0) + 0.1 * rng.normal(size=(36, 16))
    found = dependence(cuts)
    assert found.sessions == 3 and found.p_value < 0.01
    alarms = sum(dependence(rng.normal(size=(30, 16)), seed=seed).sessions < 30 for seed in range(40))
    assert alarms <= 3


def test_the_cuts_of_real_motors_are_noticed_and_independent_recordings_of_real_fans_are_not(sample_data: Path) -> None:
    from asdcore.features.spectrogram import spectrogram
    from asdcore.settings import MelSettings

    def vectors(folder: Path) -> np.ndarray:
        waveforms = [
            soundfile.read(path, dtype="float32", always_2d=True)[0][:, 0] for path in sorted(folder.iterdir())
        ]
        return np.stack([spectrogram(waveform, 16_000, MelSettings()).mean(axis=1) for waveform in waveforms])

    for motor in ("bldcA", "bldcB"):
        # Twelve cuts of four recordings, and one of each of four more.
        assert dependence(vectors(sample_data / "real-mini" / motor / "train")).sessions == 8
    for fan, n in ((sample_data / "real-mini" / "fan" / "train", 12), (sample_data / "real-fan" / "fan75", 75)):
        assert dependence(vectors(fan)).sessions == n
