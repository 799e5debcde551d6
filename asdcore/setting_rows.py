"""The settings as a list for people: name, value, unit, what values it takes, and a sentence."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from asdcore.settings import Settings, StageSettings, Unit

TRUE_OR_FALSE = "true or false"
COMMON = (
    "recordings.sample_rate",
    "recordings.channel",
    "training.encoder",
    "training.loss",
    "training.epochs",
    "training.batch_size",
    "training.device",
    "training.processes",
    "normality.estimator",
    "normality.scorers",
    "normality.false_alarm_rate",
    "gate.margin",
)
"""The settings that people set; all others are for experts."""


class SettingRow(NamedTuple):
    """One setting as it is listed to a person."""

    name: str
    """stage.name, as ``--set`` takes it"""
    value: Any
    default: Any
    unit: str
    kind: str
    """what values it takes, such as ``integer ≥ 8``"""
    description: str
    common: bool


def setting_rows(settings: Settings = Settings()) -> list[SettingRow]:
    """All settings with their values, in the order of the stages.

    >>> [row.name for row in setting_rows() if row.common][:2]
    ['recordings.sample_rate', 'recordings.channel']
    """
    return list(_rows_below(settings, Settings(), ""))


def shown_value(value: Any) -> str:
    """A value as ``--set`` takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)


def _rows_below(stage: StageSettings, default: StageSettings, prefix: str) -> Iterator[SettingRow]:
    for name, field in type(stage).model_fields.items():
        value, usual, path = getattr(stage, name), getattr(default, name), prefix + name
        if isinstance(value, StageSettings):
            yield from _rows_below(value, usual, f"{path}.")
            continue
        unit = next((str(part) for part in field.metadata if isinstance(part, Unit)), "")
        kind = _kind(field.annotation, field.metadata)
        yield SettingRow(path, value, usual, unit, kind, field.description or "", path in COMMON)


_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_WORDS = {int: "integer", float: "number", bool: TRUE_OR_FALSE, str: "name", type(None): "empty"}


def _kind(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """What values a field takes, in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(parts[0], parts[1:])
    limits = [
        f"{sign} {getattr(part, name):g}"
        for part in _flat(metadata)
        for name, sign in _LIMITS.items()
        if getattr(part, name, None) is not None
    ]
    if origin is Literal:
        words = f"one of {', '.join(map(str, parts))}"
    elif origin is tuple:
        words = f"list of {_kind(parts[0])}s" if parts[1:] == (...,) else f"{len(parts)} {_kind(parts[0])}s"
    elif parts:
        # The limits of `int | None` are those of the number.
        first, *others = map(_kind, parts)
        return " or ".join([" ".join([first, *([", ".join(limits)] if limits else [])]), *others])
    else:
        words = _WORDS[annotation]
    return " ".join([words, *([", ".join(limits)] if limits else [])])


def _flat(metadata: Iterable[Any]) -> Iterator[Any]:
    """The constraints of an annotation; those of a `Field` in it are within."""
    for part in metadata:
        yield from part.metadata if isinstance(part, FieldInfo) else (part,)
