"""Which code a stage reaches: followed from name to name through this project's modules, and made a digest.

A function's code is its own syntax tree and that of every function, class and constant that it names, in whatever
module of the project they are, and so on from there. Types that it names in annotations count as reached, too: their
methods are what it calls. Comments, docstrings, the annotations themselves and layout do not count: an upgrade that
changes no computation recomputes nothing.
"""

import ast
import copy
import importlib.util
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from asdcore.errors import AsdError
from asdcore.storage.files import digest_of

PACKAGES = ("asdcore", "tasks")
CANNOT_CHANGE_A_RESULT = (
    "asdcore.errors",
    "asdcore.progress",
    "asdcore.settings",  # What is set is in the key as a digest.
    "asdcore.storage",
    "tasks.code",
    "tasks.stage",
    "tasks.tracking",
    "tasks.warn",
)
"""Modules whose names are not followed."""

_LAZY = re.compile(r"([\w.]+):(\w+)")
"""A string such as ``asdcore.normality.gaussian:TiedCovariance``, as registries have them."""

_PARSING = Lock()
"""Python 3.11 counts the depth of what all threads parse together, and can fail with ``SystemError: AST constructor
recursion depth mismatch`` (python/cpython#106905)."""

Place = tuple[str, str]
"""module, and a name at its top level; the empty name: all of it"""


@dataclass(frozen=True)
class Module:
    """The top level of a module."""

    nodes: dict[str, list[ast.stmt]]
    """name: the statements that define it"""
    imported: dict[str, Place]
    """name: where it comes from"""


@cache
def code_of_function(function: Callable[..., Any]) -> str:
    """16 digits that change when the code that ``function`` reaches does; of another package, within its own module.

    Raises:
        AsdError: there is no source code to read, as of a function defined in a notebook.
    """
    start = _place(function)
    _readable(function, start)
    return _digest(start, start[0])


@cache
def code_of_class(kind: type[Any]) -> str:
    """The name of a class, and 16 digits that change when the code that it reaches does; of any package.

    Raises:
        AsdError: there is no source code to read, as of a class defined in a notebook.
    """
    _readable(kind, _place(kind))
    return f"{kind.__module__}.{kind.__qualname__} {_digest((kind.__module__, kind.__qualname__), kind.__module__)}"


def require_code(kind: Any, code: str) -> None:
    """Refuse, on a worker, a class of a package of which the machine that asks has another version.

    ``code``: its `code_of_class` there.

    Raises:
        AsdError: it has other code here.
    """
    if code_of_class(kind) != code:
        raise AsdError(
            f"{platform.node()} has another version of {kind.__module__} than the machine that asks it: install the "
            "same version"
        )


def _readable(what: Callable[..., Any], place: Place) -> None:
    module, name = place
    if name not in _module(module).nodes:
        raise AsdError(
            f"the code of {module}.{what.__qualname__} cannot be read, so that a change of it would go unnoticed: "
            f"define {name} in a module"
        )


def reached(function: Callable[..., Any]) -> set[str]:
    """The modules of the project that ``function`` reaches."""
    return {module for module, _ in _reached(_place(function))}


def _place(function: Callable[..., Any]) -> Place:
    # A function within a function counts as the whole of the outer one.
    return function.__module__, function.__qualname__.split(".")[0]


def _digest(start: Place, *packages: str) -> str:
    places = _reached(start, *packages)
    return digest_of(*(f"{module}.{name} {_structure(module, name)}" for module, name in sorted(places)))


def _reached(start: Place, *packages: str) -> set[Place]:
    places: set[Place] = set()
    waiting = [start]
    while waiting:
        place = waiting.pop()
        module, name = place
        if place in places or not _is_followed(module, packages):
            continue
        if name and name not in _module(module).nodes:
            # Imported there from elsewhere, or a module itself.
            if name in _module(module).imported:
                waiting.append(_module(module).imported[name])
            continue
        places.add(place)
        waiting += _named_in(module, name)
    return places


def _is_followed(module: str, packages: tuple[str, ...]) -> bool:
    if any(module == other or module.startswith(f"{other}.") for other in CANNOT_CHANGE_A_RESULT):
        return False
    return module.split(".")[0] in PACKAGES or module in packages


@cache
def _named_in(module: str, name: str) -> list[Place]:
    """The places that the definition of ``name`` names; of all of a module for the empty name."""
    content = _module(module)
    statements = content.nodes[name] if name else [node for nodes in content.nodes.values() for node in nodes]
    places: list[Place] = []
    for node in (part for statement in statements for part in ast.walk(statement)):
        if isinstance(node, ast.Name):
            if node.id in content.imported:
                places.append(content.imported[node.id])
            elif node.id in content.nodes:
                places.append((module, node.id))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            places += _imports(node).values()
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (lazy := _LAZY.fullmatch(node.value)):
            places.append((lazy[1], lazy[2]))
    return places


@cache
def _structure(module: str, name: str) -> str:
    content = _module(module)
    statements = content.nodes[name] if name else [node for nodes in content.nodes.values() for node in nodes]
    return "\n".join(ast.dump(_Stripped().visit(copy.deepcopy(statement))) for statement in statements)


@cache
def _module(name: str) -> Module:
    path = _file(name)
    if path is None:
        return Module({}, {})
    text = path.read_text(encoding="utf-8")
    with _PARSING:
        tree = ast.parse(text)
    nodes: dict[str, list[ast.stmt]] = {}
    imported: dict[str, Place] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imported |= _imports(statement)
            continue
        for defined in _defined_by(statement):
            nodes.setdefault(defined, []).append(statement)
    return Module(nodes, imported)


def _file(module: str) -> Path | None:
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found and found.origin and found.origin.endswith(".py") else None


def _imports(node: ast.Import | ast.ImportFrom) -> dict[str, Place]:
    if isinstance(node, ast.Import):
        return {(alias.asname or alias.name).split(".")[0]: (alias.name, "") for alias in node.names}
    module = str(node.module)
    followed = module.split(".")[0] in PACKAGES
    return {
        alias.asname or alias.name: (f"{module}.{alias.name}", "")
        if followed and _file(f"{module}.{alias.name}")
        else (module, alias.name)
        for alias in node.names
    }


def _defined_by(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


class _Stripped(ast.NodeTransformer):
    """Remove what does not affect computation: docstrings, standalone strings, annotations."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)
