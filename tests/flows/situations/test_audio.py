"""Audio files as plants have them."""

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from asdcore.detector import Detector
from asdcore.monitoring.comparison import compare, newly_learned
from asdcore.recordings.audio import BadRecording, decode, open_audio
from asdcore.recordings.catalog import Catalog, Ingested
from asdcore.recordings.health import remarks
from asdcore.recordings.names import find_recordings
from asdcore.recordings.training import training_recordings
from asdcore.screening import screen
from asdcore.settings import NormalitySettings, RecordingSettings, Settings
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home
from tasks.alarms import raised_alarms
from tasks.review import NOT_JUDGED, champions_review
from tests.flows.situations import odd_audio
from tests.flows.situations.odd_audio import Odd, encoded, odd, sound, with_size

SETTINGS = RecordingSettings()
USE = RecordingSettings(cut_off="use")


def ingested(folder: Path, files: dict[str, bytes], home: Path | None = None) -> tuple[Ingested, Catalog]:
    """Files in a folder, and the table of recordings after it was ingested."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    catalog = Catalog(home or folder / "table")
    return catalog.ingest(find_recordings(folder), SETTINGS), catalog


def judge(file: Odd, settings: RecordingSettings = SETTINGS) -> str:
    """The first thing that is said of a file, or the reason why it cannot be used."""
    try:
        taken = decode(file.content, settings)
    except BadRecording as bad:
        assert not file.taken or settings is not SETTINGS, bad
        return str(bad)
    assert file.taken or settings is not SETTINGS, taken.treatment
    return next(iter(remarks(taken.treatment)), "")


def check_all(group: str) -> None:
    for file in odd(group):
        said = judge(file)
        assert said.startswith(file.words), file.name
        assert bool(said) == bool(file.words), file.name


def length(file: Odd, settings: RecordingSettings = SETTINGS) -> float:
    return decode(file.content, settings).seconds


@pytest.mark.situation(
    "a file in GSM 6.10, G.721, G.723 or NMS ADPCM, in which libsndfile cannot seek",
    before="quarantined (Seek attempted on unseekable file type)",
    after="read in blocks from its start, and marked as lossy",
)
def test_codecs_without_a_way_back_are_read() -> None:
    check_all("rare codecs")
    for file in odd("rare codecs")[:-1]:
        assert length(file) == pytest.approx(odd_audio.SECONDS, abs=0.01), file.name
        with open_audio(file.content) as audio:
            later, earlier, whole = audio.read(8000, 16_000), audio.read(0, 8000), audio.read(0, 16_000)
        np.testing.assert_array_equal(np.concatenate([earlier, later]), whole)


@pytest.mark.situation(
    "a decoder that raises an unexpected exception for one file of a folder",
    before="not tried; by the code: any exception but libsndfile's own ended the ingest",
    after="this file is quarantined with the exception as its reason; the others are used",
)
def test_an_exception_of_a_decoder_is_the_reason_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = soundfile.SoundFile.read

    def fail(self: soundfile.SoundFile, *args: object, **kwargs: object) -> object:
        if self.channels == 2:
            raise MemoryError("no such luck")
        return read(self, *args, **kwargs)

    monkeypatch.setattr(soundfile.SoundFile, "read", fail)
    stereo = encoded("WAV", "PCM_16", np.stack([sound(), sound(1)], axis=1))
    done, _ = ingested(tmp_path, {"pump/a.wav": encoded("WAV", "PCM_16"), "pump/b.wav": stereo})
    assert done.added == 1
    assert list(done.quarantined.values()) == ["unreadable: MemoryError: no such luck"]


@pytest.mark.situation(
    "half a recording: RF64, W64, RIFX, AIFF, AIFC, AU or CAF, also named .wav",
    before="taken for a complete, shorter recording (CAF: malformed)",
    after="quarantined: cut off, with what the header promises and what the file holds",
)
def test_half_recordings_do_not_pass_for_whole_ones() -> None:
    check_all("halves")


@pytest.mark.situation(
    "a FLAC file that holds more or fewer samples than its header says",
    before="more: silently cut to the header's length; fewer: Internal psf_fseek() failed",
    after="quarantined: header lies, or cut off, with both numbers",
)
def test_a_flac_header_is_compared_with_the_last_frame() -> None:
    check_all("lying flac")


@pytest.mark.situation(
    "no length in the header: FLAC segments, WAV of size 0, 0x7FFF0000 or more, or 36 or 44 bytes too large, AU, CAF",
    before="quarantined (header lies; cut off; does not say how long it is), except for 0x7FFFF000 and more",
    after="read to the end of the file; marked in the table and counted",
)
def test_a_recording_without_a_length_is_taken_to_its_end() -> None:
    check_all("no length")
    for file in odd("no length"):
        assert length(file) == odd_audio.SECONDS, file.name


@pytest.mark.situation(
    "a recording that is really cut off, or longer than its header says",
    before="quarantined",
    after="quarantined; with recordings.cut_off=use, used at its actual length",
)
def test_what_is_cut_off_stays_out_unless_the_setting_takes_it() -> None:
    check_all("wrong size")
    for file in (*odd("wrong size"), *odd("halves")[:-1], *odd("lying flac")):
        said = judge(file, USE)
        assert said.startswith(file.words), file.name
        held = length(file, USE)
        half = file.name.startswith("half")
        assert held == pytest.approx(odd_audio.SECONDS / (2 if half else 1), abs=0.3 if half else 0.0), file.name


@pytest.mark.situation(
    "tags, garbage, zeros or an unpadded chunk after the sound",
    before="quarantined (header lies), except for tags and zeros",
    after="read; what is left over is ignored and marked",
)
def test_what_follows_the_sound_is_no_reason_to_refuse_it() -> None:
    check_all("tails")
    for file in odd("tails"):
        assert length(file) == pytest.approx(odd_audio.SECONDS, abs=1e-3), file.name


@pytest.mark.situation(
    "FLAC of 12, 20 or 32 bits per sample (and of 15)",
    before="quarantined (File contains data in an unimplemented format)",
    after="read; for a depth without a code in FLAC frames, such as 15, the reason says which depths can be read",
)
def test_flac_of_rare_depths_is_read() -> None:
    check_all("depths")
    for file in odd("depths"):
        if file.taken:
            assert np.abs(decode(file.content, SETTINGS).samples - sound()).max() < 2**-11, file.name


@pytest.mark.situation(
    "a sparse WAV file of 6 GB",
    before="read for more than two minutes; a MemoryError was reported",
    after="refused at once: more than 4 GiB, or longer than 24 hours",
)
def test_an_endless_file_is_refused_at_once_and_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "pump" / "endless.wav"
    path.parent.mkdir()
    path.write_bytes(with_size(encoded("WAV", "PCM_16"), 0xFFFFFFFF))
    os.truncate(path, 6 * 2**30)
    tracemalloc.start()
    done = Catalog(tmp_path / "table").ingest(find_recordings(tmp_path), SETTINGS)
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()
    (reason,) = done.quarantined.values()
    assert reason.startswith("too long: 6442450900 bytes of sound, more than its header can say")
    path.write_bytes(with_size(encoded("WAV", "PCM_16"), 0xFFFFFFFF))
    os.truncate(path, 3 * 2**30)
    done = Catalog(tmp_path / "table").ingest(find_recordings(tmp_path), SETTINGS)
    assert list(done.quarantined.values()) == ["too long: 28 h; cut it into files of at most 24 h"]


@pytest.mark.situation(
    "dropouts, an offset, a dead channel",
    before="not noticed: a dropout of 0.2 s or an offset of half the RMS made normal recordings anomalous",
    after="reported beside the verdict and counted; the offset is removed; a dead channel is left out of the mean",
)
def test_flaws_of_a_recording_are_said() -> None:
    check_all("flaws")
    offset, second_dead = odd("flaws")[1:3]
    assert abs(decode(offset.content, SETTINGS).samples.mean()) < 1e-4
    mean = decode(second_dead.content, RecordingSettings(channel="mean"))
    assert np.abs(mean.samples - sound()).max() < 1e-3


@pytest.mark.situation(
    "the same sound in two files: another comment, another container",
    before="not tried; by the code: two recordings, also across train and test",
    after="one recording; of two that disagree about train and test, neither is used",
)
def test_files_of_one_sound_are_one_recording(tmp_path: Path) -> None:
    samples = np.round(sound() * 32_767).astype(np.int16)
    wav, flac = (encoded(format, "PCM_16", samples) for format in ("WAV", "FLAC"))
    done, catalog = ingested(
        tmp_path / "a", {"pump/1.wav": wav, "pump/2.wav": wav + odd_audio.LIST, "pump/3.flac": flac}
    )
    assert (done.added, done.duplicates, len(catalog.recordings)) == (1, 2, 1)
    done = catalog.ingest(find_recordings(tmp_path / "a"), SETTINGS)
    assert (done.added, done.known, done.duplicates, len(catalog.recordings)) == (0, 1, 2, 1)

    names = ("pump/train/section_00_source_train_normal_1.wav", "pump/test/section_00_source_test_normal_1.wav")
    done, catalog = ingested(tmp_path / "b", {names[0]: wav, names[1]: wav + odd_audio.LIST})
    assert done.added == 0
    assert all("the same sound is given as two things" in reason for reason in done.quarantined.values())
    assert len(done.quarantined) == 2


@pytest.mark.situation(
    "a recording whose metadata change, with or without a move",
    before="not tried; by the code: a second recording of the same sound, without the label that a person gave the "
    "first",
    after="the same recording with its new content; its label stays",
)
@pytest.mark.parametrize("moved", [False, True])
def test_a_label_follows_the_sound_into_a_changed_file(tmp_path: Path, moved: bool) -> None:
    wav = encoded("WAV", "PCM_16")
    _, catalog = ingested(
        tmp_path, {"pump/1.wav": wav, "pump/2.wav": encoded("WAV", "PCM_16", sound(1))}, tmp_path / "t"
    )
    old = catalog.recordings.set_index("path").loc[str(tmp_path / "pump/1.wav"), "recording"]
    catalog.label({str(old): "anomaly"}, "somebody")
    (tmp_path / "pump/1.wav").unlink()
    _, catalog = ingested(tmp_path, {f"pump/{'3' if moved else '1'}.wav": wav + odd_audio.LIST}, tmp_path / "t")
    assert len(catalog.recordings) == 2
    assert sorted(catalog.recordings["label"]) == ["anomaly", "normal"]


@pytest.fixture(scope="module")
def pumps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Detector]]:
    """Twelve normal recordings of a pump, and a detector of them."""
    place = tmp_path_factory.mktemp("pumps")
    for seed in range(12):
        path = place / "train" / "pump" / f"{seed}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded("WAV", "PCM_16", sound(seed)))
    normality = NormalitySettings(scorers=("spectrum",), false_alarm_rate=0.1)
    yield place, Detector.fit(place / "train", Settings(normality=normality))


def scored(pumps: tuple[Path, Detector], name: str, content: bytes) -> pd.Series:
    place, detector = pumps
    file = place / "new" / "pump" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return detector.score([file]).iloc[0]


@pytest.mark.situation(
    "mp3, ogg, opus, ADPCM, GSM or 8 bits for a machine that was fitted on lossless recordings",
    before="decoded and judged: Vorbis at a low rate made 90 % of real normal recordings anomalous",
    after="not judged, with the reason: lossy; mu-law and A-law are judged, since they make no difference to the "
    "detector",
)
def test_a_lossy_recording_is_not_compared_with_lossless_ones(pumps: tuple[Path, Detector], tmp_path: Path) -> None:
    check_all("lossy")
    for file in odd("lossy"):
        row = scored(pumps, file.name, file.content)
        assert row["reason"].startswith(file.words), file.name
        assert bool(row["verdict"]) == (not file.words), file.name
    again = tmp_path / "again"
    pumps[1].save(again)
    assert Detector.load(again).machines["pump"].formats == pumps[1].machines["pump"].formats


@pytest.mark.situation(
    "mp3 files among the normal recordings of a machine",
    before="used for training with the others",
    after="used if most recordings of the machine are mp3, otherwise left out; a detector fitted on mp3 files judges "
    "mp3 files",
)
def test_lossy_recordings_train_among_themselves_only(tmp_path: Path) -> None:
    mp3 = {f"pump/{seed}.wav": encoded("MP3", "MPEG_LAYER_III", sound(seed)) for seed in range(12)}
    _, catalog = ingested(tmp_path / "alone", mp3)
    assert len(training_recordings(catalog.recordings)) == 12
    wav = {f"pump/{seed}.wav": encoded("WAV", "PCM_16", sound(seed)) for seed in range(90, 93)}
    for n_mp3, n_wav, used in ((12, 1, "MP3"), (2, 3, ""), (3, 3, "")):
        files = dict(list(mp3.items())[:n_mp3]) | dict(list(wav.items())[:n_wav])
        _, catalog = ingested(tmp_path / f"{n_mp3} and {n_wav}", files)
        codecs = training_recordings(catalog.recordings)["codec"].tolist()
        assert codecs == [used] * (n_mp3 if used else n_wav)

    settings = Settings(normality=NormalitySettings(scorers=("spectrum",), false_alarm_rate=0.1))
    place = tmp_path / "alone", Detector.fit(tmp_path / "alone" / "pump", settings)
    assert scored(place, "new.mp3", encoded("MP3", "MPEG_LAYER_III", sound(50)))["verdict"] == "normal"
    assert scored(place, "new.wav", encoded("WAV", "PCM_16", sound(50)))["reason"].startswith("lossless: not compared")


@pytest.mark.situation(
    "a retraining of a machine whose recordings are all mp3, or all at 8 kHz",
    before="the same, right",
    after="champion and challenger are compared on these recordings",
)
@pytest.mark.parametrize(
    "content",
    [
        lambda seed: encoded("MP3", "MPEG_LAYER_III", sound(seed)),
        lambda seed: encoded("WAV", "PCM_16", sound(seed, rate=8000), 8000),
    ],
    ids=["mp3", "8 kHz"],
)
def test_the_gate_compares_detectors_of_other_formats(tmp_path: Path, content: Callable[[int], bytes]) -> None:
    settings = Settings(normality=NormalitySettings(scorers=("spectrum",), false_alarm_rate=0.1))
    _, catalog = ingested(tmp_path, {f"pump/{seed}.wav": content(seed) for seed in range(12)})
    detector = Detector.fit(tmp_path / "pump", settings)
    _, catalog = ingested(tmp_path, {f"pump/{seed}.wav": content(seed) for seed in range(12, 15)}, catalog.folder)
    # One that a detector of such recordings cannot judge is left out.
    ingested(tmp_path, {"pump/test/normal/20.wav": encoded("WAV", "PCM_24", sound(20))}, catalog.folder)
    rows = Catalog(catalog.folder).recordings
    assert len(rows) == 16
    judged = compare(detector, detector, rows, settings)
    assert "pump" in judged["by"] and {row["machine"] for row in judged["compared"]} >= {"pump"}, judged
    new = newly_learned(detector, rows.assign(clip_seconds=1.0), "pump", settings)
    assert new.recordings == 3


@pytest.mark.situation(
    "another sample rate than that of the training: 8 kHz after 16 kHz, or the other way round",
    before="anomalous, with no explanation",
    after="not judged, and the reason names both rates; rates above recordings.sample_rate count as the same",
)
def test_another_band_is_not_judged(pumps: tuple[Path, Detector]) -> None:
    row = scored(pumps, "8k.wav", encoded("WAV", "PCM_16", sound(3, rate=8000), 8000))
    assert row["reason"].startswith("another band: recorded at 8000 Hz, which is sound up to 4000 Hz")
    assert row["verdict"] == ""
    assert scored(pumps, "48k.wav", encoded("WAV", "PCM_16", sound(3, rate=48_000), 48_000))["reason"] == ""


@pytest.mark.situation(
    "an alarm by a recording with dropouts",
    before="an alarm like any other",
    after="the alarm, the table and the report say that the recording has dropouts",
)
def test_an_alarm_by_a_flawed_recording_says_so(pumps: tuple[Path, Detector], tmp_path: Path) -> None:
    dropped = sound(5).copy()
    dropped[5000:12_000] = 0
    row = scored(pumps, "dropped.wav", encoded("WAV", "PCM_16", dropped))
    assert row["verdict"] in ("anomalous", "suspect")
    assert remarks(row["treatment"]) == ["dropouts: 1 run of zeros, 0.44 s together"]
    table = pd.DataFrame([row]).assign(decision=1)
    alarms, _ = raised_alarms(Home.at(tmp_path), pumps[1], table)
    assert alarms == {"pump": "1 of 1 recordings anomalous, some of them with dropouts"}


@pytest.mark.situation(
    "a folder to screen with two mp3 files, an 8 kHz file and a retagged copy among 16 kHz WAV files",
    before="not tried; by the code: ranked among the others",
    after="not ranked, each with its reason; a folder of mp3 files alone is ranked",
)
def test_a_screening_ranks_what_can_be_compared(tmp_path: Path) -> None:
    wav = {f"{seed}.wav": encoded("WAV", "PCM_16", sound(seed)) for seed in range(10)}
    mp3 = {f"{seed}.mp3.wav": encoded("MP3", "MPEG_LAYER_III", sound(seed)) for seed in range(10, 20)}
    two = dict(list(mp3.items())[:2])
    others = {"8k.wav": encoded("WAV", "PCM_16", sound(20, rate=8000), 8000), "copy.wav": wav["3.wav"] + odd_audio.LIST}
    dropped = sound(21).copy()
    dropped[5000:8200] = 0
    others["dropped.wav"] = encoded("WAV", "PCM_16", dropped)
    for name, files in (("pump", wav | two | others), ("fan", mp3)):
        for file, content in files.items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / file).write_bytes(content)
    table = screen(tmp_path)
    table["name"] = table["path"].map(lambda path: Path(path).name)
    pump = table[table["machine"] == "pump"].set_index("name")
    assert set(pump.index[pump["reason"] != ""]) == {*two, "8k.wav", "copy.wav"}
    assert pump.loc["8k.wav", "reason"] == "another band: 8000 Hz, where most recordings have 16000 Hz"
    assert pump.loc["copy.wav", "reason"].startswith("the same sound as ")
    assert pump.loc["dropped.wav", "treatment"].startswith("dropouts: ")
    assert (table.loc[table["machine"] == "fan", "reason"] == "").all()


@pytest.mark.situation(
    "new recordings of an enrolled machine in mp3 or at 8 kHz are ingested",
    before="suspect or anomalous to the champion, with no reason given",
    after="pending review: the champion could not judge them",
)
def test_the_champion_leaves_to_a_person_what_it_cannot_compare(pump_place: Path, tmp_path: Path) -> None:
    rows = []
    for name, content in (
        ("new.mp3", encoded("MP3", "MPEG_LAYER_III")),
        ("new.wav", encoded("WAV", "PCM_16", sound(rate=8000), 8000)),
    ):
        path = tmp_path / "pump" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        rows.append({"recording": digest_of_file(path), "path": str(path), "machine": "pump", "session": ""})
    doubted = champions_review(Home.at(pump_place / ".asd"), print)(rows)
    assert doubted == dict.fromkeys((row["recording"] for row in rows), NOT_JUDGED)
