"""Long recordings: read in pieces, cut into clips, each clip by itself."""

import io
import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from asdcore.recordings.audio import BadRecording, decode, examine, waveform_of
from asdcore.recordings.clips import SHORTEST, Clip, clip_count, clip_lengths, clip_named, cut, recording_count
from asdcore.recordings.sessions import groups_of
from asdcore.settings import RecordingSettings

RATE = 16_000
SETTINGS = RecordingSettings()
DIGEST = "0123456789abcdef" * 4


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE))).astype(np.float32)


def table(seconds: list[float], machine: str = "pump", session: str = "") -> pd.DataFrame:
    digests = [f"{machine}{number:060d}" for number in range(len(seconds))]
    rows = {"recording": digests, "path": digests, "machine": machine, "split": "train", "label": "normal"}
    return pd.DataFrame({**rows, "session": session, "seconds": seconds})


@pytest.mark.parametrize("seconds", [0.5, 6.0, 12.0, 18.0, 19.99])
def test_recordings_of_the_challenge_stay_whole(seconds: float) -> None:
    rows = table([seconds])
    assert cut(rows, {"pump": 10.0})["recording"].tolist() == rows["recording"].tolist()


@pytest.mark.parametrize("frames", [7, 160_001, 44_100 * 3_600])
@pytest.mark.parametrize("count", [1, 2, 3, 360])
def test_the_clips_of_a_recording_cover_it_without_gap_or_overlap(frames: int, count: int) -> None:
    spans = [Clip(DIGEST, number + 1, count).span(frames) for number in range(count)]
    assert spans[0][0] == 0 and spans[-1][1] == frames
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))
    lengths = [stop - start for start, stop in spans]
    assert max(lengths) - min(lengths) <= 1


def test_no_clip_is_shorter_than_asked_or_twice_as_long() -> None:
    for seconds in np.linspace(1, 300, 500):
        each = seconds / clip_count(seconds, 10.0)
        assert each < 20
        assert each >= min(seconds, 10.0)


def test_a_clip_is_known_by_its_name() -> None:
    for clip in (Clip(DIGEST), Clip(DIGEST, 3, 120)):
        assert clip_named(clip.name) == clip
    assert clip_named("a-name-of-a-recording") == Clip("a-name-of-a-recording")


def test_a_machine_with_few_long_recordings_gets_short_clips_and_others_the_usual_ones() -> None:
    rows = pd.concat([table([10.0] * 6, "motor"), table([10.0] * 10, "fan"), table([1_200.0], "pump")])
    lengths = clip_lengths(rows, SETTINGS)
    assert lengths == {"motor": SHORTEST, "fan": 10.0, "pump": 10.0}
    clips = cut(rows, lengths)
    assert clips.groupby("machine").size().to_dict() == {"fan": 10, "motor": 30, "pump": 120}
    assert recording_count(clips) == 17
    assert clips.groupby("machine")["seconds"].sum().to_dict() == {"fan": 100.0, "motor": 60.0, "pump": 1_200.0}


def test_the_clips_of_a_recording_are_one_session_where_none_is_named() -> None:
    clips = cut(table([100.0, 100.0, 10.0]), {"pump": 10.0})
    assert len(set(groups_of(clips))) == 3
    assert len(set(groups_of(cut(table([100.0, 100.0], session="monday"), {"pump": 10.0})))) == 1


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_a_clip_is_what_was_recorded_there(tmp_path: Path, format: str) -> None:
    samples, file = noise(65), tmp_path / f"long.{format}"
    soundfile.write(file, samples, RATE, subtype="PCM_16")
    written, _ = soundfile.read(file, dtype="float32")
    start, stop = Clip(DIGEST, 4, 6).span(len(written))
    clip = decode(file, SETTINGS, Clip(DIGEST, 4, 6))
    np.testing.assert_array_equal(clip.samples, written[start:stop])
    assert clip.seconds == pytest.approx(65 / 6, abs=1e-4)


def test_a_clip_of_another_rate_is_resampled() -> None:
    content = io.BytesIO()
    soundfile.write(content, noise(20), 44_100, format="WAV")
    clip = decode(content.getvalue(), SETTINGS, Clip(DIGEST, 2, 2))
    assert len(clip.samples) == pytest.approx(clip.seconds * RATE, abs=1)


def defects() -> dict[str, np.ndarray]:
    healthy = noise(130)
    late = healthy.copy()
    late[-5] = np.nan
    clipped = healthy.copy()
    clipped[::50] = 1.0
    offset = (1e-5 * healthy + 0.3).astype(np.float32)
    return {"healthy": healthy, "not finite": late, "clipped": clipped, "silent": 0 * healthy, "silent: -": offset}


@pytest.mark.parametrize("defect", list(defects()))
def test_a_long_file_is_judged_in_pieces_as_it_would_be_whole(tmp_path: Path, defect: str) -> None:
    samples, file = defects()[defect], tmp_path / "long.wav"
    soundfile.write(file, samples, RATE, subtype="FLOAT")
    reasons = []
    for judge in (lambda: examine(file, SETTINGS), lambda: waveform_of(samples[:, None], RATE, SETTINGS)):
        try:
            judge()
            reasons.append("")
        except BadRecording as bad:
            reasons.append(str(bad))
    assert reasons[0] == reasons[1]
    assert bool(reasons[0]) == (defect != "healthy")
    assert defect == "healthy" or defect in reasons[0]


def test_an_hour_is_examined_in_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "hour.wav"
    with soundfile.SoundFile(file, "w", RATE, 1, subtype="PCM_16") as out:
        for seed in range(60):
            out.write(noise(60, seed))
    tracemalloc.start()
    try:
        assert examine(file, SETTINGS).seconds == 3_600
        assert tracemalloc.get_traced_memory()[1] < 40_000_000  # the hour is 230 MB of float32
    finally:
        tracemalloc.stop()


def test_six_gigabytes_of_nothing_get_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "sparse.wav"
    with file.open("wb") as sparse:
        sparse.truncate(6 << 30)
    with pytest.raises(BadRecording, match="unreadable"):
        examine(file, SETTINGS)
