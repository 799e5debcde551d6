"""A stage of the pipeline: a plain function that writes one file or folder, made a cached Prefect task.

    @stage("runs/normality/{key}.npz")
    def fit_normality(out: Path, vectors: Artifact, model: NormalityModel) -> None: ...

    artifact = fit_normality(vectors, model)

The decorator owns everything else. The key is made of the digests of the inputs and of the code that the function
reaches (`tasks.code`). The output is written atomically, below the current home (`Home.current`). Prefect caches the
result, a manifest of the files with their digests; if a file is missing or damaged, the stage runs again. Where it runs
depends on `ELSEWHERE`: in this process, or on the workers of a cluster (`tasks.cluster`).
"""

import importlib
import inspect
import json
import platform
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field, fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypedDict, TypeVar

import pandas as pd
from filelock import FileLock
from prefect import task
from prefect.utilities.annotations import quote
from sklearn.base import BaseEstimator

from asdcore.errors import AsdError
from asdcore.progress import progress
from asdcore.settings import StageSettings
from asdcore.storage.files import atomic_folder, atomic_write, digest_of, digest_of_file
from asdcore.storage.home import Home
from tasks.code import code_of_class, code_of_function

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
Facts = dict[str, Any]
"""Small facts about a result, as JSON: counts, names. Never arrays."""

SECONDS = "seconds"
"""The fact that every stage has: how long it took."""
NAMED_BY = ("machine", "column")
"""Inputs that the name of a task run says."""
AT_ONCE = 256
"""Stages of a call that wait for workers at the same time."""
_RESULT = "result.json"
"""In the scratch folder: what a worker has made, until it is stored."""
_SCRATCH: ContextVar[Path] = ContextVar("scratch")

Elsewhere = Callable[[Any, str, Home, dict[str, Any]], "Result"]
"""Called with the task of a stage (Prefect's), the key, the home and the inputs."""
ELSEWHERE: ContextVar[Elsewhere | None] = ContextVar("elsewhere", default=None)
"""Where stages run instead of in this process, see `tasks.cluster.on_cluster`."""


class Result(TypedDict):
    """The cached result of a stage."""

    files: dict[str, str]
    """path relative to the home: SHA-256 of the content"""
    facts: Facts


@dataclass(frozen=True)
class Artifact:
    """The output of a stage, identified by its content: two artifacts with the same digest are the same input."""

    path: Path
    """file or folder; of a stage without output the home"""
    digest: str
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)
    files: tuple[Path, ...] = field(default=(), compare=False)
    """the files written by the stage"""


@dataclass(frozen=True)
class Written:
    """Returned by a stage that names its own files, such as the shards of a store."""

    files: Sequence[Path]
    facts: Facts


class Sealed:
    """Inputs for a worker. Prefect and Dask would look for results of other tasks in every row of a table."""

    def __init__(self, inputs: dict[str, Any]) -> None:
        self.inputs = inputs


class Stage(Generic[P]):
    """A stage, called like the function that it is made of, but for ``out``; see `stage`."""

    def __init__(
        self,
        function: Callable[Concatenate[Path, P], Facts | Written | None],
        template: str | None,
        uncounted: Collection[str],
        still_true: Callable[[Facts], bool],
        options: Mapping[str, Any],
    ) -> None:
        self.function, self.template, self.still_true = function, template, still_true
        self.signature = inspect.signature(function)
        self.uncounted = frozenset(uncounted)
        if unknown := self.uncounted - self.signature.parameters.keys():
            raise TypeError(f"{function.__name__} has no parameter {', '.join(sorted(unknown))}")
        self.name = function.__name__.replace("_", " ")
        # Results are JSON: Prefect's default would be a pickle.
        self.task = task(
            name=self.name,
            cache_key_fn=lambda context, arguments: f"{context.task.name}-{arguments['key']}",
            persist_result=True,
            result_serializer="json",
            **options,
        )(self._executor())
        self.__doc__ = function.__doc__
        self.__module__, self.__qualname__ = function.__module__, function.__qualname__

    def __reduce__(self) -> tuple[Any, ...]:
        # By name: a Dask worker imports the stage that its own code has.
        return _stage_named, (self.__module__, self.__qualname__)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Artifact:
        """The artifact of these inputs: cached, or computed now.

        Raises:
            AsdError: as the function; the disk is full or not writable.
        """
        artifact = self._made(self.bound(*args, **kwargs))
        Home.current().send()
        return artifact

    def map(self, inputs: Iterable[Mapping[str, Any]], at_once: int, what: str = "") -> list[Artifact]:
        """The artifacts of several inputs (by name) in their order, computed ``at_once`` at a time; on a cluster by all
        workers. ``what``: the name of its progress bar, by default that of the stage.
        """

        def made(each: Mapping[str, Any]) -> Artifact:
            return self._made(self.bound(**each))  # type: ignore[call-arg]

        artifacts = each_of(made, inputs, what or self.name, at_once)
        Home.current().send()
        return artifacts

    def _made(self, inputs: dict[str, Any]) -> Artifact:
        home, key = Home.current(), self.key(inputs)
        run: Any = self.task.with_options(result_storage=home.prefect / "results", task_run_name=self._run_name(inputs))
        at = ELSEWHERE.get() or _here
        result = at(run, key, home, inputs)
        home.fetch(result["files"])
        if not (_holds(result["files"], home) and self.still_true(result["facts"])):
            for path in _damaged(result["files"], home):
                path.unlink()
            result = at(run.with_options(refresh_cache=True), key, home, inputs)
        forget_scratch(home, key)
        return self.artifact(home, key, result)

    def artifact(self, home: Home, key: str, result: Result) -> Artifact:
        """The artifact of a result."""
        files = tuple(home.root / file for file in result["files"])
        return Artifact(self.out(home, key), digest_of(*sorted(result["files"].values())), result["facts"], files)

    def bound(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """The inputs by name, defaults included."""
        bound = self.signature.bind(Path(), *args, **kwargs)
        bound.apply_defaults()
        return dict(list(bound.arguments.items())[1:])

    def key(self, inputs: Mapping[str, Any]) -> str:
        """16 hexadecimal digits that identify all that the result depends on: inputs and code."""
        counted = [f"{name}={input_digest(value)}" for name, value in inputs.items() if name not in self.uncounted]
        return digest_of(self.__qualname__, code_of_function(self.function), *counted)

    def out(self, home: Home, key: str) -> Path:
        """The path of the output with this key."""
        return home.root / (self.template or "").format(key=key)

    def _run_name(self, inputs: Mapping[str, Any]) -> str:
        what = [str(inputs[name]) for name in NAMED_BY if inputs.get(name)]
        return f"{self.name}: {', '.join(what)}" if what else self.name

    def _executor(self) -> Callable[[str, Home, dict[str, Any]], Result]:
        def execute(key: str, home: Home, inputs: dict[str, Any] | Sealed) -> Result:
            """Run the function and return its result."""
            # Nothing but this stage is named here: a Dask worker gets it by name, and the rest from its own code.
            if isinstance(inputs, dict):
                return self.execute(key, home, inputs)
            return self.execute_on_worker(key, home, inputs.inputs)

        return execute

    def execute(self, key: str, home: Home, inputs: Mapping[str, Any]) -> Result:
        """Run the function regardless of the cache, and return its result."""
        out, token, start = self.out(home, key), _SCRATCH.set(_scratch_of(home, key)), time.perf_counter()
        try:
            with home.at_work():
                if self.template is None:
                    returned = self.function(out, **inputs)  # type: ignore[call-arg]
                else:
                    atomically = atomic_folder if self.template.endswith("/") else atomic_write
                    with atomically(out) as temporary:
                        returned = self.function(temporary, **inputs)  # type: ignore[call-arg]
        finally:
            _SCRATCH.reset(token)
        took: Facts = {SECONDS: round(time.perf_counter() - start, 3)}
        if isinstance(returned, Written):
            return {"files": _manifest(home, returned.files), "facts": returned.facts | took}
        return {"files": _manifest(home, [out] if self.template else []), "facts": (returned or {}) | took}

    def execute_on_worker(self, key: str, home: Home, inputs: Mapping[str, Any]) -> Result:
        """`execute` on a machine that others share.

        A worker does not know when the command that it works for is killed: it finishes its task. The next command's
        task with the same key waits for it, and takes its result.

        Raises:
            AsdError: this machine has another version of the code, or another folder in the place of the home.
        """
        if self.key(inputs) != key:
            raise AsdError(
                f"{platform.node()} runs another version of asd than the machine of the command: install the same one"
            )
        if not home.was_locked:
            raise AsdError(
                f"{home.root} on {platform.node()} is not the home of the command: the home has to be a "
                "folder that all machines share, under the same path (NFS, for example)"
            )
        noted = _scratch_of(home, key) / _RESULT
        noted.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_lock_of(home, key)):
            if noted.exists():
                result: Result = json.loads(noted.read_text())
                if _holds(result["files"], home) and self.still_true(result["facts"]):
                    return result
            result = self.execute(key, home, inputs)
            with atomic_write(noted) as temporary:
                temporary.write_text(json.dumps(result))
        return result


def stage(
    template: str | None,
    *,
    uncounted: Collection[str] = (),
    still_true: Callable[[Facts], bool] = lambda _: True,
    **options: Any,
) -> Callable[[Callable[Concatenate[Path, P], Facts | Written | None]], Stage[P]]:
    """Make a stage of a function whose first parameter is the file or folder to write.

    Args:
        template: where the output is, below the home, with ``{key}`` in it; a folder if it ends with a slash. None: the
            function writes no file (it registers something, say), or returns `Written`.
        uncounted: parameters that cannot change the result, such as the device; they are not part of the key.
        still_true: called with the facts of a cached result; if it returns False, the stage runs again.
        options: of Prefect's task, such as ``retries``.

    The function returns facts to remember, or None. Its inputs are artifacts, settings, scikit-learn estimators, plain
    values, and tables of recordings.
    """

    def decorate(function: Callable[Concatenate[Path, P], Facts | Written | None]) -> Stage[P]:
        return Stage(function, template, uncounted, still_true, options)

    return decorate


def scratch_folder() -> Path:
    """The folder where the running stage may keep what it resumes from; deleted once its result is stored."""
    return _SCRATCH.get()


def input_digest(value: Any) -> str:
    """The digest of an input, for a key.

    Raises:
        TypeError: a value whose content has no digest here, a bare path for example: pass the artifact instead.
    """
    match value:
        case Artifact():
            return value.digest
        case StageSettings():
            return f"{type(value).__name__} {value.digest()}"
        case None | bool() | int() | float() | str():
            return repr(value)
        case Mapping():
            return digest_of(*(f"{name}={input_digest(part)}" for name, part in sorted(value.items())))
        case pd.DataFrame():
            # The order of rows and columns does not matter.
            rows = value.reindex(columns=sorted(value.columns)).itertuples(index=False)
            return digest_of(*sorted(value.columns), *sorted(" ".join(map(str, row)) for row in rows))
        case BaseEstimator():
            kind: Any = type(value)
            return f"{code_of_class(kind)} {input_digest(value.get_params())}"
        case tuple() | list():
            return digest_of(*map(input_digest, value))
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__} {input_digest({f.name: getattr(value, f.name) for f in fields(value)})}"
    raise TypeError(f"{type(value).__name__} {value!r} has no digest: a stage takes artifacts, settings, plain values")


def each_of(function: Callable[[T], R], items: Iterable[T], what: str, at_once: int = 1) -> list[R]:
    """``function`` of each item, in their order: ``at_once`` at a time, or all where it only waits for a cluster.

    ``what``: the name of its progress bar.
    """
    on_cluster = ELSEWHERE.get() is not None
    if at_once == 1 and not on_cluster:
        return [function(item) for item in progress(items, what)]
    threads = ThreadPoolExecutor(AT_ONCE if on_cluster else at_once)
    try:
        waiting = [threads.submit(copy_context().run, function, item) for item in items]
        return [future.result() for future in progress(waiting, what)]
    finally:
        # If one fails, the others that have not begun; on a cluster without waiting for those that have.
        threads.shutdown(wait=not on_cluster, cancel_futures=True)


def forget_scratch(home: Home, key: str) -> None:
    """Delete what a stage resumes from; only once its result is stored."""
    shutil.rmtree(_scratch_of(home, key), ignore_errors=True)
    _lock_of(home, key).unlink(missing_ok=True)


def _here(run: Any, key: str, home: Home, inputs: dict[str, Any]) -> Result:
    result: Result = run(key=key, home=home, inputs=quote(inputs))
    return result


def _stage_named(module: str, name: str) -> Any:
    return attrgetter(name)(importlib.import_module(module))


def _scratch_of(home: Home, key: str) -> Path:
    return home.runs / "scratch" / key


def _lock_of(home: Home, key: str) -> Path:
    return home.runs / "scratch" / f"{key}.lock"


def _manifest(home: Home, paths: Sequence[Path]) -> dict[str, str]:
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return {str(file.relative_to(home.root)): digest_of_file(file) for file in files if file.is_file()}


def _holds(files: Mapping[str, str], home: Home) -> bool:
    """Whether every file of a manifest exists with unchanged content."""
    return all((home.root / path).is_file() for path in files) and not _damaged(files, home)


def _damaged(files: Mapping[str, str], home: Home) -> list[Path]:
    paths = {home.root / path: digest for path, digest in files.items()}
    return [path for path, digest in paths.items() if path.is_file() and digest_of_file(path) != digest]
