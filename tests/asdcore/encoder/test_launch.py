"""Starting a training in this process or in several; that several train as one does is in test_distributed.py."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from asdcore.encoder import launch
from asdcore.encoder.checkpoint import checkpoint_files
from asdcore.encoder.launch import start_training
from asdcore.encoder.process import FAILURE, MARK
from asdcore.errors import AsdError
from asdcore.features.store import Store
from tests.asdcore.encoder.conftest import RECORDINGS, TINY, Trained

TWO = TINY.model_copy(update={"processes": 2})


@pytest.fixture
def torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a shell script started instead of the processes; ``$folder`` is the folder that they share with us."""

    def replace(script: str) -> None:
        program = tmp_path / "torchrun"
        program.write_text(
            f'#!/bin/sh\nfor word; do case "$word" in */asd-training-*) folder="$word";; esac; done\n{script}'
        )
        program.chmod(0o755)
        monkeypatch.setattr(launch.sys, "executable", str(program))  # type: ignore[attr-defined]

    return replace


def said(kind: str, what: Any) -> str:
    """The command that tells what the first process tells of its training."""
    return f"echo '{MARK}{json.dumps({kind: what})}'"


@pytest.mark.usefixtures("narrow_encoder")
def test_one_process_is_this_one_and_trains_as_train_does(
    tiny_store: Store, undisturbed: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", pytest.fail)
    seen: list[dict[str, float]] = []
    trained = start_training(tiny_store, RECORDINGS, TINY, tmp_path, seen.append)
    expected = undisturbed.encoder.encoder.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained.encoder.state_dict().items())
    assert seen == undisturbed.seen


@pytest.mark.usefixtures("narrow_encoder")
def test_what_the_processes_tell_arrives_and_the_encoder_is_theirs(
    tiny_store: Store, undisturbed: Trained, torchrun: Callable[[str], None], tmp_path: Path
) -> None:
    undisturbed.encoder.save(tmp_path / "encoder.safetensors")
    script = [
        "echo 'a line of a library'",
        said("epoch", {"epoch": 1.0, "loss": 2.5}),
        said("warning", "a checkpoint cannot be used"),
        f"cp {tmp_path / 'encoder.safetensors'} $folder/",
    ]
    torchrun("\n".join(script))
    seen: list[dict[str, float]] = []
    warnings: list[str] = []
    trained = start_training(tiny_store, RECORDINGS, TWO, tmp_path, seen.append, on_warning=warnings.append)
    assert seen == [{"epoch": 1.0, "loss": 2.5}]
    assert warnings == ["a checkpoint cannot be used"]
    assert trained.history == undisturbed.encoder.history


def test_an_error_with_a_remedy_in_one_process_is_the_error_here(
    tiny_store: Store, torchrun: Callable[[str], None], tmp_path: Path
) -> None:
    torchrun(f"echo 'lower training.learning_rate' > $folder/{FAILURE.format(1)}; echo noise >&2; exit 1")
    with pytest.raises(AsdError, match=r"^lower training\.learning_rate\s*$"):
        start_training(tiny_store, RECORDINGS, TWO, tmp_path)


def test_processes_that_fail_otherwise_are_an_error_with_what_they_wrote(
    tiny_store: Store, torchrun: Callable[[str], None], tmp_path: Path
) -> None:
    torchrun("echo 'no kernel image' >&2; exit 3")
    with pytest.raises(AsdError, match=r"(?s)the 2 processes .*no kernel image.*training\.processes=1"):
        start_training(tiny_store, RECORDINGS, TWO, tmp_path)


def test_an_error_of_who_listens_ends_the_processes(
    tiny_store: Store, torchrun: Callable[[str], None], tmp_path: Path
) -> None:
    torchrun(f"{said('epoch', {'epoch': 1.0})}\nexec sleep 60")

    def refuse(_: dict[str, float]) -> None:
        raise RuntimeError("no room for metrics")

    with pytest.raises(RuntimeError, match="no room for metrics"):
        start_training(tiny_store, RECORDINGS, TWO, tmp_path, refuse)


def test_real_processes_name_what_is_wrong(tiny_store: Store, tmp_path: Path) -> None:
    with pytest.raises(AsdError, match="never-computed"):
        start_training(tiny_store, RECORDINGS.replace("recording-5", "never-computed"), TWO, tmp_path)


@pytest.mark.slow
def test_real_processes_are_stopped_resume_and_learn_what_one_does(tiny_store: Store, tmp_path: Path) -> None:
    two = TWO.model_copy(update={"epochs": 8})
    with pytest.raises(KeyboardInterrupt):
        start_training(tiny_store, RECORDINGS, two, tmp_path, lambda _: os.kill(os.getpid(), signal.SIGINT))
    steps = int(checkpoint_files(tmp_path)[0].name[5:14])
    assert 2 <= steps < 2 * 8

    seen: list[dict[str, float]] = []
    warnings: list[str] = []
    trained = start_training(tiny_store, RECORDINGS, two, tmp_path, seen.append, on_warning=warnings.append)
    assert not warnings
    assert [row["epoch"] for row in seen] == list(range(steps // 2 + 1, 9))
    assert trained.history[-len(seen) :] == seen
    one = start_training(tiny_store, RECORDINGS, TINY.model_copy(update={"epochs": 2}), tmp_path / "one")
    assert trained.history[0]["loss"] == pytest.approx(one.history[0]["loss"], rel=1e-3)
    assert trained.history[-1]["loss"] < 0.6 * trained.history[0]["loss"]
