from pathlib import Path
from typing import Any

import pytest
import torch

from asdcore.encoder.checkpoint import Checkpoints, checkpoint_files
from asdcore.errors import AsdError
from asdcore.storage.files import digest_of_file

CPU = torch.device("cpu")


def written(folder: Path, content: Any, step: int) -> Path:
    """A file of torch with the right digest in its name."""
    torch.save(content, folder / "unnamed")
    return (folder / "unnamed").rename(folder / f"step-{step:09}-{digest_of_file(folder / 'unnamed')[:16]}.pt")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def checkpoints(tmp_path: Path, said: list[str]) -> Checkpoints:
    return Checkpoints(tmp_path, "this", said.append)


def test_the_newest_is_loaded_and_the_last_two_are_kept(checkpoints: Checkpoints, said: list[str]) -> None:
    assert checkpoints.load(CPU) is None
    for step in (9, 10, 100_000):
        checkpoints.save({"step": step}, step)
    assert [path.name[:14] for path in checkpoint_files(checkpoints.folder)] == ["step-000100000", "step-000000010"]
    assert checkpoints.load(CPU) == {"fingerprint": "this", "step": 100_000}
    assert not said
    assert len(list(checkpoints.folder.iterdir())) == 2


@pytest.mark.parametrize("content", [{"encoder": {}}, [1, 2], "text"])
def test_another_file_of_torch_falls_back_to_the_one_before(
    checkpoints: Checkpoints, said: list[str], content: Any
) -> None:
    checkpoints.save({"step": 1}, 1)
    other = written(checkpoints.folder, content, 2)
    assert checkpoints.load(CPU) == {"fingerprint": "this", "step": 1}
    assert not other.exists()
    assert len(said) == 1 and str(other) in said[0]


def test_one_that_runs_code_when_unpickled_is_not_used_and_its_code_never_runs(
    checkpoints: Checkpoints, said: list[str], tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "it ran",)

    written(checkpoints.folder, {"fingerprint": "this", "encoder": Evil()}, 1)
    assert checkpoints.load(CPU) is None
    assert len(said) == 1
    assert not (tmp_path / "it ran").exists()


def test_one_of_another_training_is_refused_and_kept(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.save({}, 1)
    with pytest.raises(AsdError, match=r"\.pt: belongs to a training with other recordings or settings"):
        Checkpoints(tmp_path, "other", print).load(CPU)
    assert len(checkpoint_files(tmp_path)) == 1


def test_the_first_is_due_at_once_the_next_when_its_cost_is_a_small_share(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checkpoints.due()
    checkpoints.save({}, 1)
    assert not checkpoints.due()
    saved, cost = checkpoints.saved_at, checkpoints.cost
    monkeypatch.setattr("time.monotonic", lambda: saved + 49 * cost)
    assert not checkpoints.due()
    monkeypatch.setattr("time.monotonic", lambda: saved + 51 * cost)
    assert checkpoints.due()
