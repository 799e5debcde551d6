import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asdcore.errors import AsdError
from asdcore.features import preload as preload_module
from asdcore.features.augmentation import VARIANTS
from asdcore.features.batches import READ_AHEAD, Batch, batches
from asdcore.features.normalisation import Normalisation
from asdcore.features.preload import COLUMNS, PreloadedStore, preload
from asdcore.features.store import Store, write_shard

UNCHANGED = Normalisation(np.zeros((4, 1), np.float32), np.ones((4, 1), np.float32))
CPU = torch.device("cpu")
N = 50
FRAMES = 40


def value(recording: int, column: int, frame: int) -> int:
    """Each value of the store tells where it comes from; below 2048, so that float16 holds it exactly."""
    return recording * FRAMES + frame if column == 0 else -(recording * 8 + column)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """50 recordings: `original` counts frames, a variant repeats one number that names recording and variant."""
    folder = tmp_path_factory.mktemp("store")

    def array(recording: int, column: int) -> Any:
        return np.tile(np.array([value(recording, column, f) for f in range(FRAMES)], np.float16), (4, 1))

    names = ("original", *VARIANTS)
    write_shard(folder, ((f"r{i}", {name: array(i, c) for c, name in enumerate(names)}) for i in range(N)))
    return Store(folder)


def epoch(store: Store | PreloadedStore, n: int = N, **changes: Any) -> list[Batch]:
    given = {"batch_size": 8, "crop_frames": 16, "seed": 0, "epoch": 0} | changes
    return list(batches(store, [f"r{i}" for i in range(n)], UNCHANGED, **given))


def test_shapes_and_number_of_batches(store: Store) -> None:
    made = epoch(store)
    assert len(made) == N // 8 > READ_AHEAD
    for batch in made:
        assert len(batch.recordings) == 8
        for views in (batch.original, batch.variant):
            assert views.shape == (8, 1, 4, 16)
            assert views.dtype == np.float32


def test_batches_that_are_kept_stay_as_they_are(store: Store) -> None:
    stream = batches(store, [f"r{i}" for i in range(N)], UNCHANGED, batch_size=4, crop_frames=16, seed=0, epoch=0)
    kept = [(batch, batch.frames.clone()) for batch in stream]
    assert all(torch.equal(batch.frames, value) for batch, value in kept)


def test_a_recording_is_met_at_most_once_an_epoch(store: Store) -> None:
    met = [recording for batch in epoch(store) for recording in batch.recordings]
    assert len(met) == len(set(met)) == 48


def test_the_partner_is_a_variant_of_the_same_recording(store: Store) -> None:
    drawn = set()
    for batch in epoch(store):
        for name, original, variant in zip(batch.recordings, batch.original, batch.variant, strict=True):
            recording = int(name[1:])
            first = original[0, 0, 0]
            np.testing.assert_array_equal(original[0, 0], np.arange(first, first + 16))
            assert recording * FRAMES <= first <= recording * FRAMES + FRAMES - 16
            assert len(np.unique(variant)) == 1
            said = int(-variant[0, 0, 0])
            assert said // 8 == recording
            drawn.add(said % 8)
    assert drawn == {1, 2, 3, 4, 5, 6}


def test_both_views_are_the_same_span(tmp_path: Path) -> None:
    counting = np.tile(np.arange(FRAMES, dtype=np.float16), (4, 1))
    write_shard(tmp_path, ((f"r{i}", dict.fromkeys(("original", *VARIANTS), counting)) for i in range(16)))
    for batch in epoch(Store(tmp_path), n=16):
        np.testing.assert_array_equal(batch.original, batch.variant)
        assert len(np.unique(batch.original[:, 0, 0, 0])) > 2


def same(a: list[Batch], b: list[Batch]) -> bool:
    return [x.recordings for x in a] == [x.recordings for x in b] and all(
        np.array_equal(x.original, y.original) and np.array_equal(x.variant, y.variant)
        for x, y in zip(a, b, strict=True)
    )


def test_seed_and_epoch_decide_everything(store: Store) -> None:
    assert same(epoch(store), epoch(store))
    assert same(epoch(store, seed=3, epoch=7), epoch(store, seed=3, epoch=7))
    assert not same(epoch(store), epoch(store, epoch=1))
    assert not same(epoch(store), epoch(store, seed=1))
    assert not same(epoch(store, seed=0, epoch=1), epoch(store, seed=1, epoch=0))


@pytest.mark.parametrize("start", [0, 1, 5, 6])
def test_an_epoch_goes_on_from_any_step_as_if_it_had_not_stopped(store: Store, start: int) -> None:
    whole, rest = epoch(store), epoch(store, start=start)
    assert len(rest) == 6 - start
    assert same(rest, whole[start:])


def test_the_parts_of_a_batch_are_together_the_batch(store: Store) -> None:
    whole, (first, second) = epoch(store), (epoch(store, part=(i, 2)) for i in range(2))
    for batch, a, b in zip(whole, first, second, strict=True):
        assert a.recordings == b.recordings == batch.recordings
        assert a.variants == b.variants == batch.variants
        np.testing.assert_array_equal(np.concatenate([a.original, b.original]), batch.original)
        np.testing.assert_array_equal(np.concatenate([a.variant, b.variant]), batch.variant)


def test_the_steps_before_the_start_are_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {recording for batch in epoch(store)[:4] for recording in batch.recordings}
    for recording in first:
        monkeypatch.delitem(store._rows, recording)
    assert len(epoch(store, start=4)) == 2


def test_the_same_recording_meets_other_variants_and_spans_in_other_epochs(store: Store) -> None:
    variants, starts = set(), set()
    for number in range(20):
        for batch in epoch(store, epoch=number):
            if "r7" in batch.recordings:
                i = batch.recordings.index("r7")
                variants.add(float(batch.variant[i, 0, 0, 0]))
                starts.add(float(batch.original[i, 0, 0, 0]))
    assert len(variants) >= 4
    assert len(starts) >= 8


def test_fewer_recordings_than_a_batch_make_one_small_batch(store: Store) -> None:
    (batch,) = epoch(store, n=3)
    assert sorted(batch.recordings) == ["r0", "r1", "r2"]


def test_views_are_normalised(store: Store) -> None:
    plain = epoch(store, n=8)[0]
    normalisation = Normalisation(np.full((4, 1), 5, np.float32), np.full((4, 1), 2, np.float32))
    (scaled,) = batches(
        store, [f"r{i}" for i in range(8)], normalisation, batch_size=8, crop_frames=16, seed=0, epoch=0
    )
    np.testing.assert_allclose(scaled.original, (plain.original - 5) / 2)
    np.testing.assert_allclose(scaled.variant, (plain.variant - 5) / 2)


def test_a_short_recording_repeats_to_the_length_of_the_crop(store: Store) -> None:
    (batch,) = epoch(store, n=4, crop_frames=100)
    for name, original in zip(batch.recordings, batch.original, strict=True):
        once = np.arange(FRAMES) + int(name[1:]) * FRAMES
        np.testing.assert_array_equal(original[0, 2], np.concatenate([once, once, once[:20]]))


def test_a_set_that_is_held_gives_the_same_batches_without_the_files(store: Store) -> None:
    held = preload(store, [f"r{i}" for i in range(N)], CPU)
    assert isinstance(held, PreloadedStore)
    for changes in ({}, {"epoch": 3, "start": 2}, {"crop_frames": 100}, {"crop_frames": FRAMES}):
        assert same(epoch(held, **changes), epoch(store, **changes))


def test_a_set_that_does_not_fit_in_memory_is_read_from_the_files(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = [f"r{i}" for i in range(N)]
    size = N * 7 * FRAMES * 4 * 2
    monkeypatch.setattr(preload_module, "MEMORY", size - 1)
    assert preload(store, recordings, CPU) is store
    monkeypatch.setattr(preload_module, "MEMORY", size)
    assert preload(store, recordings, CPU) is not store


def test_views_on_a_device_are_those_of_the_batch_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = [(f"r{i}", {n: rng.normal(-40, 10, (4, FRAMES)).astype(np.float16) for n in COLUMNS}) for i in range(6)]
    write_shard(tmp_path, made)
    normalisation = Normalisation.fit(arrays["original"].astype(np.float32) for _, arrays in made)
    recordings = [name for name, _ in made]
    (batch,) = batches(Store(tmp_path), recordings, normalisation, batch_size=6, crop_frames=16, seed=0, epoch=0)
    views = batch.on(CPU)
    assert views.dtype == torch.float32
    np.testing.assert_array_equal(views.numpy(), np.concatenate([batch.original, batch.variant]))


def test_a_reader_that_stops_early_leaves_nothing_running(store: Store) -> None:
    before = threading.active_count()
    stream = batches(store, [f"r{i}" for i in range(N)], UNCHANGED, batch_size=4, crop_frames=16, seed=0, epoch=0)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_a_recording_without_a_row_stops_the_epoch_with_its_name(store: Store) -> None:
    stream = batches(store, ["r0", "nobody"], UNCHANGED, batch_size=2, crop_frames=16, seed=0, epoch=0)
    with pytest.raises(AsdError, match="no row of recording nobody"):
        next(stream)
