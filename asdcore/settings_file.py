"""Settings by name: changes of single ones, and a YAML file of them."""

import difflib
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from asdcore import __version__
from asdcore.errors import AsdError
from asdcore.setting_rows import TRUE_OR_FALSE, SettingRow, setting_rows
from asdcore.settings import Settings
from asdcore.storage.files import atomic_write

STAGES = frozenset(row.name[: row.name.rindex(".")] for row in setting_rows())


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings with some of them changed.

    Args:
        settings: to start from.
        changes: name: value; a text is read as ``--set`` reads it.

    Raises:
        AsdError: an unknown name, with those most like it, or a value that the setting refuses, with what it takes.

    >>> changed(Settings(), {"training.epochs": "80"}).training.epochs
    80
    """
    values = settings.model_dump()
    rows = {row.name: row for row in setting_rows(settings)}
    for name, value in changes.items():
        if name not in rows:
            raise AsdError(_unknown(name, list(rows)))
        if isinstance(value, bool) and rows[name].kind != TRUE_OR_FALSE:
            raise AsdError(_expected(rows[name], value))  # YAML's yes and on would be 1.
        *stages, last = name.split(".")
        below = values
        for stage in stages:
            below = below[stage]
        if isinstance(value, str) and isinstance(rows[name].value, tuple):
            value = [part.strip() for part in value.split(",")]
        below[last] = None if value == "" and rows[name].kind.endswith("or empty") else value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise AsdError(_refused(error, rows)) from error


def read_settings(file: Path, settings: Settings = Settings()) -> Settings:
    """The settings with those changed that a YAML file names, nested or dotted::

        recordings:
          channel: mean
        normality.false_alarm_rate: 0.05

    Args:
        file: an empty one changes nothing.
        settings: to start from.

    Raises:
        AsdError: an unreadable file, a name that is unknown or appears twice, or a refused value; naming the file.
    """
    try:
        content = yaml.load(file.read_text(encoding="utf-8-sig"), _EachNameOnce)  # noqa: S506 # nosec B506 # A SafeLoader.
        if content is not None and not isinstance(content, dict):
            raise AsdError("not a mapping of settings; write stage.name: value, for example training.epochs: 80")
        changes: dict[str, Any] = {}
        for name, value in _dotted(content or {}):
            if name in changes:
                raise AsdError(f"{name} appears twice")
            changes[name] = value
        return changed(settings, changes)
    except (OSError, UnicodeDecodeError) as error:
        raise AsdError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    # PyYAML raises a ValueError for a date that does not exist, and a RecursionError for many brackets.
    except (yaml.YAMLError, ValueError) as error:
        raise AsdError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise AsdError(f"{file}: not a mapping of settings; it is nested too deeply") from error
    except AsdError as error:
        raise AsdError(f"{file}: {error}") from error


def write_settings(file: Path, settings: Settings) -> None:
    """Write a file that `read_settings` makes the same settings of.

    It has every setting with its description; those with the default value are commented out.

    Raises:
        AsdError: the file exists.
    """
    if file.exists():
        raise AsdError(f"{file} exists and is not overwritten: choose another name")
    with atomic_write(file, "choose another file") as temporary:
        temporary.write_text(_text(settings), encoding="utf-8")


def _text(settings: Settings) -> str:
    lines = [f"# Settings of asd {__version__}. Settings that are commented out have their defaults."]
    above: list[str] = []
    for row in setting_rows(settings):
        *stages, last = row.name.split(".")
        for depth, stage in enumerate(stages):
            if stages[: depth + 1] != above[: depth + 1]:
                indent = "  " * depth
                lines += ["", *([f"# {_sentence(settings, stage)}"] if not depth else []), f"{indent}{stage}:"]
        above = stages
        indent = "  " * len(stages)
        about = "; ".join(part for part in (row.kind, row.unit) if part)
        lines.append(f"{indent}# {row.description} [{about}]")
        if row.value == row.default:
            lines.append(f"{indent}# {last}: {_yaml(row.value)}")
        else:
            lines.append(f"{indent}{last}: {_yaml(row.value)}  # default: {_yaml(row.default)}")
    return "\n".join(lines) + "\n"


def _sentence(settings: Settings, stage: str) -> str:
    return " ".join((getattr(settings, stage).__doc__ or "").split("\n\n")[0].split())


def _yaml(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    return str(yaml.safe_dump(value, default_flow_style=True, width=10_000)).removesuffix("...\n").strip()


def _dotted(values: Mapping[Hashable, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{prefix}{name}"
        if path not in STAGES:
            yield path, value
        elif isinstance(value, dict):
            yield from _dotted(value, f"{path}.")
        elif value is not None:  # None: a stage of which all is commented out.
            raise AsdError(f"{path} is a stage, and has settings: write {path}.name: value, not {path}: {value!r}")


def _refused(error: ValidationError, rows: Mapping[str, SettingRow]) -> str:
    """What is said of the first value that is refused."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    # Behind the name there may be the part of a list, or of a choice of types.
    name = next((name for name in rows if f"{where}.".startswith(f"{name}.")), "")
    if first["type"] == "value_error":
        return f"{name or where}: {first['ctx']['error']}".removeprefix(": ")
    if not name:
        return f"{where}: {first['msg']}"
    return _expected(rows[name], first["input"])


def _expected(row: SettingRow, given: Any) -> str:
    unit = f" ({row.unit})" if row.unit else ""
    return f"{row.name}: expected {row.kind}{unit}, got {given!r}"


def _unknown(name: str, known: list[str]) -> str:
    """What is said of a setting that does not exist: its nearest neighbours, and the settings of its stage."""
    stage, _, old = name.partition(".")
    if stage in Settings.model_fields:
        renamed = getattr(Settings.model_fields[stage].annotation, "renamed", {})
        if old in renamed:
            return f"{name!r} is called {stage}.{renamed[old]} now"
    # A name that is nearly right, or stands under the wrong stage, or under none.
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.8)
    lasts = difflib.get_close_matches(_last(name), list(dict.fromkeys(map(_last, known))), n=3, cutoff=0.75)
    near += [other for last in lasts for other in known if _last(other) == last and other not in near]
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    stages = dict.fromkeys(other.split(".")[0] for other in known)
    of_stage = [other.removeprefix(f"{stage}.") for other in known if other.startswith(f"{stage}.")]
    rest = f"Settings of {stage}: {', '.join(of_stage)}" if of_stage else f"Stages: {', '.join(stages)}"
    return f"there is no setting {name!r}{hint} {rest}"


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


class _EachNameOnce(yaml.SafeLoader):
    """PyYAML takes the last of two values of one name, and says nothing; and a few references to references make
    a value that fills the memory as soon as it is shown.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            where = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise AsdError(f"line {where.line + 1}: write the value instead of a reference to it (*)")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise AsdError(f"{twice[0]} appears twice, in line {node.start_mark.line + 1} and below")
        return super().construct_mapping(node, deep=deep)
