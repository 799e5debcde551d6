"""A published model on disk: its configuration and weights, what identifies them, and the conversion of pickles.

A folder holds ``config.json`` and ``model.safetensors``, as the Hugging Face hub publishes them. Nothing is fetched.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from asdcore.errors import AsdError
from asdcore.storage.files import atomic_folder, digest_of_file

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_SHARDS = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_COMMIT = re.compile("[0-9a-f]{40}")
_LFS_POINTER = b"version https://git-lfs"
_MOST_LISTED = 3
_HOW_TO = "see docs/how-to/encoders.md"


@dataclass(frozen=True)
class PublishedModel:
    """The folder of a published model, with what its ``config.json`` says."""

    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    """safetensors files, one unless it is large"""

    @classmethod
    def find(cls, source: Path, model_type: str) -> Self:
        """The model in a folder, or in its folder in the hub's cache, which has snapshots.

        Args:
            source: the folder, or the safetensors file in it.
            model_type: the type that its configuration must say, if it says one.

        Raises:
            AsdError: no such folder, or it has only a pickle, no weights, damaged ones, no configuration, or that of
                another model.
        """
        if not source.exists():
            raise AsdError(f"{source}: no such folder: download {CONFIG} and {WEIGHTS} of the model, {_HOW_TO}")
        _refuse_pickle(source)
        folder = _newest_snapshot(source) if source.is_dir() else source.parent
        weights = _weights(folder)
        for path in weights:
            _check_whole(path)
        config = _read_json(folder / CONFIG)
        if config.get("model_type") not in (None, "", model_type):
            raise AsdError(f"{folder / CONFIG}: a model of type {config['model_type']!r}, not {model_type!r}")
        return cls(folder, config, weights)

    @property
    def revision(self) -> str:
        """The commit on the hub; empty if unknown."""
        noted = self.folder / ".cache" / "huggingface" / "download" / f"{CONFIG}.metadata"
        first_line = noted.read_text(errors="replace").partition("\n")[0] if noted.is_file() else ""
        for commit in (self.config.get("_commit_hash"), self.folder.name, first_line):
            if isinstance(commit, str) and _COMMIT.fullmatch(commit):
                return commit
        return ""

    def digest(self, also: Iterable[str] = ()) -> str:
        """SHA-256 of what ``sha256sum`` prints of the configuration, the weights and the other files that are read."""
        paths = [self.folder / CONFIG, *self.weights, *(self.folder / name for name in also)]
        lines = (f"{digest_of_file(path)}  {path.name}\n" for path in paths)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def number(self, name: str, default: int, within: Mapping[str, Any] | None = None) -> int:
        """A whole number of the configuration, at least 1; ``within``: a part of it.

        Raises:
            AsdError: it is something else.
        """
        value = (self.config if within is None else within).get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise AsdError(f"{self.folder / CONFIG}: {name} is {value!r}, not a whole number from 1")
        return value

    def heads(self, name: str, default: int, width: int, within: Mapping[str, Any] | None = None) -> int:
        """The heads of an attention of this width.

        Raises:
            AsdError: not a whole number, or the width is no multiple of it.
        """
        heads = self.number(name, default, within)
        if width % heads:
            raise AsdError(f"{self.folder / CONFIG}: {name} is {heads}, which does not divide the width of {width}")
        return heads

    def check(self, **expected: object) -> None:
        """Check settings of which this project's architecture supports only one value.

        Raises:
            AsdError: one differs.
        """
        for name, value in expected.items():
            if self.config.get(name, value) != value:
                raise AsdError(
                    f"{self.folder / CONFIG}: {name} is {self.config[name]!r}; only models with {value!r} can be used"
                )

    def load_into(self, model: nn.Module, published: Callable[[str], str], ignored: Callable[[str], bool]) -> None:
        """Give a model its weights, as float32. All must be there with the right shape, and no others.

        Args:
            model: on the device ``meta``.
            published: its name of a weight to that in the file.
            ignored: names in the file that are not needed, such as those of a classifier.

        Raises:
            AsdError: the weights are not those of the model.
        """
        found: dict[str, Tensor] = {}
        for path in self.weights:
            found |= load_file(path)
        expected = {published(name): (name, tensor.shape) for name, tensor in model.state_dict().items()}
        file = self.weights[0]
        _none_of(expected.keys() - found.keys(), f"{file}: another architecture, without the weights")
        extra = {name for name in found.keys() - expected.keys() if not ignored(name)}
        _none_of(extra, f"{file}: another architecture, with the unknown weights")
        wrong = {
            f"{key} of shape {tuple(found[key].shape)} instead of {tuple(shape)}"
            for key, (_, shape) in expected.items()
            if found[key].shape != shape
        }
        _none_of(wrong, f"{file}: does not match {CONFIG}, with")
        model.load_state_dict({name: found[key].float() for key, (name, _) in expected.items()}, assign=True)


def convert_checkpoint(source: Path, folder: Path) -> int:
    """Write a checkpoint that is a pickle as ``model.safetensors`` and ``config.json``, which can be used.

    Only tensors and plain values are read, so nothing that is in the file is run. The tensors are those of the entry
    ``model`` or ``state_dict``, or else of the whole file; the configuration is its entry ``cfg`` or ``config``, or the
    ``config.json`` beside it.

    Args:
        source: a file that ``torch.save`` wrote.
        folder: must not exist yet.

    Returns:
        How many values the tensors have.

    Raises:
        AsdError: no such file, it holds more than tensors and plain values, or has no tensors or no configuration;
            or ``folder`` exists.
    """
    if folder.exists():
        raise AsdError(f"{folder}: is there already; choose another folder")
    content = _unpickled(source)
    within = next((content[name] for name in ("model", "state_dict") if isinstance(content.get(name), dict)), content)
    # Cloned, since safetensors refuses tensors that share memory.
    tensors = {name: value.clone().contiguous() for name, value in within.items() if isinstance(value, Tensor)}
    if not tensors:
        raise AsdError(f"{source}: has no tensors, so it is not the checkpoint of a model")
    config = next((_plain(content[name]) for name in ("cfg", "config") if isinstance(content.get(name), dict)), None)
    if config is None and not (source.parent / CONFIG).is_file():
        raise AsdError(f"{source}: has no configuration (cfg, config), nor is there a {CONFIG} beside it")
    beside = {} if config is not None else _beside(source)
    with atomic_folder(folder) as partial:
        save_file(tensors, partial / WEIGHTS, {"format": "pt"})
        for name, text in (beside or {CONFIG: json.dumps(config, indent=2, sort_keys=True)}).items():
            (partial / name).write_text(text)
        # safetensors makes files that only their owner can read.
        (partial / WEIGHTS).chmod((partial / CONFIG).stat().st_mode)
    return sum(tensor.numel() for tensor in tensors.values())


def _unpickled(source: Path) -> dict[str, Any]:
    if not source.is_file():
        raise AsdError(f"{source}: no such file")
    if source.suffix == ".safetensors":
        raise AsdError(f"{source}: is safetensors already and needs no conversion: use its folder as it is")
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    # torch raises many kinds of errors for files of another format, with the advice to allow pickles.
    except Exception as error:
        raise AsdError(
            f"{source}: damaged, or it holds more than tensors and plain values, which cannot be read without running "
            f"code of the file ({type(error).__name__}); look for a safetensors file of this model, {_HOW_TO}"
        ) from error
    if not isinstance(content, dict):
        raise AsdError(f"{source}: has no tensors, so it is not the checkpoint of a model")
    return content


def _plain(value: Any) -> Any:
    """The part of a configuration that is plain JSON; the rest is left out."""
    if isinstance(value, dict):
        return {str(name): _plain(of) for name, of in value.items() if _is_plain(of)}
    return [_plain(of) for of in value if _is_plain(of)] if isinstance(value, (list, tuple)) else value


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, list, tuple, dict))


def _beside(source: Path) -> dict[str, str]:
    """The text of the configurations in the checkpoint's folder."""
    paths = [source.with_name(name) for name in (CONFIG, "preprocessor_config.json")]
    return {path.name: path.read_text() for path in paths if path.is_file()}


def _newest_snapshot(folder: Path) -> Path:
    """Where the files are, if it is a model's folder in the hub's cache: the snapshot that ``refs/main`` names."""
    ref = folder / "refs" / "main"
    if not ref.is_file():
        return folder
    return folder / "snapshots" / ref.read_text(errors="replace").strip()


def _weights(folder: Path) -> tuple[Path, ...]:
    if (folder / _SHARDS).is_file():
        named = _read_json(folder / _SHARDS).get("weight_map")
        paths = tuple(folder / Path(str(name)).name for name in sorted(set(dict(named or {}).values())))
    else:
        paths = (folder / WEIGHTS,)
    if all(path.is_file() for path in paths):
        return paths
    for path in sorted(folder.iterdir() if folder.is_dir() else ()):
        _refuse_pickle(path)
    missing = ", ".join(path.name for path in paths if not path.is_file())
    raise AsdError(f"{folder}: has no {missing}: get it from where the model is published, {_HOW_TO}")


def _refuse_pickle(path: Path) -> None:
    if path.is_file() and path.suffix in _PICKLES:
        raise AsdError(
            f"{path}: a pickle, which may run any code when it is read, and is not used. "
            f"`asd convert {path} FOLDER` makes a folder with its tensors that can be used"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise AsdError(
            f"{path}: no such file; it belongs to the weights: get it from where the model is published, {_HOW_TO}"
        ) from error
    except (OSError, ValueError) as error:
        raise AsdError(f"{path}: cannot be read as JSON ({error}): get it again") from error
    if not isinstance(content, dict):
        raise AsdError(f"{path}: not a JSON object: get it again")
    return content


def _check_whole(path: Path) -> None:
    try:
        with safe_open(path, "pt"):
            return
    except (OSError, SafetensorError) as error:
        with path.open("rb") as file:
            is_pointer = file.read(len(_LFS_POINTER)) == _LFS_POINTER
        remedy = "it is only the Git LFS pointer to it: run `git lfs pull`" if is_pointer else "get it again"
        raise AsdError(f"{path}: cannot be read as safetensors ({error}): {remedy}") from error


def _none_of(names: set[str], message: str) -> None:
    if names:
        listed = ", ".join(sorted(names)[:_MOST_LISTED])
        more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
        raise AsdError(f"{message} {listed}{more}")
