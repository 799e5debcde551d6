"""Servers of a command."""

import os
from pathlib import Path

import pytest

from flows import leashed


def test_a_server_starts_whatever_packages_the_working_directory_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").write_text("raise SystemExit('flows of somebody else')")
    (tmp_path / "this.py").write_text("raise SystemExit('a module of somebody else')")
    monkeypatch.chdir(tmp_path)
    process = leashed.start(["this"], os.environ, None)
    assert process.wait(timeout=60) == 0
    leashed.stop(process)
