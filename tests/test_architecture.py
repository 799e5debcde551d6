"""The rules of the house that a machine can check."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("asdcore", "tasks", "flows")
FILES = {str(path.relative_to(ROOT)): path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
LOADERS = {("np", "load"): ("allow_pickle", False), ("torch", "load"): ("weights_only", True)}
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve"}


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that a file imports anywhere, also within functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole module"
            yield str(node.module)


@pytest.mark.parametrize("name", FILES)
def test_a_floor_imports_only_from_itself_and_the_floors_below(name: str) -> None:
    above = FLOORS[FLOORS.index(Path(name).parts[0]) + 1 :]
    packages = {module.split(".")[0] for module in imported(TREES[name])}
    assert not packages & set(above)
    assert "tests" not in packages


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("asdcore/")])
def test_the_science_imports_no_orchestrator(name: str) -> None:
    assert not {module.split(".")[0] for module in imported(TREES[name])} & {"prefect", "mlflow"}


def test_importing_all_of_the_science_brings_in_no_orchestrator() -> None:
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in FILES
        if name.startswith("asdcore/")
    ]
    script = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'prefect', 'mlflow', 'tasks', 'flows'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_tasks_has_a_file_for_each_stage_of_the_science() -> None:
    for stage in ("recordings", "features", "encoder", "normality", "detector", "evaluation"):
        assert f"tasks/{stage}.py" in FILES
        assert f"asdcore/{stage}.py" in FILES or f"asdcore/{stage}/__init__.py" in FILES


def test_there_is_no_place_for_odds_and_ends() -> None:
    parts = {part for path in FILES.values() for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not [part for part in parts if {"util", "utils", "helpers", "misc", "common"} & set(part.split("_"))]


@pytest.mark.parametrize("name", FILES)
def test_no_file_outgrows_400_lines(name: str) -> None:
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_unpickled(name: str) -> None:
    assert not {module.split(".")[0] for module in imported(TREES[name])} & UNPICKLERS
    for node in ast.walk(TREES[name]):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        of, function = ast.unparse(node.func.value), node.func.attr
        where = f"{name}:{node.lineno}"
        assert function != "read_pickle" and (of, function) != ("joblib", "load"), where
        if (of, function) in LOADERS:
            keyword, value = LOADERS[of, function]
            given = {word.arg: word.value for word in node.keywords}
            assert keyword in given and ast.literal_eval(given[keyword]) is value, f"{where} lacks {keyword}={value}"


@pytest.mark.parametrize("name", FILES)
def test_the_loaders_that_are_checked_go_by_their_usual_names(name: str) -> None:
    # `from numpy import load` or `import torch as t` would get past the check above.
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            aliases = {alias.name: alias.asname or alias.name for alias in node.names}
            assert aliases.get("numpy", "np") == "np"
            assert aliases.get("torch", "torch") == "torch"
        elif isinstance(node, ast.ImportFrom) and node.module in ("numpy", "torch", "joblib"):
            assert "load" not in {alias.name for alias in node.names}
