import csv
import hashlib
import re
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from asdcore.datasets.machines import BUILT_IN_FAULTS, MACHINES, SPECIFICATIONS
from asdcore.datasets.sessions import Session
from asdcore.datasets.simulate import MARKER, simulate, waveform
from asdcore.errors import AsdError
from asdcore.recordings.found import Found
from asdcore.recordings.names import find_recordings

# Small and short where only names and bytes matter.
SMALL = {"source_train": 2, "target_train": 1, "test_per_kind": 2, "seconds": 0.5}
VERSION_1 = {
    "simFan": [2569, 968, -191, -7174, -1043, 3215, 4394],
    "simGearbox": [-240, 88, 1883, -563, -952, -161, 830],
    "simValve": [-605, -4059, 190, 494, -700, -354, 212],
}
"""Every thousandth sample of a faulty recording of each machine, as simulated before there were sessions."""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    simulate(folder, **SMALL)  # type: ignore[arg-type]
    return folder


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(small: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "same", **SMALL)  # type: ignore[arg-type]
    assert contents(tmp_path / "same") == contents(small)

    simulate(tmp_path / "other", **SMALL, seed=1)  # type: ignore[arg-type]
    old, new = contents(small), contents(tmp_path / "other")
    assert old.keys() == new.keys()
    assert not any(old[name] == new[name] for name in old if name.endswith(".wav"))


def test_a_recording_does_not_depend_on_the_other_machines_nor_on_the_counts(small: Path, tmp_path: Path) -> None:
    reordered = simulate(tmp_path / "reordered", machines=[MACHINES[2], MACHINES[0]], **SMALL)  # type: ignore[arg-type]
    more = simulate(tmp_path / "more", machines=[MACHINES[1]], **{**SMALL, "test_per_kind": 3})  # type: ignore[arg-type]

    assert [path.parents[1].name for path in (reordered[0], reordered[-1])] == [MACHINES[2], MACHINES[0]]
    for root in ("reordered", "more"):
        for name, content in contents(tmp_path / root).items():
            if name.endswith(".wav") and (small / name).exists():
                assert (small / name).read_bytes() == content
    assert len(more) == 3 + 4 * 3


def test_no_two_recordings_are_alike(small: Path) -> None:
    recordings = [content for name, content in contents(small).items() if name.endswith(".wav")]
    assert len(set(recordings)) == len(recordings) == len(MACHINES) * (3 + 4 * 2)


def test_layout_and_names_are_those_of_dcase(tmp_path: Path) -> None:
    paths = simulate(tmp_path, machines=["simFan"], **SMALL)  # type: ignore[arg-type]

    names = [str(path.relative_to(tmp_path)) for path in paths]
    assert all(path.exists() for path in paths)
    assert names[:3] == [
        "simFan/train/section_00_source_train_normal_0000_spd_18.wav",
        "simFan/train/section_00_source_train_normal_0001_spd_21.wav",
        "simFan/train/section_00_target_train_normal_0000_spd_25.wav",
    ]
    pattern = re.compile(r"simFan/test/section_00_(source|target)_test_(normal|anomaly)_(0000|0001)_spd_\d+\.wav")
    assert {match.groups() for match in map(pattern.fullmatch, names[3:]) if match} == {
        (domain, label, number)
        for domain in ("source", "target")
        for label in ("normal", "anomaly")
        for number in ("0000", "0001")
    }
    info = soundfile.info(paths[0])
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (16_000, 1, "PCM_16", 8_000)


def test_source_and_target_have_no_operating_condition_in_common(small: Path) -> None:
    for machine in MACHINES:
        settings = {
            domain: {path.stem.rsplit("_", 1)[1] for path in (small / machine).rglob(f"*_{domain}_*.wav")}
            for domain in ("source", "target")
        }
        assert settings["source"].isdisjoint(settings["target"])


def test_the_faults_are_told_in_a_table_and_not_in_the_names(tmp_path: Path) -> None:
    paths = simulate(tmp_path, machines=["simValve"], **{**SMALL, "test_per_kind": 5})  # type: ignore[arg-type]
    with (tmp_path / "simValve" / "simulated.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert [row["file_name"] for row in rows] == [path.name for path in paths if "_anomaly_" in path.name]
    assert {row["fault"] for row in rows} == set(BUILT_IN_FAULTS)
    assert all(0.5 <= float(row["strength"]) <= 1.5 for row in rows)
    assert not any(fault in path.name for fault in BUILT_IN_FAULTS for path in paths)


def test_a_second_call_keeps_what_exists_and_makes_what_is_missing(tmp_path: Path) -> None:
    paths = simulate(tmp_path, machines=["simFan"], **SMALL)  # type: ignore[arg-type]
    before = contents(tmp_path)
    kept = paths[0].stat().st_mtime_ns
    paths[3].unlink()

    assert simulate(tmp_path, machines=["simFan"], **SMALL) == paths  # type: ignore[arg-type]
    assert contents(tmp_path) == before
    assert paths[0].stat().st_mtime_ns == kept

    simulate(tmp_path, machines=["simValve"], **SMALL)  # type: ignore[arg-type]
    assert before.items() <= contents(tmp_path).items()


@pytest.mark.parametrize("changed", [{"seed": 1}, {"seconds": 0.75}, {"strength": 2.0}, {"target_train": 2}])
def test_a_folder_made_with_other_arguments_is_refused(small: Path, changed: dict[str, float]) -> None:
    before = contents(small)
    with pytest.raises(AsdError, match="other arguments"):
        simulate(small, **{**SMALL, **changed})  # type: ignore[arg-type]
    assert contents(small) == before


def test_a_folder_of_real_recordings_is_refused(tmp_path: Path) -> None:
    real = tmp_path / "fan" / "train" / "section_00_source_train_normal_0000_m-n_W.WAV"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"")
    with pytest.raises(AsdError, match="not simulated"):
        simulate(tmp_path, **SMALL)  # type: ignore[arg-type]
    assert contents(tmp_path) == {str(real.relative_to(tmp_path)): b""}


def test_the_folder_says_that_it_is_simulated_and_with_which_arguments(small: Path) -> None:
    text = (small / MARKER).read_text()
    assert "simulated" in text
    assert "seed=0" in text
    assert "strength=1.0" in text


def test_an_unknown_machine_is_refused_with_the_known_ones_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(AsdError, match=r"'pump'.*simFan, simGearbox, simValve"):
        simulate(tmp_path / "new", machines=["simFan", "pump"])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("wrong", [{"source_train": -1}, {"seconds": 0.0}, {"strength": float("nan")}])
def test_an_impossible_number_is_named(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(AsdError, match=next(iter(wrong))):
        simulate(tmp_path, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"domain": "home"},
        {"label": "odd"},
        {"label": "anomaly", "fault": "rust"},
        {"label": "normal", "fault": "tonal"},
        {"setting": 0},
    ],
)
def test_waveform_names_a_wrong_argument(wrong: dict[str, str]) -> None:
    arguments = {"domain": "source", "label": "normal", **wrong}
    with pytest.raises(AsdError, match=list(wrong)[-1]):
        waveform("simFan", rng=np.random.default_rng(0), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("fault", BUILT_IN_FAULTS)
def test_a_fault_of_strength_0_is_none_and_a_stronger_one_changes_more(machine: str, fault: str) -> None:
    def sound(label: str, strength: float) -> NDArray[np.float32]:
        return waveform(
            machine,
            domain="source",
            label=label,
            rng=np.random.default_rng(7),
            fault=fault if label == "anomaly" else None,
            strength=strength,
            seconds=1.0,
        )

    normal = sound("normal", 1.0)
    np.testing.assert_allclose(sound("anomaly", 0.0), normal, atol=1e-6)
    assert 0 < np.std(sound("anomaly", 0.3) - normal) < np.std(sound("anomaly", 1.0) - normal)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_level_is_neither_silent_nor_clipped(machine: str) -> None:
    for domain in ("source", "target"):
        for fault in (None, *BUILT_IN_FAULTS):
            label = "normal" if fault is None else "anomaly"
            samples = waveform(machine, domain=domain, label=label, fault=fault, rng=np.random.default_rng(3))
            assert samples.dtype == np.float32
            assert np.isfinite(samples).all()
            assert 0.01 < samples.std() < 0.2
            assert 0.05 < np.abs(samples).max() < 0.98


def mean_spectrum(path: Path) -> NDArray[np.float64]:
    """Time-averaged log-mel spectrum, (128,) dB."""
    samples, rate = soundfile.read(path, dtype="float32")
    power = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=2048, hop_length=512, n_mels=128)
    return np.asarray((10 * np.log10(power + 1e-12)).mean(axis=1), dtype=np.float64)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_plain_statistic_finds_the_faults_but_not_all_of_them(machine: str, tmp_path: Path) -> None:
    paths = simulate(tmp_path, machines=[machine])
    train = np.array([mean_spectrum(path) for path in paths if path.parent.name == "train"])
    test = [path for path in paths if path.parent.name == "test"]
    distance = LedoitWolf().fit(train).mahalanobis(np.array([mean_spectrum(path) for path in test]))
    anomalous = np.array(["_anomaly_" in path.name for path in test])
    target = np.array(["_target_" in path.name for path in test])

    assert 0.65 < roc_auc_score(anomalous, distance) < 0.95
    # The operating condition alone is no fault: most normal target recordings stay among the source ones.
    assert roc_auc_score(target[~anomalous], distance[~anomalous]) < 0.9


def test_without_sessions_the_recordings_are_those_of_version_1(small: Path) -> None:
    told = {name: content for name, content in contents(small).items() if not name.endswith(".wav")}
    digest = hashlib.sha256(repr(sorted(told.items())).encode()).hexdigest()
    assert digest == "526273df87ae5f6114b413bb0f93617922f565b761e82ce6499eb5f1043d6b63"

    # Sines differ in the last digits from processor to processor: the samples to two steps of the recorder.
    for machine, expected in VERSION_1.items():
        path = sorted((small / machine / "test").glob("*_target_test_anomaly_0001_*.wav"))[0]
        samples, _ = soundfile.read(path, dtype="int16")
        np.testing.assert_allclose(samples[1000::1000], expected, atol=2)


@pytest.fixture(scope="module")
def in_sessions(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    folder = tmp_path_factory.mktemp("sessions")
    # The second call adds a machine; the manifest has both.
    for machine in ("simValve", "simFan"):
        simulate(folder, machines=[machine], sessions=2, **{**SMALL, "source_train": 6, "test_per_kind": 6})  # type: ignore[arg-type]
    return find_recordings(folder)


def test_every_recording_has_a_session_and_test_sessions_are_others(in_sessions: list[Found]) -> None:
    assert not any(found.problem for found in in_sessions)
    assert len(in_sessions) == 2 * (6 + 1 + 4 * 6)
    for machine in ("simFan", "simValve"):
        sessions = {
            split: {found.session for found in in_sessions if (found.machine, found.split) == (machine, split)}
            for split in ("train", "test")
        }
        assert [len(names) for names in sessions.values()] == [2, 2]
        assert sessions["train"].isdisjoint(sessions["test"])


def test_the_manifest_says_what_the_names_say(in_sessions: list[Found]) -> None:
    for found in in_sessions:
        assert f"_{found.domain}_{found.split}_{found.label}_" in found.path.name
        assert found.attributes.pop("simulated") == "yes"
        ((attribute, value),) = found.attributes.items()
        assert found.path.stem.endswith(f"_{attribute}_{value}")


def test_a_session_holds_all_operating_conditions(in_sessions: list[Found]) -> None:
    own = [f for f in in_sessions if (f.machine, f.split, f.domain) == ("simFan", "train", "source")]
    for session in {found.session for found in own}:
        assert {found.path.stem.rsplit("_", 1)[1] for found in own if found.session == session} == {"18", "21", "24"}


@pytest.mark.parametrize("wrong", [0, 3])
def test_a_number_of_sessions_without_recordings_for_each_is_refused(tmp_path: Path, wrong: int) -> None:
    with pytest.raises(AsdError, match="sessions="):
        simulate(tmp_path / "new", sessions=wrong, **{**SMALL, "source_train": 6})  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("machine", MACHINES)
def test_recordings_of_a_session_resemble_each_other_more_than_those_of_another(machine: str) -> None:
    def levels(session: int, index: int) -> NDArray[np.float64]:
        """(12,) dB, in bands of equal width."""
        samples = waveform(
            machine,
            domain="source",
            label="normal",
            rng=np.random.default_rng([session, index]),
            setting=SPECIFICATIONS[machine].settings["source"][0],
            session=Session.draw(np.random.default_rng(session)),
            seconds=1.0,
        )
        bands = np.array_split(np.square(np.abs(np.fft.rfft(samples))), 12)
        return np.array([10 * np.log10(band.mean()) for band in bands], dtype=np.float64)

    sounds = np.array([[levels(session, index) for index in range(4)] for session in range(8)])
    between, within = sounds.mean(axis=1).var(axis=0, ddof=1), sounds.var(axis=1, ddof=1).mean(axis=0)
    # Means of four recordings that are alike in nothing would vary by a quarter of what the recordings do.
    assert np.median(between / within) > 1
