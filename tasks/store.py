"""A stage that adds to a store: the recordings that it lacks are written as one more shard."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Concatenate, Generic, ParamSpec

from asdcore.features.compute import SHARD_SIZE
from asdcore.features.store import Row, Store, drop_damaged, mark_verified, originals_of, write_shard
from asdcore.storage.files import digest_of
from asdcore.storage.home import Home
from tasks.stage import ELSEWHERE, Artifact, Stage, Written

P = ParamSpec("P")
_locks: dict[Path, Lock] = {}
_locks_guard = Lock()
Rows = Iterable[tuple[str, Row]]


class StoreStage(Generic[P]):
    """Called with the recordings (digests) that the store has to contain, and the inputs; see `store_stage`."""

    def __init__(
        self, function: Callable[Concatenate[Sequence[str], P], Rows], template: str, uncounted: Collection[str]
    ) -> None:
        self.function, self.template, self.__doc__ = function, template, function.__doc__

        def add_shard(out: Path, store: Artifact, recordings: Sequence[str], inputs: Mapping[str, Any]) -> Written:
            shard = write_shard(store.path, function(recordings, **inputs))  # type: ignore[call-arg]
            return Written([shard] if shard else [], {})

        # The name by which a worker finds it.
        add_shard.__name__, add_shard.__qualname__ = function.__name__, f"{function.__qualname__}.shard"
        add_shard.__module__ = function.__module__
        # The inputs are not counted: the name of the store already depends on them.
        self.shard = Stage(add_shard, None, ("inputs",), lambda _: True, {})
        self._by_recording = frozenset(uncounted)
        self._whole: Stage[Any] = Stage(function, template, ("recordings", *uncounted), lambda _: True, {})  # type: ignore[arg-type]

    def __call__(self, recordings: Sequence[str], *args: P.args, **kwargs: P.kwargs) -> Artifact:
        """The store, with one row per recording for which the function yields one."""
        home = Home.current()
        inputs = self._whole.bound(*args, **kwargs)
        store = store_artifact(home.root / self.template.format(key=self._whole.key(inputs)))
        # Two benchmarks that are made at once, which differ by their seed, may need the same rows.
        with _locks_guard:
            alone = _locks.setdefault(store.path, Lock())
        with alone:
            home.fetch_folder(store.path)
            drop_damaged(store.path)
            missing = Store(store.path).missing(recordings)
            at_once = SHARD_SIZE if ELSEWHERE.get() else len(missing)
            parts = [missing[start : start + at_once] for start in range(0, len(missing), at_once or 1)]
            made = self.shard.map(
                [{"store": store, "recordings": part, "inputs": self._of(part, inputs)} for part in parts], 1
            )
            # Workers that note it at the same time lose each other's notes.
            mark_verified(file for shard in made for file in shard.files)
        return store

    def _of(self, part: Sequence[str], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs for some of the recordings: of what is given by recording, such as their files, those alone."""
        return {
            name: {recording: value[recording] for recording in part}
            if name in self._by_recording and isinstance(value, Mapping)
            else value
            for name, value in inputs.items()
        }


def store_stage(
    template: str, *, uncounted: Collection[str] = ()
) -> Callable[[Callable[Concatenate[Sequence[str], P], Rows]], StoreStage[P]]:
    """Make a stage of a function of recordings (digests) that yields one row per recording.

    Args:
        template: folder of the store, below the home, with ``{key}`` in it: the digest of the inputs and of the code.
        uncounted: parameters that cannot change a row. A mapping among them is by recording.
    """

    def decorate(function: Callable[Concatenate[Sequence[str], P], Rows]) -> StoreStage[P]:
        return StoreStage(function, template, uncounted)

    return decorate


def store_artifact(folder: Path) -> Artifact:
    """A store as an input of stages. It only grows, and its name identifies what its rows are computed from."""
    originals = originals_of(folder)
    return Artifact(folder, folder.name if originals == folder else digest_of(originals.name, folder.name))
