"""Benchmarks follow the code that they measure."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = sorted(path for path in ROOT.glob("benchmarks/*.py") if "argparse" in path.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_finds_all_that_it_imports(file: Path) -> None:
    done = subprocess.run([sys.executable, file, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
