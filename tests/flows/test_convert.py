"""`asd convert`."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from asdcore.encoder.frozen import build_frozen
from asdcore.errors import AsdError
from flows.cli.app import app
from tests.asdcore.encoder.pretrained.conftest import write_beats_checkpoint


def test_a_converted_checkpoint_can_be_used(tmp_path: Path) -> None:
    source = write_beats_checkpoint(tmp_path / "BEATs_iter3.pt")
    before = source.read_bytes()
    with pytest.raises(AsdError, match="asd convert"):
        build_frozen("beats", source)
    done = CliRunner().invoke(app, ["convert", str(source), str(tmp_path / "beats")], env={"COLUMNS": "1000"})
    assert done.exit_code == 0, done.output
    assert "million weights" in done.output
    assert build_frozen("beats", tmp_path / "beats").digest
    assert source.read_bytes() == before


def test_an_unusable_checkpoint_leaves_nothing_behind(tmp_path: Path) -> None:
    torch.save({"cfg": {}}, tmp_path / "empty.pt")
    done = CliRunner().invoke(app, ["convert", str(tmp_path / "empty.pt"), str(tmp_path / "beats")])
    assert isinstance(done.exception, AsdError)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.pt"]
