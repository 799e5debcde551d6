"""From ``--preset`` and ``--set`` to the settings of a run."""

import difflib
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import typer

from flows.cli.options import PresetOption, SetOption

if TYPE_CHECKING:
    from asdcore.settings import Settings

P = ParamSpec("P")


def with_settings(command: "Callable[Concatenate[Settings, P], None]") -> Callable[..., None]:
    """Give a command the options ``--preset`` and ``--set``, and as its first argument the settings that they make.

    They come before the last option, which is ``--home``.
    """

    @wraps(command)
    def run(preset: str, change: list[str] | None, *args: P.args, **kwargs: P.kwargs) -> None:
        command(settings_of(preset, change), *args, **kwargs)

    options = [
        Parameter("preset", Parameter.POSITIONAL_OR_KEYWORD, default="default", annotation=PresetOption),
        Parameter("change", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=SetOption),
    ]
    _, *others, home = signature(command).parameters.values()
    # Typer reads the options of a command from its signature.
    run.__signature__ = Signature([*others, *options, home])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*others, *options, home)}
    return run


def settings_of(preset: str, changes: list[str] | None) -> "Settings":
    """The settings of a preset with some of them changed.

    Args:
        preset: name of the preset.
        changes: ``stage.name=value`` each.

    Raises:
        typer.BadParameter: an unknown preset or setting, or a value that the setting refuses.
    """
    from pydantic import ValidationError

    from asdcore.settings import PRESETS, Settings

    if preset not in PRESETS:
        raise typer.BadParameter(f"{preset!r} is none of {', '.join(PRESETS)}", param_hint="--preset")
    values = Settings.preset(preset).model_dump()
    for change in changes or []:
        name, equals, value = change.partition("=")
        if not equals:
            raise typer.BadParameter(
                f"{change!r} has no value: write stage.name=value, for example training.epochs=80", param_hint="--set"
            )
        _assign(values, name, value)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        given = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
        raise typer.BadParameter(f"{where}: {first['msg']}{given}", param_hint="--set") from error


def _assign(values: dict[str, Any], name: str, value: str) -> None:
    from asdcore.settings import setting_rows

    known = [row.name for row in setting_rows()]
    if name not in known:
        raise typer.BadParameter(_unknown(name, known), param_hint="--set")
    *stages, last = name.split(".")
    for stage in stages:
        values = values[stage]
    values[last] = value.split(",") if isinstance(values[last], tuple) else value


def _unknown(name: str, known: list[str]) -> str:
    """What is said of a setting that does not exist: its nearest neighbours, and the settings of its stage."""
    from asdcore.settings import Settings

    stage, _, old = name.partition(".")
    if stage in Settings.model_fields:
        renamed = getattr(Settings.model_fields[stage].annotation, "renamed", {})
        if old in renamed:
            return f"{name!r} is called {stage}.{renamed[old]} now"
    near = difflib.get_close_matches(name, known, n=3)
    # The right name under the wrong stage, or under none.
    near += [other for other in known if other.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1] and other not in near]
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    stages = dict.fromkeys(other.split(".")[0] for other in known)
    of_stage = [other.removeprefix(f"{stage}.") for other in known if other.startswith(f"{stage}.")]
    rest = f"Settings of {stage}: {', '.join(of_stage)}" if of_stage else f"Stages: {', '.join(stages)}"
    return f"there is no setting {name!r}{hint} {rest}"
