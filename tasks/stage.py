"""How a stage is cached: by a key of content, settings and code, checked against the files that the result claims.

Every cached task takes its ``key`` as an argument and returns a `Result`: JSON with the digests of the files it wrote.
"""

import ast
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from prefect import Task
from prefect.context import TaskRunContext

import asdcore
from asdcore.storage.files import digest_of, digest_of_file
from asdcore.storage.home import Home

Files = dict[str, str]
"""path relative to the home: SHA-256 of the content"""


class Result(TypedDict):
    """What a cached task returns: small values only, never arrays."""

    files: Files
    values: dict[str, Any]


def key_argument(context: TaskRunContext, arguments: Mapping[str, Any]) -> str:
    """The cache key of a task run: the task's name and its argument ``key``."""
    return f"{context.task.name}-{arguments['key']}"


Check = Callable[[Result], bool]


CACHED: dict[str, Any] = {"cache_key_fn": key_argument, "persist_result": True, "result_serializer": "json"}
"""The options of every cached task. Results are JSON: Prefect's default would be a pickle."""


def run_cached(task: Task[..., Result], *, home: Home, still_true: Check = lambda _: True, **arguments: Any) -> Result:
    """Call a cached task; where its remembered result claims what is no longer so, call it anew.

    That is: a file that is gone or has another content, or ``still_true`` says no.
    """
    here = task.with_options(result_storage=home.prefect / "results")
    result: Result = here(home=home, **arguments)
    home.fetch(result["files"])
    if not (holds(result["files"], home) and still_true(result)):
        for path in damaged(result["files"], home):
            path.unlink()
        result = here.with_options(refresh_cache=True)(home=home, **arguments)
    home.send()
    return result


def claim(home: Home, *paths: Path) -> Files:
    """The files of a result."""
    return {str(path.relative_to(home.root)): digest_of_file(path) for path in paths}


def holds(files: Files, home: Home) -> bool:
    """Whether every claimed file is there with the content that it had."""
    return all((home.root / path).is_file() for path in files) and not damaged(files, home)


def damaged(files: Files, home: Home) -> list[Path]:
    """The claimed files that are there with another content."""
    paths = {home.root / path: digest for path, digest in files.items()}
    return [path for path, digest in paths.items() if path.is_file() and digest_of_file(path) != digest]


@cache
def code_version(*places: str) -> str:
    """16 digits that change when the code at ``places`` (files or folders below asdcore) does.

    Comments, docstrings and layout do not count: an upgrade that changes no computation recomputes nothing.
    """
    root = Path(asdcore.__file__).parent
    files = [
        path for place in places for path in ([root / place] if place.endswith(".py") else (root / place).glob("*.py"))
    ]
    return digest_of(*(_structure(path) for path in sorted(files)))


def _structure(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_docstring(part)]
    return ast.dump(tree)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
