from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdcore.features import compute
from asdcore.features import store as store_module
from asdcore.features.augmentation import VARIANTS, spectrograms
from asdcore.features.compute import compute_features, features_digest, missing_parts
from asdcore.features.store import EXTENDS, Store, drop_damaged
from asdcore.recordings.audio import decode
from asdcore.settings import (
    AugmentationSettings,
    MelSettings,
    NormalitySettings,
    RecordingSettings,
    Settings,
    TrainingSettings,
)
from asdcore.storage.files import digest_of_file

Recorder = Callable[..., Path]

SETTINGS = Settings(augmentation=AugmentationSettings(pitch_method="spectral"))


@pytest.fixture
def recordings(tmp_path: Path, record: Recorder) -> list[tuple[str, str]]:
    paths = [record(tmp_path / "pump" / f"{seed}.wav", seed) for seed in range(4)]
    return [(digest_of_file(path), str(path)) for path in paths]


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of the originals and of the variants."""
    return tmp_path / "store", tmp_path / "store" / f"{EXTENDS}1"


def shards_of(stores: tuple[Path, Path]) -> dict[str, bytes]:
    return {str(path.relative_to(stores[0])): path.read_bytes() for path in stores[0].rglob("*.parquet")}


def test_the_stores_hold_the_original_and_its_six_variants_as_float16(
    stores: tuple[Path, Path], recordings: list[tuple[str, str]]
) -> None:
    shards, failures = compute_features(*stores, recordings, SETTINGS)
    assert {shard.parent for shard in shards} == set(stores)
    assert failures == {}
    store = Store(stores[1])
    assert store.recordings == [digest for digest, _ in recordings]
    for digest, path in recordings:
        waveform = decode(Path(path), SETTINGS.recordings).samples
        expected = spectrograms(waveform, digest, 16_000, SETTINGS.mel, SETTINGS.augmentation)
        for column in ("original", *VARIANTS):
            np.testing.assert_array_equal(store.read(digest, column), expected[column].astype(np.float16))


def test_a_file_that_is_gone_or_changed_tells_why_and_the_rest_goes_on(
    stores: tuple[Path, Path], recordings: list[tuple[str, str]], record: Recorder
) -> None:
    gone, changed, refused, kept = recordings
    Path(gone[1]).unlink()
    record(Path(changed[1]), 99)
    soundfile.write(refused[1], np.zeros(16_000), 16_000)
    refused = (digest_of_file(Path(refused[1])), refused[1])
    shards, failures = compute_features(*stores, [gone, changed, refused, kept], SETTINGS)
    assert len(shards) == 2
    assert Store(stores[1]).recordings == [kept[0]]
    assert failures == {
        gone[0]: "unreadable: No such file or directory (it could be read when it was ingested)",
        changed[0]: "changed: the content of the file differs from when it was ingested; ingest it again",
        refused[0]: "silent: every sample is 0",
    }


def test_no_readable_recording_no_shard(stores: tuple[Path, Path], recordings: list[tuple[str, str]]) -> None:
    for _, path in recordings:
        Path(path).unlink()
    shards, failures = compute_features(*stores, recordings, SETTINGS)
    assert shards == []
    assert set(failures) == {digest for digest, _ in recordings}
    assert shards_of(stores) == {}


def test_one_process_and_several_write_the_same_bytes(
    tmp_path: Path, recordings: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Processes of their own have fewer BLAS threads, which must not show in any digit.
    monkeypatch.setattr(compute, "SHARD_SIZE", 2)
    made = []
    for processes in (1, 2):
        monkeypatch.setattr(compute, "cpu_count", lambda processes=processes: processes)
        stores = (tmp_path / str(processes), tmp_path / str(processes) / f"{EXTENDS}1")
        compute_features(*stores, recordings, SETTINGS)
        made.append(shards_of(stores))
    assert made[0] == made[1]
    assert len(made[0]) == 4


def test_only_what_is_missing_is_computed(stores: tuple[Path, Path], recordings: list[tuple[str, str]]) -> None:
    digests = [digest for digest, _ in recordings]
    originals, variants = stores
    assert missing_parts(originals, None, digests) == {(originals, None): digests}
    assert missing_parts(*stores, digests) == {stores: digests}
    compute_features(originals, None, recordings[:2], SETTINGS)
    assert missing_parts(*stores, digests) == {(None, variants): digests[:2], stores: digests[2:]}
    before = shards_of(stores)
    compute_features(None, variants, recordings[:2], SETTINGS)
    compute_features(originals, variants, recordings[2:], SETTINGS)
    assert missing_parts(*stores, digests) == missing_parts(originals, None, digests) == {}
    after = shards_of(stores)
    assert len(after) == 4
    assert before.items() < after.items()  # An original is not written again for its variants.
    for shard in originals.glob("*.parquet"):
        shard.unlink()
    assert missing_parts(*stores, digests) == {(originals, None): digests}


def test_new_shards_count_as_verified(
    stores: tuple[Path, Path], recordings: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute_features(*stores, recordings, SETTINGS)
    monkeypatch.setattr(store_module, "digest_of_file", lambda path: pytest.fail(f"{path} was read again"))
    assert [drop_damaged(folder) for folder in stores] == [[], []]


def test_the_digest_changes_with_what_changes_a_spectrogram_and_with_nothing_else() -> None:
    trained = Settings(training=TrainingSettings(encoder="resnet18"))
    base = features_digest(trained, "code")
    originals = features_digest(trained, "code", variants=False)
    seeded = Settings(training=trained.training, augmentation=AugmentationSettings(seed=1))
    assert features_digest(seeded, "code") != base
    assert features_digest(seeded, "code", variants=False) == originals
    for variants, unchanged in ((True, base), (False, originals)):
        changed = [
            features_digest(Settings(), "other code", variants=variants),
            features_digest(Settings(training=trained.training, mel=MelSettings(n_mels=64)), "code", variants=variants),
            features_digest(
                Settings(training=trained.training, recordings=RecordingSettings(channel="mean")),
                "code",
                variants=variants,
            ),
            features_digest(
                Settings(training=trained.training, recordings=RecordingSettings(sample_rate=8_000)),
                "code",
                variants=variants,
            ),
        ]
        assert len({base, originals, *changed}) == 6
        normality = Settings(training=trained.training, normality=NormalitySettings(layer="z"))
        assert features_digest(normality, "code", variants=variants) == unchanged
        fewer = Settings(training=trained.training, recordings=RecordingSettings(minimum_training_recordings=20))
        assert features_digest(fewer, "code", variants=variants) == unchanged
