from pathlib import Path

import numpy as np
import pytest
import torch

from asdcore.encoder.base import WEIGHTS, BaseEncoder, load_base
from asdcore.encoder.network import TrainedEncoder
from asdcore.encoder.pretrain import (
    FAULTY,
    KNOWN,
    NORMAL,
    batch_of,
    batch_states,
    episode_loss,
    pretrain,
    random_spectrograms,
)
from asdcore.storage.files import digest_of_file

DOCS = Path(__file__).parents[3] / "docs" / "evidence" / "base_encoder.md"


def test_the_same_seed_gives_the_same_encoder_and_its_file_can_be_loaded(tmp_path: Path) -> None:
    first, again = tmp_path / "first.safetensors", tmp_path / "again.safetensors"
    made = pretrain(steps=2, seed=3, machines=2)
    made.save(first)
    pretrain(steps=2, seed=3, machines=2).save(again)
    assert digest_of_file(first) == digest_of_file(again)
    loaded = TrainedEncoder.load(first)
    assert all(
        torch.equal(values, made.encoder.state_dict()[name]) for name, values in loaded.encoder.state_dict().items()
    )
    assert (loaded.normalisation.mean == made.normalisation.mean).all()
    torch.manual_seed(3)
    before, after = BaseEncoder().state_dict(), made.encoder.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_batch_of_random_machines_is_the_same_made_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asdcore.encoder.pretrain.BATCH", 1)
    monkeypatch.setattr("asdcore.encoder.pretrain._KINDS", [None, "blows"])
    whole = random_spectrograms(2, 3)
    states = dict(batch_states(2, 3))
    assert list(states) == [0, 1]
    alone = batch_of(2, 3, 1, states[1])
    assert np.array_equal(alone, whole[1:])


def test_the_encoder_of_the_package_is_the_documented_one() -> None:
    assert digest_of_file(WEIGHTS) in DOCS.read_text(encoding="utf-8")
    base = load_base()
    assert (base.encoder.architecture, base.encoder.h_size, base.history) == ("base", 2048, [])
    assert base.normalisation.mean.shape == (128, 1)


@pytest.mark.parametrize("n_frames", [4, 63, 313])
def test_a_recording_of_any_length_has_an_embedding_that_keeps_the_frequency(n_frames: int) -> None:
    base = load_base().encoder
    quiet = torch.zeros(1, 1, 128, n_frames)
    low, high = quiet.clone(), quiet.clone()
    low[:, :, 10:14], high[:, :, 100:104] = 3, 3
    with torch.no_grad():
        change_low, change_high = ((base.hidden(x) - base.hidden(quiet)).view(64, 32).abs().sum(0) for x in (low, high))
    assert change_low[:10].sum() > 0.9 * change_low.sum()
    assert change_high[20:].sum() > 0.9 * change_high.sum()


def test_the_loss_is_lower_the_farther_faulty_recordings_are_from_the_known_ones() -> None:
    torch.manual_seed(0)
    embeddings = torch.randn(2, KNOWN + NORMAL + FAULTY, 16)
    near = episode_loss(embeddings)
    embeddings[:, -FAULTY:] += 3
    assert episode_loss(embeddings) < 0.2 * near
