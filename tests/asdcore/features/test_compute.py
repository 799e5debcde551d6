from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdcore.features import compute
from asdcore.features.augmentation import VARIANTS, spectrograms
from asdcore.features.compute import compute_shard, features_digest
from asdcore.features.store import Store
from asdcore.home import digest_of_file
from asdcore.recordings.audio import decode
from asdcore.settings import AugmentationSettings, MelSettings, NormalitySettings, RecordingSettings, Settings

Recorder = Callable[..., Path]

SETTINGS = Settings(augmentation=AugmentationSettings(pitch_method="spectral"))


@pytest.fixture
def recordings(tmp_path: Path, record: Recorder) -> list[tuple[str, str]]:
    paths = [record(tmp_path / "pump" / f"{seed}.wav", seed) for seed in range(4)]
    return [(digest_of_file(path), str(path)) for path in paths]


def test_a_shard_holds_the_original_and_its_six_variants_as_float16(
    tmp_path: Path, recordings: list[tuple[str, str]]
) -> None:
    shard, failures = compute_shard(tmp_path / "store", recordings, SETTINGS)
    assert shard is not None
    assert failures == {}
    store = Store(tmp_path / "store")
    assert list(store.places) == [digest for digest, _ in recordings]
    for digest, path in recordings:
        waveform = decode(Path(path).read_bytes(), SETTINGS.recordings).samples
        expected = spectrograms(waveform, digest, 16_000, SETTINGS.mel, SETTINGS.augmentation)
        for column in ("original", *VARIANTS):
            np.testing.assert_array_equal(store.read(digest, column), expected[column].astype(np.float16))


def test_a_file_that_is_gone_or_changed_tells_why_and_the_rest_goes_on(
    tmp_path: Path, recordings: list[tuple[str, str]], record: Recorder
) -> None:
    gone, changed, refused, kept = recordings
    Path(gone[1]).unlink()
    record(Path(changed[1]), 99)
    soundfile.write(refused[1], np.zeros(16_000), 16_000)
    refused = (digest_of_file(Path(refused[1])), refused[1])
    shard, failures = compute_shard(tmp_path / "store", [gone, changed, refused, kept], SETTINGS)
    assert shard is not None
    assert list(Store(tmp_path / "store").places) == [kept[0]]
    assert failures == {
        gone[0]: "unreadable: No such file or directory (it could be read when it was ingested)",
        changed[0]: "changed: the file has another content than when it was ingested; ingest it again",
        refused[0]: "silent: every sample is 0",
    }


def test_no_readable_recording_no_shard(tmp_path: Path, recordings: list[tuple[str, str]]) -> None:
    for _, path in recordings:
        Path(path).unlink()
    shard, failures = compute_shard(tmp_path / "store", recordings, SETTINGS)
    assert shard is None
    assert set(failures) == {digest for digest, _ in recordings}
    assert list((tmp_path / "store").iterdir()) == []


def test_one_process_and_several_write_the_same_bytes(
    tmp_path: Path, recordings: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Processes of their own have fewer BLAS threads, which must not show in any digit.
    alone, _ = compute_shard(tmp_path / "alone", recordings, SETTINGS)
    monkeypatch.setattr(compute, "FEW", 0)
    monkeypatch.setattr(compute, "cpu_count", lambda: 2)
    together, _ = compute_shard(tmp_path / "together", recordings, SETTINGS)
    assert alone is not None
    assert together is not None
    assert together.name == alone.name
    assert together.read_bytes() == alone.read_bytes()


def test_the_digest_changes_with_what_changes_a_spectrogram_and_with_nothing_else() -> None:
    base = features_digest(Settings(), "code")
    changed = [
        features_digest(Settings(), "other code"),
        features_digest(Settings(mel=MelSettings(n_mels=64)), "code"),
        features_digest(Settings(augmentation=AugmentationSettings(seed=1)), "code"),
        features_digest(Settings(recordings=RecordingSettings(channel="mean")), "code"),
        features_digest(Settings(recordings=RecordingSettings(sample_rate=8_000)), "code"),
    ]
    assert len({base, *changed}) == 6
    assert features_digest(Settings(normality=NormalitySettings(layer="h")), "code") == base
    assert features_digest(Settings(recordings=RecordingSettings(minimum_training_recordings=20)), "code") == base
