"""The rules of the architecture that import-linter and ruff cannot check; theirs are in pyproject.toml."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = sorted(path for floor in ("asdcore", "tasks", "flows") for path in (ROOT / floor).rglob("*.py"))
MOST_LINES = 400
SAFE_LOADERS = {"np.load": ("allow_pickle", False), "torch.load": ("weights_only", True)}
"""What reads a pickle unless a keyword forbids it."""


def unsafe_loads(source: str) -> Iterator[int]:
    """The lines with a loader that may read a pickle, or with a loader under a name that hides it from this check."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=function) if ast.unparse(function) in SAFE_LOADERS:
                name, value = SAFE_LOADERS[ast.unparse(function)]
                if not any(word.arg == name and ast.unparse(word.value) == str(value) for word in node.keywords):
                    yield node.lineno
            case ast.ImportFrom(module="numpy" | "torch") if any(alias.name == "load" for alias in node.names):
                yield node.lineno


def test_no_loader_may_read_a_pickle() -> None:
    assert not [f"{path.relative_to(ROOT)}:{line}" for path in FILES for line in unsafe_loads(path.read_text())]


def test_a_loader_that_may_read_a_pickle_is_noticed() -> None:
    unsafe = [
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path, weights_only=safe)",
        "from torch import load",
    ]
    assert all(list(unsafe_loads(source)) == [1] for source in unsafe)
    assert not list(unsafe_loads("np.load(path, 'r', allow_pickle=False)\ntorch.load(path, weights_only=True)"))


def test_importing_all_of_the_science_brings_in_neither_orchestrator_nor_transformers() -> None:
    # Unlike import-linter, this sees what third-party packages import.
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES]
    modules = [name.removesuffix(".__init__") for name in names if name.startswith("asdcore")]
    unwanted = {"prefect", "mlflow", "tasks", "flows", "transformers"}
    script = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print(sorted({{name.split('.')[0] for name in sys.modules}} & {unwanted!r}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_tasks_has_a_file_for_each_stage_of_the_science() -> None:
    for stage in ("recordings", "features", "encoder", "normality", "detector", "evaluation"):
        assert ROOT / "tasks" / f"{stage}.py" in FILES
        assert {ROOT / "asdcore" / f"{stage}.py", ROOT / "asdcore" / stage / "__init__.py"} & {*FILES}


def test_there_is_no_place_for_odds_and_ends() -> None:
    words = {
        word for path in FILES for part in path.relative_to(ROOT).with_suffix("").parts for word in part.split("_")
    }
    assert not words & {"util", "utils", "helpers", "misc", "common"}


def test_no_file_outgrows_its_place() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}
